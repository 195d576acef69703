//! Secrets named by the manifest, as read from wherever this run keeps them.

use std::collections::BTreeMap;

use dispatch_api::dispatch_system::SecretKeyRef;
use secrecy::SecretString;

/// Secret values by name and key. `Debug` shows no value.
#[derive(Clone, Debug, Default)]
pub struct Secrets(BTreeMap<(String, String), SecretString>);

impl Secrets {
    /// Adds one value.
    pub fn insert(&mut self, name: impl Into<String>, key: impl Into<String>, value: SecretString) {
        self.0.insert((name.into(), key.into()), value);
    }

    /// The value a reference names.
    pub fn get(&self, reference: &SecretKeyRef) -> Option<&SecretString> {
        self.0.get(&(reference.name.clone(), reference.key.clone()))
    }
}
