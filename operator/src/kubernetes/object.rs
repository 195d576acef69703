//! Reading a `DispatchSystem` object as the API server returns it.

use dispatch_api::dispatch_system::DispatchSystemStatus;

use crate::kubernetes::infra::cluster::Stored;

/// Name of an object.
pub type Key = (String, String);

/// The status an object has, where it has one.
pub(super) fn status_of(stored: &Stored) -> Option<DispatchSystemStatus> {
    serde_json::from_value(stored.data.get("status")?.clone()).ok()
}

/// Generation of an object's spec.
pub(super) fn generation_of(stored: &Stored) -> i64 {
    stored.metadata.generation.unwrap_or(0)
}

pub(super) fn annotation(stored: &Stored, name: &str) -> Option<String> {
    stored.metadata.annotations.as_ref()?.get(name).filter(|value| !value.is_empty()).cloned()
}
