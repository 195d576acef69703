//! Reads the Secrets that a system names, by name only, and no other than those that it may read.

use dispatch_api::annotations::{ANY_SYSTEM, READABLE_BY};
use dispatch_api::dispatch_system::{CA_BUNDLE_FIELD, CACHE_SECRET_FIELD, ENV_FROM_FIELD, SecretKeyRef};
use dispatch_api::validate::ValidatedSystem;
use k8s_openapi::api::core::v1::Secret;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use crate::engine::plan::hex;
use crate::engine::plan::workers::environment::Source;
use crate::engine::plan::workers::{ChildKind, WorkerEnvironment};
use crate::engine::secrets::Secrets;
use crate::kubernetes::infra::cluster::{Cluster, ClusterError};
use crate::kubernetes::policy::restrictions::{RestrictionMode, Restrictions, SecretAccess};

/// The Secrets of a system.
#[derive(Debug, Default)]
pub struct SecretsRead {
    /// The values found. The engine reports a missing one, with the field that names it.
    pub secrets: Secrets,
    /// Digest of all values, to detect a change. It never leaves this process.
    pub digest: String,
    /// Resource version of the Secret with the cache's token. It reveals nothing about the value.
    pub cache_version: Option<String>,
    /// Whether the system names any Secret.
    pub named: bool,
    /// Secrets that exist and that the system may not read: the field and the name. None of their data is used, unless
    /// the operator only warns.
    pub refused: Vec<(&'static str, String)>,
    /// What the sources of the workers' environment contain.
    pub environment: WorkerEnvironment,
    /// Sources of the workers' environment that do not exist: the field and the object.
    pub absent: Vec<(&'static str, String)>,
}

/// Reads the Secrets of a system from its own namespace.
pub async fn read(
    cluster: &Cluster,
    system: &ValidatedSystem,
    restrictions: &Restrictions,
) -> Result<SecretsRead, ClusterError> {
    let references = system.spec.secret_refs();
    let mut read = SecretsRead { named: !references.is_empty(), ..SecretsRead::default() };
    let mut digest = Sha256::new();
    for (field, reference) in references {
        let secret = cluster.secret(&system.namespace, &reference.name).await?;
        if secret.as_ref().is_some_and(|secret| !is_readable(secret, &system.name, restrictions.secrets)) {
            read.refused.push((field, reference.name.clone()));
            if restrictions.mode == RestrictionMode::Enforce {
                digest.update("\nrefused");
                continue;
            }
        }
        let Some((value, version)) = secret.and_then(|secret| value_of(secret, reference)) else {
            digest.update("\nmissing");
            continue;
        };
        digest.update(format!("\n{} {}=", reference.name, reference.key));
        digest.update(value.expose_secret());
        if field == CACHE_SECRET_FIELD {
            read.cache_version = version;
        }
        read.secrets.insert(&reference.name, &reference.key, value);
    }
    read.digest = hex(&digest.finalize());
    read_environment(cluster, system, restrictions, &mut read).await?;
    Ok(read)
}

/// Reads which variables the sources of the workers' environment contain. Their values stay where they are.
async fn read_environment(
    cluster: &Cluster,
    system: &ValidatedSystem,
    restrictions: &Restrictions,
    read: &mut SecretsRead,
) -> Result<(), ClusterError> {
    let workers = &system.spec.workers;
    read.named |= !workers.env_from.is_empty() || workers.ca_bundle.is_some();
    for source in workers.env_from.iter().filter_map(Source::from_reference) {
        let Some(contents) = contents(cluster, system, &source, restrictions.secrets).await? else {
            read.absent.push((ENV_FROM_FIELD, source.to_string()));
            continue;
        };
        if !contents.is_readable {
            read.refused.push((ENV_FROM_FIELD, source.name().to_owned()));
            if restrictions.mode == RestrictionMode::Enforce {
                continue;
            }
        }
        read.environment.add(&source, &contents.version, contents.keys.iter().map(String::as_str));
    }
    if let Some(bundle) = &workers.ca_bundle {
        let source = Source::ConfigMap(bundle.name.clone());
        match contents(cluster, system, &source, restrictions.secrets).await? {
            Some(contents) if contents.keys.contains(&bundle.key) => {
                read.environment.add_version(&bundle.name, &contents.version);
            }
            Some(_) => read.absent.push((CA_BUNDLE_FIELD, format!("key {} of {source}", bundle.key))),
            None => read.absent.push((CA_BUNDLE_FIELD, source.to_string())),
        }
    }
    Ok(())
}

/// What is known of a source without its values.
struct Contents {
    version: String,
    keys: Vec<String>,
    is_readable: bool,
}

/// The contents of a source; `None` if it does not exist. Every `ConfigMap` of the namespace is readable.
async fn contents(
    cluster: &Cluster,
    system: &ValidatedSystem,
    source: &Source,
    access: SecretAccess,
) -> Result<Option<Contents>, ClusterError> {
    let namespace = &system.namespace;
    Ok(match source {
        Source::Secret(name) => cluster.secret(namespace, name).await?.map(|secret| Contents {
            is_readable: is_readable(&secret, &system.name, access),
            version: secret.metadata.resource_version.unwrap_or_default(),
            keys: secret.data.into_iter().flatten().map(|(key, _)| key).collect(),
        }),
        Source::ConfigMap(name) => cluster.child(ChildKind::ConfigMap, namespace, name).await?.map(|map| Contents {
            is_readable: true,
            keys: map.data["data"].as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect(),
            version: map.metadata.resource_version.unwrap_or_default(),
        }),
    })
}

/// Whether a system may read a Secret. The author of the system cannot give this permission without the right to write
/// Secrets.
fn is_readable(secret: &Secret, system: &str, access: SecretAccess) -> bool {
    let label = secret.metadata.labels.as_ref().and_then(|labels| labels.get(READABLE_BY));
    access == SecretAccess::All || label.is_some_and(|by| by == system || by == ANY_SYSTEM)
}

fn value_of(mut secret: Secret, reference: &SecretKeyRef) -> Option<(SecretString, Option<String>)> {
    let version = secret.metadata.resource_version.take();
    let bytes = secret.data.and_then(|mut data| data.remove(&reference.key))?;
    // A value that is not UTF-8 is neither a key file nor a token; the engine reports what is expected.
    let text = String::from_utf8(bytes.0).unwrap_or_default();
    // Editors and `kubectl create secret --from-file` leave a trailing line break, which is not part of the value.
    Some((SecretString::from(text.trim_end_matches(['\r', '\n'])), version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_readable_where_its_label_names_the_system() {
        let labelled = |label: &[(&str, &str)]| {
            let mut secret = Secret::default();
            let label = label.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            secret.metadata.labels = Some(label.collect());
            secret
        };
        for readable in ["seoul", "AnySystem"] {
            assert!(is_readable(&labelled(&[(READABLE_BY, readable)]), "seoul", SecretAccess::Labelled), "{readable}");
        }
        for other in ["", "busan", "anysystem", "Any", "true", "seoul-2"] {
            let secret = labelled(&[(READABLE_BY, other)]);
            assert!(!is_readable(&secret, "seoul", SecretAccess::Labelled), "{other}");
            assert!(is_readable(&secret, "seoul", SecretAccess::All), "{other}");
        }
        assert!(!is_readable(&labelled(&[]), "seoul", SecretAccess::Labelled));
        assert!(!is_readable(&Secret::default(), "seoul", SecretAccess::Labelled));
        let mut annotated = Secret::default();
        annotated.metadata.annotations = Some([(READABLE_BY.to_owned(), "seoul".to_owned())].into());
        assert!(!is_readable(&annotated, "seoul", SecretAccess::Labelled), "an annotation is no label");
    }
}
