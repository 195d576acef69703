//! Logical ids that several fragments reference.

/// The topic of all notifications.
pub(super) const TOPIC: &str = "Topic";
