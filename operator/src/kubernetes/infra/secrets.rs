//! Reads the Secrets that a system names, by name only.

use dispatch_api::dispatch_system::SecretKeyRef;
use dispatch_api::validate::ValidatedSystem;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use crate::engine::plan::hex;
use crate::engine::secrets::Secrets;
use crate::kubernetes::infra::cluster::{Cluster, ClusterError};

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
}

/// Reads the Secrets of a system from its own namespace.
pub async fn read(cluster: &Cluster, system: &ValidatedSystem) -> Result<SecretsRead, ClusterError> {
    let spec = &system.spec;
    let fcm = spec.notifications.fcm.as_ref().map(|fcm| &fcm.service_account_secret_ref);
    let cache = spec.cache.auth_secret_ref.as_ref();
    let mut read = SecretsRead { named: fcm.is_some() || cache.is_some(), ..SecretsRead::default() };
    let mut digest = Sha256::new();
    for (reference, is_cache) in fcm.map(|fcm| (fcm, false)).into_iter().chain(cache.map(|cache| (cache, true))) {
        let Some((value, version)) = one(cluster, &system.namespace, reference).await? else {
            digest.update("\nmissing");
            continue;
        };
        digest.update(format!("\n{} {}=", reference.name, reference.key));
        digest.update(value.expose_secret());
        if is_cache {
            read.cache_version = version;
        }
        read.secrets.insert(&reference.name, &reference.key, value);
    }
    read.digest = hex(&digest.finalize());
    Ok(read)
}

async fn one(
    cluster: &Cluster,
    namespace: &str,
    reference: &SecretKeyRef,
) -> Result<Option<(SecretString, Option<String>)>, ClusterError> {
    let Some(mut secret) = cluster.secret(namespace, &reference.name).await? else { return Ok(None) };
    let version = secret.metadata.resource_version.take();
    let Some(bytes) = secret.data.and_then(|mut data| data.remove(&reference.key)) else { return Ok(None) };
    // A value that is not UTF-8 is neither a key file nor a token; the engine reports what is expected.
    let text = String::from_utf8(bytes.0).unwrap_or_default();
    // Editors and `kubectl create secret --from-file` leave a trailing line break, which is not part of the value.
    Ok(Some((SecretString::from(text.trim_end_matches(['\r', '\n'])), version)))
}
