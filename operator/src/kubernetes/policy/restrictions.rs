//! What a `DispatchSystem` may ask for: one table of the fields whose values an administrator allows. Pure.
//!
//! For each rule of [`RULES`] the operator has a list, an option. The annotation of a namespace replaces it for the
//! systems of that namespace. The author of a system must be able to write neither. Defaults of the operator, such as
//! the image of the workers, are always allowed, because the author does not choose them.

use dispatch_api::annotations::{
    ALLOWED_HOSTS, ALLOWED_IMAGES, ALLOWED_PRIORITY_CLASSES, ALLOWED_REGIONS, ALLOWED_ROLE_ARNS,
    ALLOWED_SERVICE_ACCOUNT_ANNOTATIONS, ANY_SYSTEM, READABLE_BY,
};
use dispatch_api::conditions::Reason;
use dispatch_api::dispatch_system::DispatchSystemSpec;
use dispatch_api::validate::ValidatedSystem;

use crate::allow_list::AllowList;
use crate::kubernetes::policy::images;
use crate::kubernetes::policy::tenancy::Annotations;

/// Bytes of a value or of a list that a message repeats. A message has about a thousand.
const SHOWN_MAX: usize = 200;

/// What an administrator allows in all namespaces whose annotations do not say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restrictions {
    /// Roles, `spec.aws.roleArn`.
    pub role_arns: AllowList,
    /// Regions, `spec.region`.
    pub regions: AllowList,
    /// Images, `spec.workers.image`.
    pub images: AllowList,
    /// `spec.workers.serviceAccountAnnotations`, as `<key>=<value>` or `<key>=*`.
    pub service_account_annotations: AllowList,
    /// `spec.workers.scheduling.priorityClassName`.
    pub priority_classes: AllowList,
    /// Hosts of `spec.api.ingress` and `spec.api.httpRoute`.
    pub hosts: AllowList,
    /// Which Secrets systems may read.
    pub secrets: SecretAccess,
    /// What happens to a system that asks for more.
    pub mode: RestrictionMode,
}

/// Which Secrets of its namespace a system may read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecretAccess {
    /// Every Secret that its spec names.
    #[default]
    All,
    /// Those whose label names it.
    Labelled,
}

/// What happens to a system that asks for more than is allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestrictionMode {
    /// It is not reconciled.
    #[default]
    Enforce,
    /// It is reconciled; the condition `SpecAllowed` and an event name what is not allowed.
    Warn,
}

/// One value that a spec asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Request {
    /// Path of the field.
    field: &'static str,
    value: String,
    /// The entry that allows it.
    entry: String,
}

impl Request {
    fn new(field: &'static str, value: &str) -> Self {
        Self { field, value: value.to_owned(), entry: value.to_owned() }
    }
}

/// A field whose values an administrator allows.
pub struct Rule {
    /// Annotation of a namespace with its list.
    pub annotation: &'static str,
    /// Flag with the list of the operator.
    pub flag: &'static str,
    /// Path of the field, below `spec`.
    pub field: &'static str,
    /// Reason of the system that is refused.
    pub reason: Reason,
    list: fn(&Restrictions) -> &AllowList,
    requests: fn(&DispatchSystemSpec, &'static str) -> Vec<Request>,
    matches: fn(&str, &str) -> bool,
}

/// Every rule. A field that joins the spec and that its author must not choose freely gets a row here.
pub const RULES: [Rule; 6] = [
    Rule {
        annotation: ALLOWED_ROLE_ARNS,
        flag: "--allowed-role-arns",
        field: "spec.aws.roleArn",
        reason: Reason::RoleNotAllowed,
        list: |lists| &lists.role_arns,
        requests: |spec, field| optional(field, spec.aws.role_arn.as_deref()),
        matches: equal,
    },
    Rule {
        annotation: ALLOWED_REGIONS,
        flag: "--allowed-regions",
        field: "spec.region",
        reason: Reason::NotAllowed,
        list: |lists| &lists.regions,
        requests: |spec, field| optional(field, Some(&spec.region)),
        matches: equal,
    },
    Rule {
        annotation: ALLOWED_IMAGES,
        flag: "--allowed-images",
        field: "spec.workers.image",
        reason: Reason::NotAllowed,
        list: |lists| &lists.images,
        requests: |spec, field| optional(field, spec.workers.image.as_deref()),
        matches: images::allows,
    },
    Rule {
        annotation: ALLOWED_SERVICE_ACCOUNT_ANNOTATIONS,
        flag: "--allowed-service-account-annotations",
        field: "spec.workers.serviceAccountAnnotations",
        reason: Reason::NotAllowed,
        list: |lists| &lists.service_account_annotations,
        requests: annotations_of_the_service_account,
        matches: allows_annotation,
    },
    Rule {
        annotation: ALLOWED_PRIORITY_CLASSES,
        flag: "--allowed-priority-classes",
        field: "spec.workers.scheduling.priorityClassName",
        reason: Reason::NotAllowed,
        list: |lists| &lists.priority_classes,
        requests: |spec, field| optional(field, spec.workers.scheduling.priority_class_name.as_deref()),
        matches: equal,
    },
    Rule {
        annotation: ALLOWED_HOSTS,
        flag: "--allowed-hosts",
        field: "hosts of spec.api",
        reason: Reason::NotAllowed,
        list: |lists| &lists.hosts,
        requests: hosts,
        matches: allows_host,
    },
];

/// Why a system is not reconciled, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Reason of the conditions.
    pub reason: Reason,
    /// Message of the conditions: each field with its value, and the annotation that would allow it.
    pub message: String,
}

/// What two denials say.
pub fn both(one: Option<Denial>, other: Option<Denial>) -> Option<Denial> {
    match (one, other) {
        (Some(one), Some(other)) => Some(Denial { message: format!("{}; {}", one.message, other.message), ..one }),
        (one, other) => one.or(other),
    }
}

/// What the spec asks for and neither its namespace nor the operator allows; `None` if all of it is allowed.
/// `namespace` is `None` if the operator must not read it: then its lists are unknown, and nothing is allowed.
pub fn denial(
    system: &ValidatedSystem,
    namespace: Option<&Annotations>,
    restrictions: &Restrictions,
) -> Option<Denial> {
    denial_by(RULES.iter(), system, namespace, restrictions)
}

/// The same for the role alone, which is all that a deletion needs.
pub fn role_denial(
    system: &ValidatedSystem,
    namespace: Option<&Annotations>,
    restrictions: &Restrictions,
) -> Option<Denial> {
    system.spec.aws.role_arn.as_ref()?;
    let of_roles = RULES.iter().filter(|rule| rule.reason == Reason::RoleNotAllowed);
    denial_by(of_roles, system, namespace, restrictions)
}

fn denial_by<'a>(
    rules: impl Iterator<Item = &'a Rule>,
    system: &ValidatedSystem,
    namespace: Option<&Annotations>,
    restrictions: &Restrictions,
) -> Option<Denial> {
    let place = &system.namespace;
    let Some(annotations) = namespace else {
        let message = format!(
            "the annotations of namespace {place}, which limit what a spec may ask for, cannot be read; action \
             required: grant the operator `get` on namespaces"
        );
        return Some(Denial { reason: Reason::NotAllowed, message });
    };
    let mut refused: Option<Denial> = None;
    for rule in rules {
        let own = annotations.get(rule.annotation).map(|text| AllowList::parse(text));
        let list = own.as_ref().unwrap_or_else(|| (rule.list)(restrictions));
        for request in (rule.requests)(&system.spec, rule.field) {
            if !list.allows(&request.value, rule.matches) {
                let message = message(rule, &request, (place, own.is_some(), list));
                refused = both(refused, Some(Denial { reason: rule.reason, message }));
            }
        }
    }
    refused
}

/// The denial of Secrets that exist and that the system may not read; `None` if there are none.
pub fn secrets_denial(system: &ValidatedSystem, refused: &[(&'static str, String)]) -> Option<Denial> {
    let (name, place) = (&system.name, &system.namespace);
    let one = |(field, secret): &(&'static str, String)| {
        format!(
            "{field}: system {name} may not read Secret {secret}, whose label {READABLE_BY} does not name it; action \
             required: name another Secret, or have an administrator run: kubectl label secret {secret} --namespace \
             {place} --overwrite {READABLE_BY}={name} (or {ANY_SYSTEM})"
        )
    };
    let messages: Vec<String> = refused.iter().map(one).collect();
    let message = messages.join("; ");
    (!messages.is_empty()).then_some(Denial { reason: Reason::NotAllowed, message })
}

fn message(rule: &Rule, request: &Request, of: (&str, bool, &AllowList)) -> String {
    let (place, is_own, list) = of;
    let Rule { annotation, flag, field, .. } = rule;
    let (value, allowed) = (bounded(&request.value), bounded(&list.to_string()));
    let entry = &request.entry;
    let (why, wanted) = match (is_own, list) {
        (_, AllowList::Only(entries)) if !entries.is_empty() => (allowed, format!("{list},{entry}")),
        _ => ("none".to_owned(), entry.clone()),
    };
    let source = if is_own {
        format!("the annotation {annotation} of namespace {place} allows {why}")
    } else {
        format!("namespace {place} has no annotation {annotation}, and {flag} of the operator allows {why}")
    };
    let advice = if wanted.len() <= SHOWN_MAX {
        format!("run: kubectl annotate namespace {place} --overwrite '{annotation}={wanted}'")
    } else {
        format!("add {} to the annotation {annotation} of namespace {place}, after what is allowed now", bounded(entry))
    };
    format!(
        "{field}: {value} is not allowed: {source}; action required: change the spec, or have an administrator {advice}"
    )
}

/// A text as a message shows it.
fn bounded(text: &str) -> String {
    let shown = crate::sanitize::shown(text);
    if shown.len() <= SHOWN_MAX {
        return shown;
    }
    let fits = shown.char_indices().map(|(at, _)| at).take_while(|at| *at <= SHOWN_MAX).last().unwrap_or(0);
    format!("{}…", shown.get(..fits).unwrap_or_default())
}

fn optional(field: &'static str, value: Option<&str>) -> Vec<Request> {
    value.map(|value| Request::new(field, value)).into_iter().collect()
}

fn equal(entry: &str, value: &str) -> bool {
    entry == value
}

fn annotations_of_the_service_account(spec: &DispatchSystemSpec, field: &'static str) -> Vec<Request> {
    let all = spec.workers.service_account_annotations.iter();
    let request = |(key, value): (&String, &String)| {
        let pair = format!("{key}={value}");
        // A list cannot have a comma in an entry, nor a command a quote or a line break.
        let is_plain = pair.chars().all(|c| c.is_ascii_graphic() && c != ',' && c != '\'');
        let entry = if is_plain { pair.clone() } else { format!("{key}=*") };
        Request { field, value: pair, entry }
    };
    all.map(request).collect()
}

fn hosts(spec: &DispatchSystemSpec, field: &'static str) -> Vec<Request> {
    let of_ingress = spec.api.ingress.iter().map(|ingress| &ingress.host);
    let of_route = spec.api.http_route.iter().flat_map(|route| &route.hosts);
    of_ingress.chain(of_route).map(|host| Request::new(field, host)).collect()
}

/// `*.example.com` allows every host below `example.com`.
fn allows_host(entry: &str, host: &str) -> bool {
    let below = entry.strip_prefix('*').filter(|domain| domain.starts_with('.') && domain.len() > 1);
    entry == host || below.is_some_and(|domain| host.len() > domain.len() && host.ends_with(domain))
}

/// `<key>=<value>` allows that pair, `<key>=*` every value of the key. A key alone allows nothing.
fn allows_annotation(entry: &str, pair: &str) -> bool {
    let any_value = entry.strip_suffix('*').filter(|key| key.ends_with('=') && key.matches('=').count() == 1);
    entry == pair || any_value.is_some_and(|key| pair.starts_with(key))
}

#[cfg(test)]
mod tests {
    use dispatch_api::manifest::read_manifests;

    use super::*;
    use crate::testing::MANIFEST;

    const ROLE: &str = "arn:aws:iam::111122223333:role/coactus-city";

    fn system(fields: &str) -> ValidatedSystem {
        let raw = read_manifests(&format!("{MANIFEST}{fields}")).expect("a manifest");
        ValidatedSystem::try_from_raw(&raw[0]).expect("a valid system")
    }

    /// A system that asks for a value of every rule.
    fn greedy() -> ValidatedSystem {
        system(&format!(
            "  aws: {{ roleArn: \"{ROLE}\" }}\n  workers:\n    image: docker.io/evil/x:1\n    \
             serviceAccountAnnotations: {{ eks.amazonaws.com/role-arn: {ROLE} }}\n    scheduling: {{ \
             priorityClassName: system-cluster-critical }}\n    layout: Combined\n  api: {{ ingress: {{ host: \
             bank.example.com }} }}\n"
        ))
    }

    fn annotations(pairs: &[(&str, &str)]) -> Annotations {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn none_allowed() -> Restrictions {
        let none = || AllowList::parse("None");
        Restrictions {
            role_arns: none(),
            regions: none(),
            images: none(),
            service_account_annotations: none(),
            priority_classes: none(),
            hosts: none(),
            ..Restrictions::default()
        }
    }

    /// The fields that are refused.
    fn refused(system: &ValidatedSystem, namespace: &[(&str, &str)], restrictions: &Restrictions) -> Vec<&'static str> {
        let message = denial(system, Some(&annotations(namespace)), restrictions).map(|denial| denial.message);
        let message = message.unwrap_or_default();
        RULES.iter().map(|rule| rule.field).filter(|field| message.contains(&format!("{field}: "))).collect()
    }

    #[test]
    fn every_rule_refuses_what_no_list_allows_and_names_field_value_and_remedy() {
        assert_eq!(denial(&greedy(), Some(&Annotations::new()), &Restrictions::default()), None, "no lists");
        let all: Vec<&str> = RULES.iter().map(|rule| rule.field).collect();
        assert_eq!(refused(&greedy(), &[], &none_allowed()), all);
        for rule in &RULES {
            let request = (rule.requests)(&greedy().spec, rule.field).remove(0);
            let only = |list: &str| [(rule.annotation, list.to_owned())];
            for list in ["", "None", "another", "any", "*"] {
                let namespace = only(list).map(|(name, list)| (name.to_owned(), list)).into();
                let given = denial(&greedy(), Some(&namespace), &Restrictions::default()).expect(rule.field);
                assert_eq!(given.reason, rule.reason, "{}", rule.field);
                assert!(given.message.starts_with(&format!("{}: {} is not allowed", rule.field, request.value)));
                assert!(given.message.contains("change the spec, or have an administrator run: kubectl annotate"));
            }
            for list in [request.entry.clone(), format!("another, {}", request.entry), "Any".to_owned()] {
                let namespace = only(&list).map(|(name, list)| (name.to_owned(), list)).into();
                assert_eq!(denial(&greedy(), Some(&namespace), &Restrictions::default()), None, "{list}");
            }
        }
    }

    /// The command of a message allows what the message refuses, and everything that was allowed before.
    #[test]
    fn the_command_in_a_message_allows_the_value_and_keeps_the_list() {
        for before in ["None", "first,second"] {
            let mut restrictions = none_allowed();
            restrictions.images = AllowList::parse(before);
            for rule in &RULES {
                let message = denial(&greedy(), Some(&Annotations::new()), &restrictions).expect("refused").message;
                let command = message.split(&format!("'{}=", rule.annotation)).nth(1).expect(rule.flag);
                let list = command.split('\'').next().unwrap_or_default();
                let allowed = refused(&greedy(), &[(rule.annotation, list)], &restrictions);
                assert!(!allowed.contains(&rule.field), "{}: {list}", rule.field);
                if rule.annotation == ALLOWED_IMAGES && before != "None" {
                    assert!(list.starts_with("first,second,"), "{list}");
                }
            }
        }
    }

    #[test]
    fn the_list_of_a_namespace_replaces_that_of_the_operator() {
        let system = system("  workers: { image: registry.example/team/x:1 }\n");
        let with = |list: &str| Restrictions { images: AllowList::parse(list), ..Restrictions::default() };
        assert_eq!(refused(&system, &[], &with("registry.example/team")), [""; 0]);
        assert_eq!(refused(&system, &[], &with("registry.example/other")), ["spec.workers.image"]);
        let own = [(ALLOWED_IMAGES, "registry.example/team")];
        assert_eq!(refused(&system, &own, &with("None")), [""; 0], "a namespace allows more");
        for fewer in ["registry.example/other", "", "None"] {
            assert_eq!(refused(&system, &[(ALLOWED_IMAGES, fewer)], &with("Any")), ["spec.workers.image"], "{fewer:?}");
        }
        assert_eq!(refused(&system, &own, &none_allowed()), ["spec.region"], "each rule has its own list");
    }

    #[test]
    fn what_the_author_does_not_choose_needs_no_leave() {
        let restrictions = Restrictions { regions: AllowList::Any, ..none_allowed() };
        assert_eq!(denial(&system(""), Some(&Annotations::new()), &restrictions), None);
    }

    #[test]
    fn a_namespace_that_cannot_be_read_allows_nothing() {
        let given = denial(&system(""), None, &Restrictions::default()).expect("refused");
        assert_eq!(given.reason, Reason::NotAllowed);
        assert!(given.message.contains("namespace default") && given.message.contains("`get` on namespaces"));
    }

    #[test]
    fn a_deletion_asks_for_its_role_alone() {
        let given = role_denial(&greedy(), Some(&Annotations::new()), &none_allowed()).expect("refused");
        assert!(given.message.starts_with("spec.aws.roleArn: ") && !given.message.contains("spec.workers"));
        assert_eq!(role_denial(&system(""), None, &none_allowed()), None, "it names no role");
        assert!(role_denial(&greedy(), None, &Restrictions::default()).is_some(), "the namespace cannot be read");
    }

    #[test]
    fn an_annotation_of_the_service_account_is_allowed_by_its_pair_or_its_key() {
        let pair = "eks.amazonaws.com/role-arn=arn:aws:iam::111122223333:role/a";
        for entry in [pair, "eks.amazonaws.com/role-arn=*"] {
            assert!(allows_annotation(entry, pair), "{entry}");
        }
        for entry in [
            "eks.amazonaws.com/role-arn",
            "eks.amazonaws.com/role-arn=",
            "eks.amazonaws.com/role-arn=arn:aws:iam::111122223333:role/*",
            "eks.amazonaws.com/role=*",
            "eks.amazonaws.com/*",
            "*",
            "=*",
            "",
        ] {
            assert!(!allows_annotation(entry, pair), "{entry}");
        }
        assert!(!allows_annotation("a=*", "a-b=c") && !allows_annotation("a=*", "ab=c"));
    }

    #[test]
    fn values_in_messages_are_bounded_and_steer_no_terminal() {
        let long = "x".repeat(5000);
        let system = system(&format!(
            "  workers:\n    serviceAccountAnnotations: {{ a: \"\\e[2Ja,b\", b: \"{long}\", c: \"it's\" }}\n"
        ));
        let given = denial(&system, Some(&Annotations::new()), &none_allowed()).expect("refused").message;
        assert!(!given.contains('\u{1b}') && !given.contains(&long[..300]), "{given}");
        assert!(given.contains("a=*'") && given.contains("c=*'"), "{given}");
        let longer = (0..500).map(|number| format!("team-{number}")).collect::<Vec<_>>().join(",");
        let system = self::system("  workers: { image: x }\n");
        let listed = denial(&system, Some(&annotations(&[(ALLOWED_IMAGES, &longer)])), &Restrictions::default());
        let message = listed.expect("refused").message;
        assert!(message.len() < 1000 && message.contains("after what is allowed now"), "{message}");
    }

    #[test]
    fn secrets_are_refused_by_field_and_name_with_the_label_that_allows_them() {
        let system = system("");
        assert_eq!(secrets_denial(&system, &[]), None);
        let given = secrets_denial(&system, &[("spec.cache.authSecretRef", "prod-db".to_owned())]).expect("refused");
        assert!(given.message.starts_with("spec.cache.authSecretRef: system seoul may not read Secret prod-db"));
        assert!(given.message.contains(
            "kubectl label secret prod-db --namespace default --overwrite dispatch.coactus.io/readable-by=seoul"
        ));
    }
}
