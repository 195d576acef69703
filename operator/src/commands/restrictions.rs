//! Options of `run` that limit what a `DispatchSystem` may ask for.

use clap::{Args, ValueEnum};

use crate::allow_list::AllowList;
use crate::kubernetes::ExternalIdSource;
use crate::kubernetes::policy::images;
use crate::kubernetes::policy::restrictions::{RestrictionMode, Restrictions, SecretAccess};

/// What specs may ask for. Each list is `Any`, `None` (or empty), or entries separated by commas, and counts in the
/// namespaces that do not have the annotation of that name. Of a repeated option the last one counts, so that it can be
/// added to those of a manifest.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "What specs may ask for")]
pub struct RestrictionArgs {
    /// Roles that `spec.aws.roleArn` may name: Any, None, or ARNs separated by commas. The annotation
    /// dispatch.coactus.io/allowed-role-arns of a namespace replaces the list.
    #[arg(long, value_name = "LIST", default_value = "Any", overrides_with = "allowed_role_arns")]
    allowed_role_arns: AllowList,
    /// The same as `--allowed-role-arns=None`.
    #[arg(long, env = "DISPATCH_REQUIRE_ROLE_ALLOW_LIST")]
    require_role_allow_list: bool,
    /// Regions that `spec.region` may name: Any, None, or names separated by commas. The annotation
    /// dispatch.coactus.io/allowed-regions of a namespace replaces the list.
    #[arg(long, value_name = "LIST", default_value = "Any", overrides_with = "allowed_regions")]
    allowed_regions: AllowList,
    /// Images that `spec.workers.image` may name: Any, None, or a list of digests (sha256:…), registries with or
    /// without a path (registry.example.com/team), and complete references. `--runtime-image` is always allowed. The
    /// annotation dispatch.coactus.io/allowed-images of a namespace replaces the list.
    #[arg(
        long,
        value_name = "LIST",
        default_value = "Any",
        value_parser = images_list,
        overrides_with = "allowed_images"
    )]
    allowed_images: AllowList,
    /// Annotations that `spec.workers.serviceAccountAnnotations` may set: Any, None, or a list of KEY=VALUE, and KEY=*
    /// for any value. The annotation dispatch.coactus.io/allowed-service-account-annotations of a namespace replaces
    /// the list.
    #[arg(long, value_name = "LIST", default_value = "Any", overrides_with = "allowed_service_account_annotations")]
    allowed_service_account_annotations: AllowList,
    /// Priority classes that `spec.workers.scheduling.priorityClassName` may name: Any, None, or names separated by
    /// commas. The annotation dispatch.coactus.io/allowed-priority-classes of a namespace replaces the list.
    #[arg(long, value_name = "LIST", default_value = "Any", overrides_with = "allowed_priority_classes")]
    allowed_priority_classes: AllowList,
    /// Hosts that `spec.api.ingress` and `spec.api.httpRoute` may name: Any, None, or names separated by commas;
    /// *.example.com allows every host below example.com. The annotation dispatch.coactus.io/allowed-hosts of a
    /// namespace replaces the list.
    #[arg(long, value_name = "LIST", default_value = "Any", overrides_with = "allowed_hosts")]
    allowed_hosts: AllowList,
    /// Read only Secrets with the label dispatch.coactus.io/readable-by, whose value is the name of the system or
    /// `AnySystem`.
    #[arg(long)]
    require_secret_label: bool,
    /// Who chooses the external ID that the operator sends when it assumes a role.
    #[arg(long, value_name = "WHO", value_enum, default_value = "Spec", overrides_with = "external_ids")]
    external_ids: ExternalIdChoice,
    /// Id of this cluster in derived external IDs, 2 to 64 letters, digits, dots, dashes and underscores. Default: the
    /// UID of the namespace kube-system.
    #[arg(long, value_name = "ID", value_parser = cluster_id, overrides_with = "cluster_id")]
    cluster_id: Option<String>,
    /// What happens to a system that asks for more than is allowed.
    #[arg(long, value_name = "MODE", value_enum, default_value = "Enforce", overrides_with = "restrictions")]
    restrictions: ModeChoice,
}

/// Who chooses external IDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
enum ExternalIdChoice {
    /// The spec, `spec.aws.externalId`.
    Spec,
    /// The operator: `coactus:<cluster id>:<namespace>`. A system that used another one before keeps it.
    Derived,
}

/// What happens to a system that asks for more than is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
enum ModeChoice {
    /// It is not reconciled. What exists stays as it is, and its deletion works.
    Enforce,
    /// It is reconciled. The condition `SpecAllowed` and an event say what is not allowed.
    Warn,
}

impl RestrictionArgs {
    /// The lists of the operator.
    pub fn restrictions(&self) -> Restrictions {
        let only_listed_roles = self.require_role_allow_list && self.allowed_role_arns == AllowList::Any;
        Restrictions {
            role_arns: if only_listed_roles { AllowList::Only(Vec::new()) } else { self.allowed_role_arns.clone() },
            regions: self.allowed_regions.clone(),
            images: self.allowed_images.clone(),
            service_account_annotations: self.allowed_service_account_annotations.clone(),
            priority_classes: self.allowed_priority_classes.clone(),
            hosts: self.allowed_hosts.clone(),
            secrets: if self.require_secret_label { SecretAccess::Labelled } else { SecretAccess::All },
            mode: match self.restrictions {
                ModeChoice::Enforce => RestrictionMode::Enforce,
                ModeChoice::Warn => RestrictionMode::Warn,
            },
        }
    }

    /// Who chooses external IDs.
    pub fn external_ids(&self) -> ExternalIdSource {
        match self.external_ids {
            ExternalIdChoice::Spec => ExternalIdSource::Spec,
            ExternalIdChoice::Derived => ExternalIdSource::Derived(self.cluster_id.clone()),
        }
    }
}

/// Refuses entries that allow no image, which are mistakes.
fn images_list(text: &str) -> Result<AllowList, String> {
    let list = AllowList::parse(text);
    let mistake = match &list {
        AllowList::Any => None,
        AllowList::Only(entries) => entries.iter().find(|entry| !images::is_entry(entry)),
    };
    match mistake {
        Some(entry) => Err(format!(
            "{entry} allows no image: expected Any, None, or a list of sha256:…, registry.example.com/path and \
             complete references"
        )),
        None => Ok(list),
    }
}

/// An external ID has more characters; a separator within the id would make it ambiguous.
fn cluster_id(text: &str) -> Result<String, &'static str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if (2..=64).contains(&text.len()) && text.chars().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err("expected 2 to 64 letters, digits, dots, dashes and underscores")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: RestrictionArgs,
    }

    fn read(args: &[&str]) -> Result<RestrictionArgs, clap::Error> {
        Line::try_parse_from(std::iter::once(&"run").chain(args)).map(|line| line.args)
    }

    #[test]
    fn without_options_a_spec_may_ask_for_anything() {
        let args = read(&[]).unwrap();
        assert_eq!((args.restrictions(), args.external_ids()), (Restrictions::default(), ExternalIdSource::Spec));
    }

    #[test]
    fn an_empty_list_allows_nothing_and_the_last_of_a_repeated_option_counts() {
        let none = AllowList::Only(Vec::new());
        for text in ["--allowed-images=", "--allowed-images=None"] {
            assert_eq!(read(&[text]).unwrap().restrictions().images, none, "{text}");
        }
        let repeated = read(&["--allowed-images=None", "--allowed-images=registry.example", "--restrictions=Warn"]);
        let given = repeated.unwrap().restrictions();
        assert_eq!(given.images, AllowList::parse("registry.example"));
        assert_eq!(given.mode, RestrictionMode::Warn);
        let twice = read(&["--external-ids=Derived", "--cluster-id=a1", "--external-ids=Derived", "--cluster-id=b2"]);
        assert_eq!(twice.unwrap().external_ids(), ExternalIdSource::Derived(Some("b2".to_owned())));
    }

    #[test]
    fn the_former_flag_for_roles_allows_those_of_namespaces_only() {
        assert_eq!(read(&["--require-role-allow-list"]).unwrap().restrictions().role_arns, AllowList::Only(Vec::new()));
        let listed = read(&["--require-role-allow-list", "--allowed-role-arns=arn:a"]).unwrap().restrictions();
        assert_eq!(listed.role_arns, AllowList::parse("arn:a"));
    }

    #[test]
    fn mistakes_are_refused_at_the_start() {
        for mistake in [
            "--allowed-images=*",
            "--allowed-images=registry.example,team/*",
            "--cluster-id=a:b",
            "--cluster-id=",
            "--restrictions=warn",
            "--external-ids=derived",
        ] {
            assert!(read(&[mistake]).is_err(), "{mistake}");
        }
    }
}
