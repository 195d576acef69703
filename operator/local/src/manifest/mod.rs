//! The system of a local run, from the text of its manifest.

pub(crate) mod watcher;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use dispatch_api::dispatch_system::ExternalCacheSpec;
use dispatch_api::manifest::{MANIFEST_BYTES_MAX, ManifestError, read_manifests};
use dispatch_api::validate::{ValidatedSystem, ValidationErrors};
use thiserror::Error;

/// Why a manifest is refused. The system in effect does not change.
#[derive(Debug, Error)]
pub enum ManifestRefusal {
    #[error("{}", with_cause(.0))]
    Unreadable(#[source] ManifestError),
    #[error("the manifest contains {0} systems; a local run needs exactly one")]
    SystemCount(usize),
    /// One line for each error.
    #[error("{0}")]
    Invalid(ValidationErrors),
    /// An edit changes an immutable field.
    #[error("{field} cannot change from {old:?} to {new:?} while the system runs; stop this run and start another")]
    Immutable { field: &'static str, old: String, new: String },
}

/// The Redis of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CacheSource {
    /// The run starts it. The emulated stack has its replication group nevertheless, as in the cloud.
    Started,
    /// A running one, by its address. The manifest is read as if `spec.cache.external` named it, so the stack contains
    /// no replication group, which not every emulator supports.
    External(String),
}

/// Parses and validates the system of a manifest.
pub(crate) fn parse(text: &str, cache: &CacheSource) -> Result<ValidatedSystem, ManifestRefusal> {
    let mut systems = read_manifests(text).map_err(ManifestRefusal::Unreadable)?;
    let [system] = systems.as_mut_slice() else { return Err(ManifestRefusal::SystemCount(systems.len())) };
    if let CacheSource::External(url) = cache {
        system.spec.cache.external = Some(ExternalCacheSpec { url: url.clone() });
        system.spec.cache.auth_secret_ref = None;
    }
    ValidatedSystem::try_from_raw_for_this_machine(system).map_err(ManifestRefusal::Invalid)
}

/// Parses and validates an edit of the manifest. In a cluster the schema's rules refuse a change of an immutable field;
/// without a cluster it is refused here.
pub(crate) fn parse_edit(
    text: &str,
    cache: &CacheSource,
    current: &ValidatedSystem,
) -> Result<ValidatedSystem, ManifestRefusal> {
    let edit = parse(text, cache)?;
    let same = |field, old: &str, new: &str| {
        if old == new {
            Ok(())
        } else {
            Err(ManifestRefusal::Immutable { field, old: old.to_owned(), new: new.to_owned() })
        }
    };
    same("metadata.namespace", &current.namespace, &edit.namespace)?;
    same("metadata.name", &current.name, &edit.name)?;
    same("spec.city", &current.spec.city, &edit.spec.city)?;
    same("spec.region", &current.spec.region, &edit.spec.region)?;
    same("spec.timezone", &current.spec.timezone, &edit.spec.timezone)?;
    same("spec.currency", &current.spec.currency, &edit.spec.currency)?;
    same("spec.table.name", &current.names.table, &edit.names.table)?;
    Ok(edit)
}

/// Reads the file, and at most one byte more than a manifest may have, which is enough to refuse it.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let limit = u64::try_from(MANIFEST_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(limit).read_to_string(&mut text)?;
    Ok(text)
}

fn with_cause(error: &ManifestError) -> String {
    use std::error::Error as _;
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEOUL: &str = "\
apiVersion: dispatch.coactus.io/v1alpha1
kind: DispatchSystem
metadata: { name: seoul }
spec:
  city: seoul
  region: ap-northeast-2
  timezone: Asia/Seoul
";

    #[test]
    fn an_edit_may_change_rules_but_not_the_identity() {
        let seoul = parse(SEOUL, &CacheSource::Started).unwrap();
        let rules = format!("{SEOUL}  dispatch: {{ offerTimeoutSeconds: 20 }}\n");
        assert_eq!(parse_edit(&rules, &CacheSource::Started, &seoul).unwrap().policy.offer_timeout_ms, 20_000);
        let refused = |text: String| parse_edit(&text, &CacheSource::Started, &seoul).unwrap_err().to_string();
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
    fn a_running_redis_is_the_systems_external_cache() {
        let url = "redis://127.0.0.1:16379";
        let seoul = parse(SEOUL, &CacheSource::External(url.to_owned())).unwrap();
        assert_eq!(seoul.spec.cache.external.unwrap().url, url);
        assert_eq!(parse(SEOUL, &CacheSource::Started).unwrap().spec.cache.external, None);
    }
}
