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

/// Whether an annotation holds something back: any value except `false` does. An undefined value may be a misspelled
/// `true`.
pub(super) fn holds_back(stored: &SystemObject, name: &str) -> bool {
    annotation(stored, name).is_some_and(|value| value != "false")
}

/// The value of an annotation; an empty value counts as absent.
pub(super) fn annotation(stored: &SystemObject, name: &str) -> Option<String> {
    stored.metadata.annotations.as_ref()?.get(name).filter(|value| !value.is_empty()).cloned()
}

#[cfg(test)]
mod tests {
    use dispatch_api::annotations::DRY_RUN;
    use dispatch_api::dispatch_system::DispatchSystem;
    use kube::core::ApiResource;

    use super::*;

    #[test]
    fn an_annotation_with_an_unknown_value_holds_back() {
        let mut stored = SystemObject::new("seoul", &ApiResource::erase::<DispatchSystem>(&()));
        assert!(!holds_back(&stored, DRY_RUN));
        for (value, holds) in [
            ("true", true),
            ("True", true),
            ("yes", true),
            ("1", true),
            ("tru", true),
            ("False", true),
            (" ", true),
            ("false", false),
            ("", false),
        ] {
            stored.metadata.annotations = Some([(DRY_RUN.to_owned(), value.to_owned())].into());
            assert_eq!(holds_back(&stored, DRY_RUN), holds, "{value:?}");
        }
    }
}
