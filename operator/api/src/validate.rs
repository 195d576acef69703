//! From a raw `DispatchSystem` to a [`ValidatedSystem`]: the only way in, for the operator and for the command line.
//!
//! Three layers, each on top of the one before: the schema's bounds (`shape`), the forms of texts and the rules between
//! fields (`spec`), and the bounds of the dispatch rules, which belong to core.

mod errors;
mod shape;
mod spec;
mod text;

use dispatch_core::fare::FareTable;
use dispatch_core::policy::DispatchPolicy;

use crate::dispatch_system::{DispatchSystem, DispatchSystemSpec};
use crate::manifest::namespace_of;
use crate::names::ResourceNames;

pub(crate) use errors::Findings;
pub use errors::{FieldError, ValidationErrors};
pub(crate) use shape::check_spec;

/// A system whose every value has been checked. Nothing downstream looks at a raw manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedSystem {
    /// Namespace of the object; `default` where the manifest names none.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// Kubernetes' UID of the object; absent without a cluster.
    pub uid: Option<String>,
    /// Generation of the spec; 0 without a cluster.
    pub generation: i64,
    /// Names of all resources.
    pub names: ResourceNames,
    /// The checked spec, for the values that need no further form.
    pub spec: DispatchSystemSpec,
    /// `spec.dispatch` as core understands it.
    pub policy: DispatchPolicy,
    /// `spec.dispatch.fare` as core understands it.
    pub fare: FareTable,
}

impl ValidatedSystem {
    /// Checks everything that can be checked without asking AWS. All errors are collected; none of them repeats a value that
    /// may be a secret. The person who wrote the manifest corrects it: trying again changes nothing.
    pub fn try_from_raw(raw: &DispatchSystem) -> Result<Self, ValidationErrors> {
        let mut found = Findings::default();
        let namespace = namespace_of(raw);
        let name = raw.metadata.name.as_deref().unwrap_or_default();
        let names = ResourceNames::of(namespace, name, &raw.spec);
        let mut value = serde_json::to_value(&raw.spec).unwrap_or_default();
        check_spec(&mut value, &mut found);
        spec::check_names(namespace, name, &raw.spec, &mut found);
        spec::check(&raw.spec, &mut found);
        let policy = spec::policy(&raw.spec.dispatch, &mut found);
        let fare = spec::fare(&raw.spec.dispatch.fare, &mut found);
        found.finish()?;
        Ok(Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: raw.metadata.uid.clone(),
            generation: raw.metadata.generation.unwrap_or(0),
            names,
            spec: raw.spec.clone(),
            policy,
            fare,
        })
    }
}
