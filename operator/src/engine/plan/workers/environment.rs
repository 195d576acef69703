//! Environment variables from Secrets and `ConfigMap`s. Pure.
//!
//! A worker gets single variables, never a whole source: who may write a source must not redirect the workers, for
//! example with `AWS_ENDPOINT_URL`.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use dispatch_api::dispatch_system::{ENV_FROM_NAMES, ENV_NAMES, EnvFromSource};
use k8s_openapi::api::core::v1::{ConfigMapKeySelector, EnvVar, EnvVarSource, SecretKeySelector};

/// Where a variable comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Name of a Secret.
    Secret(String),
    /// Name of a `ConfigMap`.
    ConfigMap(String),
}

impl Source {
    /// The object that a reference of a valid spec names.
    pub fn from_reference(reference: &EnvFromSource) -> Option<Self> {
        let secret = reference.secret_ref.as_ref().map(|secret| Self::Secret(secret.name.clone()));
        secret.or_else(|| reference.config_map_ref.as_ref().map(|map| Self::ConfigMap(map.name.clone())))
    }

    /// Name of the object.
    pub fn name(&self) -> &str {
        match self {
            Self::Secret(name) | Self::ConfigMap(name) => name,
        }
    }

    fn variable(&self, name: &str) -> EnvVar {
        let key = name.to_owned();
        let value_from = match self.clone() {
            Self::Secret(name) => EnvVarSource {
                secret_key_ref: Some(SecretKeySelector { name, key, optional: None }),
                ..EnvVarSource::default()
            },
            Self::ConfigMap(name) => EnvVarSource {
                config_map_key_ref: Some(ConfigMapKeySelector { name, key, optional: None }),
                ..EnvVarSource::default()
            },
        };
        EnvVar { name: name.to_owned(), value: None, value_from: Some(value_from) }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Secret(_) => "Secret",
            Self::ConfigMap(_) => "ConfigMap",
        };
        write!(f, "{kind} {}", self.name())
    }
}

/// What the sources contain, as far as it concerns the workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerEnvironment {
    /// The source of each variable.
    variables: BTreeMap<&'static str, Source>,
    /// Versions of all sources and of the CA bundle. A change restarts the workers.
    version: String,
}

impl WorkerEnvironment {
    /// Adds a source with the names of its keys and its resource version. The last source of a variable counts.
    pub fn add<'a>(&mut self, source: &Source, version: &str, keys: impl Iterator<Item = &'a str>) {
        let keys: Vec<&str> = keys.collect();
        for name in ENV_NAMES.iter().chain(&ENV_FROM_NAMES).filter(|name| keys.contains(name)) {
            self.variables.insert(name, source.clone());
        }
        self.add_version(&format!("{source:?}"), version);
    }

    /// Adds an object of which the workers use no variable.
    pub fn add_version(&mut self, name: &str, version: &str) {
        // A string takes every text.
        let _ = write!(self.version, "{name}@{version} ");
    }

    /// Changes with every object.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The variables of the spec and of the sources, which follow it.
    pub(super) fn variables(&self, plain: &BTreeMap<String, String>) -> Vec<EnvVar> {
        let of_spec = plain.iter().filter(|(name, _)| !self.variables.contains_key(name.as_str()));
        let of_spec =
            of_spec.map(|(name, value)| EnvVar { name: name.clone(), value: Some(value.clone()), value_from: None });
        of_spec.chain(self.variables.iter().map(|(name, source)| source.variable(name))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_sets_known_variables_only_and_the_last_one_counts() {
        let mut all = WorkerEnvironment::default();
        let hostile = ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS", "LD_PRELOAD", "HTTPS_PROXY", "DISPATCH_CONFIG"];
        let keys = hostile.into_iter().chain(["AWS_ACCESS_KEY_ID", "RUST_LOG"]);
        all.add(&Source::Secret("aws".to_owned()), "7", keys);
        all.add(&Source::ConfigMap("logs".to_owned()), "8", ["RUST_LOG"].into_iter());
        let plain = BTreeMap::from([
            ("RUST_LOG".to_owned(), "debug".to_owned()),
            ("RUST_BACKTRACE".to_owned(), "1".to_owned()),
        ]);
        let made: Vec<(String, Option<String>, Option<String>)> = all
            .variables(&plain)
            .into_iter()
            .map(|made| {
                let from = made.value_from.unwrap_or_default();
                let secret = from.secret_key_ref.map(|key| key.name);
                (made.name, made.value, secret.or_else(|| from.config_map_key_ref.map(|key| key.name)))
            })
            .collect();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            made,
            [
                ("RUST_BACKTRACE".to_owned(), text("1"), None),
                ("AWS_ACCESS_KEY_ID".to_owned(), None, text("aws")),
                ("RUST_LOG".to_owned(), None, text("logs")),
            ]
        );
        let before = all.version().to_owned();
        all.add_version("ca", "9");
        assert_ne!(all.version(), before);
    }
}
