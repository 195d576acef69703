//! From a raw `DispatchSystem` to a [`ValidatedSystem`]: the only way in, for the operator and for the command line.

use dispatch_core::fare::FareTable;
use dispatch_core::policy::DispatchPolicy;

use crate::dispatch_system::DispatchSystemSpec;
use crate::names::ResourceNames;

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
