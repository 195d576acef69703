//! With which identity the operator manages a system in AWS: the external ID of the role, and the role of a deletion.
//! Pure.
//!
//! The deputy chooses the external ID (IAM user guide, "The confused deputy problem"): a tenant that names the role of
//! another one does not get its external ID. A system that used another one before keeps it, because the trust policy
//! of its role requires it.

use dispatch_api::conditions::{ConditionStatus, ConditionType, Reason};
use dispatch_api::dispatch_system::{AccessStatus, DispatchSystemStatus};
use dispatch_api::validate::ValidatedSystem;

use crate::kubernetes::policy::restrictions::Denial;

/// Who chooses the external ID of a role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ExternalIds {
    /// The spec, `spec.aws.externalId`.
    #[default]
    Spec,
    /// The operator derives it from the cluster and the namespace.
    Derived {
        /// Id of the cluster: letters, digits and `_ + = , . @ : / -`, unique among the clusters that assume the same
        /// roles.
        cluster: String,
    },
}

impl ExternalIds {
    /// The external ID of the systems of a namespace; `None` if their specs choose it.
    pub fn derived(&self, namespace: &str) -> Option<String> {
        match self {
            Self::Spec => None,
            Self::Derived { cluster } => Some(format!("coactus:{cluster}:{namespace}")),
        }
    }
}

/// The identity of the spec.
pub fn of_spec(system: &ValidatedSystem) -> AccessStatus {
    let aws = &system.spec.aws;
    AccessStatus {
        assumes_role: aws.role_arn.is_some(),
        role_arn: aws.role_arn.clone(),
        external_id: aws.external_id.clone(),
    }
}

/// The identity with which the stack was last managed; `None` if there is no stack or no record.
///
/// The status of an earlier version has no record. Then it is the identity of the spec, if AWS has accepted it for
/// `generation`, the one that the spec has now.
pub fn recorded(
    status: Option<&DispatchSystemStatus>,
    system: &ValidatedSystem,
    generation: i64,
) -> Option<AccessStatus> {
    let status = status.filter(|status| status.stack_arn.is_some())?;
    if let Some(access) = &status.access {
        return Some(access.clone());
    }
    let accepted = status.conditions.iter().any(|condition| {
        condition.type_ == ConditionType::CredentialsValid
            && condition.status == ConditionStatus::True
            && condition.observed_generation == Some(generation)
    });
    accepted.then(|| of_spec(system))
}

/// Sets the external ID that the operator sends. `before` is the recorded identity. Returns why the spec must not
/// choose another one.
pub fn settle_external_id(
    system: &mut ValidatedSystem,
    before: Option<&AccessStatus>,
    ids: &ExternalIds,
) -> Option<Denial> {
    let derived = ids.derived(&system.namespace)?;
    if system.spec.aws.role_arn.is_none() || before == Some(&of_spec(system)) {
        return None;
    }
    match &system.spec.aws.external_id {
        Some(chosen) if *chosen != derived => {
            let message = format!(
                "spec.aws.externalId: {chosen} is not allowed: the operator sets the external ID of the systems of \
                 this namespace to {derived}; action required: remove the field, and have the trust policy of the role \
                 require {derived}"
            );
            Some(Denial { reason: Reason::RoleNotAllowed, message })
        }
        _ => {
            system.spec.aws.external_id = Some(derived);
            None
        }
    }
}

/// The identity of a deletion: that of the spec if it is allowed, else the recorded one, with which the operator made
/// or last managed the stack. `denial` says why the spec's is not allowed; it is returned if there is no record.
pub fn settle_for_deletion(
    system: &mut ValidatedSystem,
    before: Option<AccessStatus>,
    denial: Option<Denial>,
) -> Option<Denial> {
    let denial = denial?;
    let Some(before) = before else { return Some(denial) };
    let aws = &mut system.spec.aws;
    (aws.role_arn, aws.external_id) = (before.role_arn, before.external_id);
    None
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

    use super::*;
    use crate::testing::system;

    const ROLE: &str = "arn:aws:iam::111122223333:role/coactus-city";
    const DERIVED: &str = "coactus:c1:default";

    fn derive() -> ExternalIds {
        ExternalIds::Derived { cluster: "c1".to_owned() }
    }

    fn asking(role: Option<&str>, id: Option<&str>) -> ValidatedSystem {
        let mut system = system();
        system.spec.aws.role_arn = role.map(str::to_owned);
        system.spec.aws.external_id = id.map(str::to_owned);
        system
    }

    fn access(role: Option<&str>, id: Option<&str>) -> AccessStatus {
        let (role_arn, external_id) = (role.map(str::to_owned), id.map(str::to_owned));
        AccessStatus { assumes_role: role.is_some(), role_arn, external_id }
    }

    /// The external ID that is sent, or `refused`.
    fn sent(role: Option<&str>, id: Option<&str>, before: Option<&AccessStatus>) -> Option<String> {
        let mut system = asking(role, id);
        match settle_external_id(&mut system, before, &derive()) {
            Some(_) => Some("refused".to_owned()),
            None => system.spec.aws.external_id,
        }
    }

    #[test]
    fn a_new_system_gets_the_external_id_of_its_cluster_and_namespace() {
        let derived = Some(DERIVED.to_owned());
        assert_eq!(sent(Some(ROLE), None, None), derived);
        assert_eq!(sent(Some(ROLE), Some(DERIVED), None), derived);
        assert_eq!(sent(None, None, None), None, "no role is assumed");
        let refused = Some("refused".to_owned());
        assert_eq!(sent(Some(ROLE), Some("victims-external-id"), None), refused);
        let mut system = asking(Some(ROLE), Some("own"));
        assert_eq!(settle_external_id(&mut system, None, &ExternalIds::Spec), None);
        assert_eq!(system.spec.aws.external_id.as_deref(), Some("own"), "the spec chooses by default");
        assert_ne!(derive().derived("team"), derive().derived("team-a"));
    }

    #[test]
    fn an_existing_system_keeps_its_external_id_for_its_role_and_gets_no_other() {
        let before = |id: Option<&str>| Some(access(Some(ROLE), id));
        assert_eq!(sent(Some(ROLE), Some("own"), before(Some("own")).as_ref()), Some("own".to_owned()));
        assert_eq!(sent(Some(ROLE), None, before(None).as_ref()), None, "its role requires none");
        assert_eq!(sent(Some(ROLE), None, before(Some(DERIVED)).as_ref()), Some(DERIVED.to_owned()));
        let other = Some("arn:aws:iam::999988887777:role/coactus-victim");
        let refused = Some("refused".to_owned());
        assert_eq!(sent(other, Some("own"), before(Some("own")).as_ref()), refused, "another role");
        assert_eq!(sent(Some(ROLE), Some("victims"), before(Some("own")).as_ref()), refused, "another external ID");
        assert_eq!(sent(other, None, before(None).as_ref()), Some(DERIVED.to_owned()));
        assert_eq!(sent(Some(ROLE), Some("own"), Some(&access(None, None))), refused, "it had no role");
    }

    fn status(stack: bool, accepted: Option<i64>, access: Option<AccessStatus>) -> DispatchSystemStatus {
        let condition = |generation| Condition {
            type_: "CredentialsValid".to_owned(),
            status: "True".to_owned(),
            reason: "Accepted".to_owned(),
            message: String::new(),
            observed_generation: Some(generation),
            last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
        };
        DispatchSystemStatus {
            stack_arn: stack.then(|| "arn".to_owned()),
            conditions: accepted.map(condition).into_iter().collect(),
            access,
            ..DispatchSystemStatus::default()
        }
    }

    #[test]
    fn the_identity_of_an_earlier_version_is_that_of_the_spec_it_accepted() {
        let system = asking(Some(ROLE), Some("own"));
        let own = Some(access(Some(ROLE), Some("own")));
        let of = |status: &DispatchSystemStatus| recorded(Some(status), &system, 3);
        assert_eq!(of(&status(true, Some(3), None)), own);
        for unknown in [
            status(false, Some(3), None),
            status(true, Some(2), None),
            status(true, None, None),
            status(false, Some(3), Some(AccessStatus::default())),
        ] {
            assert_eq!(of(&unknown), None, "{unknown:?}");
        }
        assert_eq!(recorded(None, &system, 3), None);
        let before = access(None, None);
        assert_eq!(of(&status(true, Some(3), Some(before.clone()))), Some(before), "a record counts first");
    }

    #[test]
    fn a_deletion_uses_the_recorded_identity_where_that_of_the_spec_is_not_allowed() {
        let denial = || Some(Denial { reason: Reason::RoleNotAllowed, message: "no".to_owned() });
        let mut system = asking(Some("arn:aws:iam::999988887777:role/coactus-victim"), Some("victims"));
        assert_eq!(settle_for_deletion(&mut system, Some(access(Some(ROLE), Some("own"))), denial()), None);
        assert_eq!(of_spec(&system), access(Some(ROLE), Some("own")));
        assert_eq!(settle_for_deletion(&mut system, None, denial()), denial(), "never used, so never allowed");
        let mut allowed = asking(Some(ROLE), None);
        assert_eq!(settle_for_deletion(&mut allowed, Some(access(None, None)), None), None);
        assert_eq!(of_spec(&allowed), access(Some(ROLE), None), "what is allowed is used as it is");
    }
}
