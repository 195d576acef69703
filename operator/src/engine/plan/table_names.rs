//! Which table names a system may choose. A name outside its own could be the name that another system derives. Pure.

use std::collections::BTreeSet;

use dispatch_api::annotations::ALLOWED_TABLE_NAMES;
use dispatch_api::validate::ValidatedSystem;

/// Names that a system may choose besides its own, see
/// [`owns_table_name`](dispatch_api::names::ResourceNames::owns_table_name).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TableNames {
    /// Any name: the user of the command line has the credentials of the account.
    #[default]
    Any,
    /// These names, as the namespace allows.
    Only(BTreeSet<String>),
}

/// Whether the name of the table must be allowed: the spec sets one that is not the system's own.
fn needs_permission(system: &ValidatedSystem) -> bool {
    system.spec.table.name.as_ref().is_some_and(|name| !system.names.owns_table_name(name))
}

/// Why a system must not create a table of this name; `None` if it may.
pub fn refusal(system: &ValidatedSystem, allowed: &TableNames) -> Option<String> {
    let name = system.spec.table.name.as_ref().filter(|_| needs_permission(system))?;
    let is_allowed = match allowed {
        TableNames::Any => true,
        TableNames::Only(names) => names.contains(name),
    };
    let (prefix, namespace) = (&system.names.prefix, &system.namespace);
    (!is_allowed).then(|| {
        format!(
            "spec.table.name: {name} is not one of this system's own names ({prefix}, or {prefix} followed by a dot or an \
             underscore); action required: choose such a name, or have an administrator add it to the annotation \
             {ALLOWED_TABLE_NAMES} of namespace {namespace}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::system;

    #[test]
    fn a_table_name_outside_the_own_prefix_needs_the_consent_of_the_namespace() {
        let mut system = system();
        let only = |names: &[&str]| TableNames::Only(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(refusal(&system, &only(&[])), None, "the derived name");
        for own in ["coactus-default-seoul", "coactus-default-seoul.v2", "coactus-default-seoul_rides"] {
            system.spec.table.name = Some(own.to_owned());
            assert_eq!(refusal(&system, &only(&[])), None, "{own}");
        }
        for other in ["coactus-team-a-busan", "coactus-default-seoul-leases", "rides"] {
            system.spec.table.name = Some(other.to_owned());
            assert!(refusal(&system, &only(&["another"])).is_some_and(|text| text.contains(other)), "{other}");
            assert_eq!(refusal(&system, &only(&[other])), None, "{other}");
            assert_eq!(refusal(&system, &TableNames::Any), None, "{other}");
        }
    }
}
