//! What a request notes for its line in the audit trail.

use std::sync::Arc;

use parking_lot::Mutex;

/// The other persons and the dispatches whose data a request concerns.
#[derive(Clone, Default)]
pub(super) struct Trail(Arc<Mutex<Vec<String>>>);

impl Trail {
    pub(super) fn note(&self, object: &str) {
        let mut objects = self.0.lock();
        if !objects.iter().any(|noted| noted == object) {
            objects.push(object.to_owned());
        }
    }

    pub(super) fn noted(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}
