//! Names and addresses for other programs of the city: a `ConfigMap` with the public values and, if specified, a Secret
//! with the address and token of the cache.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use dispatch_api::dispatch_system::OutputsStatus;
use dispatch_api::names;
use dispatch_api::validate::ValidatedSystem;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use crate::engine::plan::workers::holder::{Holder, holder};
use crate::engine::plan::workers::{APPLIED, Pool, PoolError, differs, hex, metadata};

/// Name of the `ConfigMap`.
pub fn config_map_name(system: &ValidatedSystem) -> String {
    system.spec.connection.config_map_name.clone().unwrap_or_else(|| names::connection_object(&system.name))
}

/// The public values. The address of the cache contains no token.
pub(super) fn config_map(pool: &Pool<'_>) -> Result<ConfigMap, PoolError> {
    let (system, outputs) = (pool.system, serde_json::to_value(pool.outputs)?);
    let (city, region) = (system.spec.city.clone(), system.spec.region.clone());
    let mut data = BTreeMap::from([("city".to_owned(), city), ("region".to_owned(), region)]);
    for (key, value) in outputs.as_object().into_iter().flatten() {
        data.extend(value.as_str().map(|text| (key.clone(), text.to_owned())));
    }
    Ok(ConfigMap {
        metadata: metadata(system, config_map_name(system), None),
        data: Some(data),
        ..ConfigMap::default()
    })
}

/// The Secret with `cacheUrl` and, if the cache has a token, `cacheAuthToken`; `cacheUrl` then also contains the token.
pub fn secret(system: &ValidatedSystem, name: &str, outputs: &OutputsStatus, token: Option<&SecretString>) -> Secret {
    let mut data = BTreeMap::from([("cacheUrl".to_owned(), cache_url(&outputs.cache_url, token))]);
    data.extend(token.map(|token| ("cacheAuthToken".to_owned(), token.expose_secret().to_owned())));
    let mut secret = Secret { metadata: metadata(system, name.to_owned(), None), ..Secret::default() };
    // The digest covers names only: a digest of the values would reveal information to readers of the annotations.
    let keys: Vec<&String> = data.keys().collect();
    let digest = hex(&Sha256::digest(format!("{name} {keys:?}")));
    secret.metadata.annotations = Some(BTreeMap::from([(APPLIED.to_owned(), digest)]));
    secret.data = Some(data.into_iter().map(|(key, value)| (key, ByteString(value.into_bytes()))).collect());
    secret
}

/// Whether the Secret must be applied again.
pub fn secret_differs(wanted: &Secret, live: &Secret) -> Result<bool, PoolError> {
    Ok(differs(&serde_json::to_value(wanted)?, &serde_json::to_value(live)?))
}

/// Whether this system controls an object. It does not control one of an earlier system of this name.
pub fn is_ours(system: &ValidatedSystem, found: &impl ResourceExt) -> bool {
    holder(system, found) == Holder::Ours
}

/// The address with the token as the password of the default user.
fn cache_url(address: &str, token: Option<&SecretString>) -> String {
    match (token, address.split_once("://")) {
        (Some(token), Some((scheme, place))) => format!("{scheme}://:{}@{place}", escaped(token.expose_secret())),
        _ => address.to_owned(),
    }
}

/// Percent-encodes reserved characters (RFC 3986, section 2.1).
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(char::from(byte)),
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::system;

    fn outputs() -> OutputsStatus {
        OutputsStatus { cache_url: "rediss://master.example:6379".to_owned(), ..OutputsStatus::default() }
    }

    fn in_cluster() -> ValidatedSystem {
        ValidatedSystem { uid: Some("one".to_owned()), ..system() }
    }

    fn text<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
        std::str::from_utf8(&secret.data.as_ref()?.get(key)?.0).ok()
    }

    #[test]
    fn the_secret_has_the_address_with_the_token_and_the_token_alone() {
        let token = SecretString::from("a/b@c:d!1");
        let made = secret(&in_cluster(), "city", &outputs(), Some(&token));
        assert_eq!(text(&made, "cacheUrl"), Some("rediss://:a%2Fb%40c%3Ad%211@master.example:6379"));
        assert_eq!(text(&made, "cacheAuthToken"), Some("a/b@c:d!1"));
        let plain = secret(&in_cluster(), "city", &outputs(), None);
        assert_eq!(
            (text(&plain, "cacheUrl"), text(&plain, "cacheAuthToken")),
            (Some("rediss://master.example:6379"), None)
        );
        for made in [made, plain] {
            assert!(!serde_json::to_string(&made.metadata).unwrap().contains("a/b"));
            assert_eq!(made.metadata.labels.as_ref().unwrap()[crate::engine::plan::workers::SYSTEM_LABEL], "seoul");
            assert!(is_ours(&in_cluster(), &made) && !is_ours(&system(), &made));
        }
    }

    #[test]
    fn another_value_a_lost_key_and_a_lost_token_are_differences() {
        let token = SecretString::from("token");
        let wanted = secret(&in_cluster(), "city", &outputs(), Some(&token));
        let mut live = wanted.clone();
        live.metadata.resource_version = Some("7".to_owned());
        live.type_ = Some("Opaque".to_owned());
        live.data.as_mut().unwrap().insert("theirs".to_owned(), ByteString(b"x".to_vec()));
        assert!(!secret_differs(&wanted, &live).unwrap());
        assert!(secret_differs(&secret(&in_cluster(), "city", &outputs(), None), &live).unwrap());
        live.data.as_mut().unwrap().remove("cacheUrl");
        assert!(secret_differs(&wanted, &live).unwrap());
        let other = secret(&in_cluster(), "city", &outputs(), Some(&SecretString::from("other")));
        assert!(secret_differs(&other, &wanted).unwrap());
    }
}
