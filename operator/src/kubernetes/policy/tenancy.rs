//! What a namespace sets for its systems: the roles they may use, and the deletion policy where a spec sets none. Pure.

use std::collections::BTreeMap;

use dispatch_api::annotations::{ALLOWED_ROLE_ARNS, NAMESPACE_DELETION_POLICY};
use dispatch_api::dispatch_system::{DeletionPolicy, DispatchSystemStatus};
use dispatch_api::validate::{PolicySource, ValidatedSystem};

/// Whether a namespace must list the roles that its systems use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RoleAllowList {
    /// A system may name any role; the trust policies of the roles decide.
    #[default]
    NotRequired,
    /// A system may name only roles that the annotation of its namespace lists.
    Required,
}

/// Defaults from the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    /// Deletion policy where neither the spec nor the namespace sets one.
    pub deletion_policy: Option<DeletionPolicy>,
    /// Whether namespaces must list the allowed roles.
    pub role_allow_list: RoleAllowList,
}

/// Annotations of a namespace.
pub type Annotations = BTreeMap<String, String>;

/// Whether the namespace must be read for a system.
pub fn has_a_say(system: &ValidatedSystem, defaults: Defaults) -> bool {
    let role = defaults.role_allow_list == RoleAllowList::Required && system.spec.aws.role_arn.is_some();
    system.spec.deletion_policy.is_none() || role
}

/// Resolves the deletion policy: spec, then namespace, then command line, then `Retain`. An annotation with any other
/// value than `Delete` retains the data.
pub fn settle_policy(system: &mut ValidatedSystem, namespace: Option<&Annotations>, defaults: Defaults) {
    if system.spec.deletion_policy.is_some() {
        return;
    }
    let said = namespace.and_then(|annotations| annotations.get(NAMESPACE_DELETION_POLICY));
    (system.deletion_policy, system.deletion_policy_from) = match (said.map(String::as_str), defaults.deletion_policy) {
        (Some("Delete"), _) => (DeletionPolicy::Delete, PolicySource::Namespace),
        (Some(_), _) => (DeletionPolicy::Retain, PolicySource::Namespace),
        (None, Some(policy)) => (policy, PolicySource::Operator),
        (None, None) => (DeletionPolicy::Retain, PolicySource::Default),
    };
}

/// Resolves the deletion policy of a system that is being deleted: the spec or, if it sets none, the policy that the
/// status showed before, so that a change of the namespace or the command line in the meantime deletes no data. A value
/// in the spec that cannot be parsed retains the data.
pub fn settle_policy_at_the_end(
    system: &mut ValidatedSystem,
    spec_has_a_word: bool,
    shown: Option<&DispatchSystemStatus>,
) {
    if system.spec.deletion_policy.is_none() {
        let shown = shown.and_then(|status| status.deletion_policy).filter(|_| !spec_has_a_word);
        system.deletion_policy = shown.unwrap_or(DeletionPolicy::Retain);
    }
}

/// Why a system may not use the role it names; `None` if it may. A system that names no role uses the operator's own
/// identity.
pub fn role_refusal(system: &ValidatedSystem, namespace: Option<&Annotations>, defaults: Defaults) -> Option<String> {
    let role = system.spec.aws.role_arn.as_ref().filter(|_| defaults.role_allow_list == RoleAllowList::Required)?;
    let place = &system.namespace;
    let Some(annotations) = namespace else {
        return Some(format!(
            "spec.aws.roleArn: {role} is not allowed: the operator lacks the permission to read namespace {place}, \
             whose annotation {ALLOWED_ROLE_ARNS} must list the role; action required: grant the operator `get` on \
             namespaces"
        ));
    };
    let allowed = annotations.get(ALLOWED_ROLE_ARNS).map(String::as_str).unwrap_or_default();
    let listed = allowed.split(',').any(|arn| arn.trim() == role);
    (!listed).then(|| {
        format!(
            "spec.aws.roleArn: {role} is not allowed: the annotation {ALLOWED_ROLE_ARNS} of namespace {place} does not \
             list it; no AWS call was made; action required: add the role to the annotation or change the spec"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::DeletionPolicy::{Delete, Retain};

    use super::*;
    use crate::testing::system;

    const ROLE: &str = "arn:aws:iam::111122223333:role/coactus-city";

    fn annotations(pairs: &[(&str, &str)]) -> Annotations {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn settled(
        spec: Option<DeletionPolicy>,
        namespace: Option<&str>,
        flag: Option<DeletionPolicy>,
    ) -> (DeletionPolicy, PolicySource) {
        let mut system = system();
        (system.spec.deletion_policy, system.deletion_policy) = (spec, spec.unwrap_or_default());
        system.deletion_policy_from = spec.map_or(PolicySource::Default, |_| PolicySource::Spec);
        let said: Vec<_> = namespace.into_iter().map(|value| (NAMESPACE_DELETION_POLICY, value)).collect();
        let defaults = Defaults { deletion_policy: flag, ..Defaults::default() };
        settle_policy(&mut system, Some(&annotations(&said)), defaults);
        (system.deletion_policy, system.deletion_policy_from)
    }

    #[test]
    fn the_spec_takes_precedence_over_the_namespace_and_that_over_the_flag() {
        assert_eq!(settled(Some(Retain), Some("Delete"), Some(Delete)), (Retain, PolicySource::Spec));
        assert_eq!(settled(Some(Delete), Some("Retain"), None), (Delete, PolicySource::Spec));
        assert_eq!(settled(None, Some("Delete"), Some(Retain)), (Delete, PolicySource::Namespace));
        assert_eq!(
            settled(None, Some("delete?"), Some(Delete)),
            (Retain, PolicySource::Namespace),
            "a typing error retains the data"
        );
        assert_eq!(settled(None, None, Some(Delete)), (Delete, PolicySource::Operator));
        assert_eq!(settled(None, None, None), (Retain, PolicySource::Default));
    }

    #[test]
    fn a_deletion_follows_the_policy_the_status_showed_before() {
        let end = |spec: Option<DeletionPolicy>, word: bool, shown: Option<DeletionPolicy>| {
            let mut system = system();
            (system.spec.deletion_policy, system.deletion_policy) = (spec, spec.unwrap_or_default());
            let status = DispatchSystemStatus { deletion_policy: shown, ..DispatchSystemStatus::default() };
            settle_policy_at_the_end(&mut system, word, Some(&status));
            system.deletion_policy
        };
        assert_eq!(end(None, false, Some(Delete)), Delete);
        assert_eq!(end(None, false, None), Retain, "the status showed no policy");
        assert_eq!(end(Some(Retain), true, Some(Delete)), Retain);
        assert_eq!(end(None, true, Some(Delete)), Retain, "a value that cannot be parsed retains the data");
    }

    #[test]
    fn with_an_allow_list_a_role_is_used_only_where_the_namespace_lists_it() {
        let mut system = system();
        let required = Defaults { role_allow_list: RoleAllowList::Required, ..Defaults::default() };
        assert_eq!(role_refusal(&system, None, required), None, "no role is named");
        system.spec.aws.role_arn = Some(ROLE.to_owned());
        assert_eq!(role_refusal(&system, None, Defaults::default()), None, "no list is required");
        let list = |value: &str| annotations(&[(ALLOWED_ROLE_ARNS, value)]);
        assert_eq!(role_refusal(&system, Some(&list(&format!("arn:other, {ROLE}"))), required), None);
        for not in [Some(list("arn:other")), Some(list("")), Some(list("*")), Some(Annotations::new()), None] {
            assert!(role_refusal(&system, not.as_ref(), required).is_some(), "{not:?}");
        }
    }

    #[test]
    fn a_namespace_is_read_only_where_it_matters() {
        let mut system = system();
        assert!(has_a_say(&system, Defaults::default()));
        system.spec.deletion_policy = Some(DeletionPolicy::Retain);
        assert!(!has_a_say(&system, Defaults::default()));
        let required = Defaults { role_allow_list: RoleAllowList::Required, ..Defaults::default() };
        assert!(!has_a_say(&system, required));
        system.spec.aws.role_arn = Some(ROLE.to_owned());
        assert!(has_a_say(&system, required));
    }
}
