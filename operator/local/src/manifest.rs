//! The one system of a local run, from its manifest's text.

use dispatch_api::dispatch_system::ExternalCacheSpec;
use dispatch_api::manifest::{ManifestError, read_manifests};
use dispatch_api::validate::{ValidatedSystem, ValidationErrors};
use thiserror::Error;

/// Why a manifest is refused. Nothing is changed by a refused manifest.
#[derive(Debug, Error)]
pub enum RefusedManifest {
    /// It cannot be read.
    #[error("{}", with_cause(.0))]
    Unreadable(#[source] ManifestError),
    /// It holds none or several systems.
    #[error("the manifest holds {0} systems; a local run needs exactly one")]
    NotOne(usize),
    /// Its values are wrong; one line for each.
    #[error("{0}")]
    Invalid(ValidationErrors),
    /// An edit changes what cannot change while the system lives.
    #[error("{field} cannot change from {old:?} to {new:?} while the system runs; stop this run and start another")]
    Identity {
        /// Field.
        field: &'static str,
        /// Value in force.
        old: String,
        /// Value of the edit.
        new: String,
    },
}

/// Which Redis a run uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cache {
    /// One this run starts; the emulated stack has its replication group all the same, as in the cloud.
    Started,
    /// A running one, by its address. The manifest is read as if it named it in `spec.cache.external`: the stack makes no
    /// replication group, which not every emulator knows.
    Given(String),
}

/// Reads and checks the one system of a text.
pub fn read(text: &str, cache: &Cache) -> Result<ValidatedSystem, RefusedManifest> {
    let mut systems = read_manifests(text).map_err(RefusedManifest::Unreadable)?;
    let [system] = systems.as_mut_slice() else { return Err(RefusedManifest::NotOne(systems.len())) };
    if let Cache::Given(url) = cache {
        system.spec.cache.external = Some(ExternalCacheSpec { url: url.clone() });
        system.spec.cache.auth_secret_ref = None;
    }
    ValidatedSystem::try_from_raw(system).map_err(RefusedManifest::Invalid)
}

/// Reads and checks an edit of the system in force. A cluster refuses a change of these fields by the schema's rules; without
/// a cluster it is refused here.
pub fn read_edit(text: &str, cache: &Cache, in_force: &ValidatedSystem) -> Result<ValidatedSystem, RefusedManifest> {
    let edit = read(text, cache)?;
    let same = |field, old: &str, new: &str| {
        if old == new {
            Ok(())
        } else {
            Err(RefusedManifest::Identity { field, old: old.to_owned(), new: new.to_owned() })
        }
    };
    same("metadata.namespace", &in_force.namespace, &edit.namespace)?;
    same("metadata.name", &in_force.name, &edit.name)?;
    same("spec.city", &in_force.spec.city, &edit.spec.city)?;
    same("spec.region", &in_force.spec.region, &edit.spec.region)?;
    same("spec.timezone", &in_force.spec.timezone, &edit.spec.timezone)?;
    same("spec.currency", &in_force.spec.currency, &edit.spec.currency)?;
    same("spec.table.name", &in_force.names.table, &edit.names.table)?;
    Ok(edit)
}

fn with_cause(error: &ManifestError) -> String {
    use std::error::Error as _;
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEOUL: &str = "apiVersion: dispatch.coactus.io/v1alpha1\nkind: DispatchSystem\nmetadata: { name: seoul }\nspec:\n  \
                         city: seoul\n  region: ap-northeast-2\n  timezone: Asia/Seoul\n";

    #[test]
    fn an_edit_may_change_rules_but_not_the_identity() {
        let seoul = read(SEOUL, &Cache::Started).unwrap();
        let rules = format!("{SEOUL}  dispatch: {{ offerTimeoutSeconds: 20 }}\n");
        assert_eq!(read_edit(&rules, &Cache::Started, &seoul).unwrap().policy.offer_timeout_ms, 20_000);
        let refused = |text: String| read_edit(&text, &Cache::Started, &seoul).unwrap_err().to_string();
        insta::assert_snapshot!(
            [
                refused(SEOUL.replace("name: seoul", "name: busan")),
                refused(SEOUL.replace("ap-northeast-2", "ap-northeast-1")),
                refused(format!("{SEOUL}  dispatch: {{ maxAttempts: 0 }}\n")),
                refused(format!("{SEOUL}---\n{}", SEOUL.replace("name: seoul", "name: busan"))),
                refused("spec: [".to_owned()),
                refused(String::new()),
            ]
            .join("\n")
        );
    }

    #[test]
    fn a_given_redis_is_the_systems_external_cache() {
        let url = "redis://127.0.0.1:16379";
        let seoul = read(SEOUL, &Cache::Given(url.to_owned())).unwrap();
        assert_eq!(seoul.spec.cache.external.unwrap().url, url);
        assert_eq!(read(SEOUL, &Cache::Started).unwrap().spec.cache.external, None);
    }
}
