//! Validation: the only way from a raw `DispatchSystem` to a [`ValidatedSystem`], for operator and command line.
//!
//! It has three layers: the bounds of the schema (`shape`), the formats of strings and the rules between fields
//! (`spec`, `workers`), and the bounds of the dispatch rules, which `dispatch-core` defines.

mod addresses;
mod errors;
mod eta;
mod identity;
mod literal;
mod requests;
mod routing;
mod salvage;
mod shape;
mod spec;
mod text;
mod workers;

use dispatch_core::fare::FareTable;
use dispatch_core::policy::DispatchPolicy;
use dispatch_core::service_area::ServiceArea;

use crate::dispatch_system::{DeletionPolicy, DispatchSystem, DispatchSystemSpec, IdentityStatus, namespace_of};
use crate::names::ResourceNames;

use addresses::Loopback;

pub(crate) use errors::Findings;
pub use errors::{FieldError, ValidationErrors};
pub(crate) use shape::check_spec;

/// A system whose values are all checked. Later steps never read a raw manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedSystem {
    /// Namespace of the object; `default` if the manifest has none.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// Kubernetes UID of the object; absent without a cluster.
    pub uid: Option<String>,
    /// Generation of the spec; 0 without a cluster.
    pub generation: i64,
    /// Names of the AWS resources.
    pub names: ResourceNames,
    /// Names under which an earlier version made them; `None` if they are the same, or if [`Self::names`] has them.
    pub former: Option<ResourceNames>,
    /// Errors of derived names, which prevent the creation of a stack. A stack that exists keeps its names.
    pub unfit: Option<ValidationErrors>,
    /// Effective deletion policy: that of the spec or, without one, that of the namespace, the operator or the default.
    pub deletion_policy: DeletionPolicy,
    /// Source of the effective deletion policy.
    pub deletion_policy_from: PolicySource,
    /// The checked spec.
    pub spec: DispatchSystemSpec,
    /// `spec.dispatch` as a policy of `dispatch-core`.
    pub policy: DispatchPolicy,
    /// `spec.dispatch.fare` as a fare table of `dispatch-core`.
    pub fare: FareTable,
    /// `spec.dispatch.serviceArea`, checked.
    pub service_area: Option<ServiceArea>,
}

/// Sources of the deletion policy, in order of precedence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PolicySource {
    /// `spec.deletionPolicy`.
    Spec,
    /// The annotation of the namespace.
    Namespace,
    /// The operator's flag `--deletion-policy`.
    Operator,
    /// None of them: the default.
    #[default]
    Default,
}

impl PolicySource {
    /// The spelling in the status.
    pub fn name(self) -> &'static str {
        match self {
            Self::Spec => "spec",
            Self::Namespace => "namespace",
            Self::Operator => "operator",
            Self::Default => "default",
        }
    }
}

impl ValidatedSystem {
    /// Checks everything that can be checked without calling AWS. All errors are collected; none repeats a value that
    /// may be a secret. Errors are permanent: a retry without a changed manifest fails in the same way.
    pub fn try_from_raw(raw: &DispatchSystem) -> Result<Self, ValidationErrors> {
        Self::checked(raw, Loopback::Refused)
    }

    /// Like [`Self::try_from_raw`], for a system whose services run on this machine: its addresses may name it.
    pub fn try_from_raw_for_this_machine(raw: &DispatchSystem) -> Result<Self, ValidationErrors> {
        Self::checked(raw, Loopback::Allowed)
    }

    fn checked(raw: &DispatchSystem, loopback: Loopback) -> Result<Self, ValidationErrors> {
        let mut found = Findings::default();
        let namespace = namespace_of(raw);
        let name = raw.metadata.name.as_deref().unwrap_or_default();
        let names = ResourceNames::new(namespace, name, &raw.spec);
        let mut value = serde_json::to_value(&raw.spec).unwrap_or_default();
        check_spec(&mut value, &mut found);
        let for_new = spec::check_names(namespace, name, &raw.spec, &mut found);
        spec::check(&raw.spec, &mut found);
        addresses::check(&raw.spec, loopback, &mut found);
        literal::check(&value, &mut found);
        let policy = spec::policy(&raw.spec.dispatch, &mut found);
        let fare = spec::fare(&raw.spec.dispatch.fare, &mut found);
        let service_area = requests::service_area(&raw.spec, &mut found);
        found.finish()?;
        Ok(Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: raw.metadata.uid.clone(),
            generation: raw.metadata.generation.unwrap_or(0),
            names,
            former: ResourceNames::former(namespace, name, &raw.spec),
            unfit: for_new.finish().err(),
            deletion_policy: raw.spec.deletion_policy.unwrap_or_default(),
            deletion_policy_from: raw.spec.deletion_policy.map_or(PolicySource::Default, |_| PolicySource::Spec),
            spec: raw.spec.clone(),
            policy,
            fare,
            service_area,
        })
    }

    /// This system with the names under which an earlier version made its resources.
    #[must_use]
    pub fn under_former_names(&self) -> Self {
        match &self.former {
            Some(former) => Self { names: former.clone(), former: None, unfit: None, ..self.clone() },
            None => self.clone(),
        }
    }

    /// This system with the names of its stack, as recorded in a status.
    #[must_use]
    pub fn under_names_of(self, stack: Option<&str>, recorded: Option<&IdentityStatus>) -> Self {
        let Some(former) = &self.former else { return self };
        let by_stack = stack.is_some_and(|stack| stack == former.stack);
        // A stack that was deleted by hand leaves its data under its name.
        let by_table = stack.is_none() && self.spec.table.name.is_none();
        if by_stack || (by_table && recorded.is_some_and(|identity| identity.table_name == former.table)) {
            self.under_former_names()
        } else {
            self
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The validation errors of `spec.dispatch` with `value` at the path `at`.
    fn errors_with(at: &str, value: u64) -> Option<Vec<FieldError>> {
        let mut object = json!({
            "metadata": { "name": "seoul" },
            "spec": { "city": "seoul", "region": "ap-northeast-2", "timezone": "Asia/Seoul", "dispatch": {} },
        });
        let mut place = &mut object["spec"]["dispatch"];
        for name in at.split('.') {
            place = &mut place[name];
        }
        *place = json!(value);
        object["apiVersion"] = json!("dispatch.coactus.io/v1alpha1");
        object["kind"] = json!("DispatchSystem");
        let system: DispatchSystem = serde_json::from_value(object).ok()?;
        Some(ValidatedSystem::try_from_raw(&system).err().map(|errors| errors.0).unwrap_or_default())
    }

    /// Whether `dispatch-core` refuses the same value, without the schema check.
    fn core_refuses(at: &str, value: u64) -> Option<bool> {
        let mut dispatch = json!({});
        let mut place = &mut dispatch;
        for name in at.split('.') {
            place = &mut place[name];
        }
        *place = json!(value);
        let dispatch = serde_json::from_value(dispatch).ok()?;
        let mut found = Findings::default();
        spec::policy(&dispatch, &mut found);
        spec::fare(&dispatch.fare, &mut found);
        Some(found.has(&format!("spec.dispatch.{at}")))
    }

    fn integers(schema: &Value, path: &str, all: &mut Vec<(String, u64, u64)>) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            if field["type"] == "integer" {
                let bound = |name: &str| field[name].to_string().trim_end_matches(".0").parse().unwrap();
                all.push((path.clone(), bound("minimum"), bound("maximum")));
            }
            integers(field, &path, all);
        }
    }

    #[test]
    fn the_bounds_of_the_schema_are_those_of_core() {
        let crd = serde_json::to_value(crate::crd::crd()).unwrap();
        let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let mut all = Vec::new();
        integers(&spec["properties"]["dispatch"], "", &mut all);
        assert!(all.len() >= 17, "{all:?}");
        for (at, min, max) in all {
            for inside in [min, max] {
                assert_eq!(errors_with(&at, inside), Some(Vec::new()), "{at}: {inside}");
                assert_eq!(core_refuses(&at, inside), Some(false), "{at}: {inside}");
            }
            for outside in min.checked_sub(1).into_iter().chain([max + 1]) {
                let errors = errors_with(&at, outside).unwrap();
                let [error] = errors.as_slice() else { panic!("{at}: {outside}: {errors:?}") };
                assert_eq!(error.to_string(), format!("spec.dispatch.{at}: {outside} is not allowed: {min} to {max}"));
                assert_eq!(core_refuses(&at, outside), Some(true), "{at}: {outside}");
            }
        }
    }
}
