//! Values of the secrets that a spec names, from files or from Kubernetes.

use std::collections::BTreeMap;

use dispatch_api::dispatch_system::SecretKeyRef;
use secrecy::SecretString;

/// Secret values by name and key. `Debug` shows no value.
#[derive(Clone, Debug, Default)]
pub struct Secrets(BTreeMap<(String, String), SecretString>);

impl Secrets {
    pub fn insert(&mut self, name: impl Into<String>, key: impl Into<String>, value: SecretString) {
        self.0.insert((name.into(), key.into()), value);
    }

    /// The value of a reference.
    pub fn get(&self, reference: &SecretKeyRef) -> Option<&SecretString> {
        self.0.get(&(reference.name.clone(), reference.key.clone()))
    }
}
