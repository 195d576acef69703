//! Accessors for a `DispatchSystem` object as the API server returns it.

use dispatch_api::dispatch_system::DispatchSystemStatus;

use crate::kubernetes::infra::cluster::SystemObject;

/// Namespace and name of an object.
pub type Key = (String, String);

/// The status of an object; `None` where it has none or it cannot be parsed.
pub(super) fn status_of(stored: &SystemObject) -> Option<DispatchSystemStatus> {
    serde_json::from_value(stored.data.get("status")?.clone()).ok()
}

/// Generation of an object's spec.
pub(super) fn generation_of(stored: &SystemObject) -> i64 {
    stored.metadata.generation.unwrap_or(0)
}

/// The value of an annotation; an empty value counts as absent.
pub(super) fn annotation(stored: &SystemObject, name: &str) -> Option<String> {
    stored.metadata.annotations.as_ref()?.get(name).filter(|value| !value.is_empty()).cloned()
}
