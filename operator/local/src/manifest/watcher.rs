//! Watches the manifest by its content. Reading it each second costs nothing, and handles what file events do not:
//! editors that rename, network folders, and edits that change nothing.

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::manifest::read_text;

/// The manifest file, and the digest of its last content.
#[derive(Debug)]
pub(crate) struct ManifestWatcher {
    path: PathBuf,
    digest: Option<[u8; 32]>,
    last_failure: Option<io::ErrorKind>,
}

/// What happened to the manifest since the last poll.
#[derive(Debug)]
pub(crate) enum ManifestChange {
    None,
    /// The new text.
    Edited(String),
    /// The file cannot be read. Reported once for each cause: an editor may be replacing the file.
    Unreadable(io::Error),
}

impl ManifestWatcher {
    /// The first poll reports the file as edited.
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), digest: None, last_failure: None }
    }

    /// Reads the file once.
    pub(crate) fn poll(&mut self) -> ManifestChange {
        match read_text(&self.path) {
            Ok(text) => {
                self.last_failure = None;
                let digest: [u8; 32] = Sha256::digest(&text).into();
                if self.digest.replace(digest) == Some(digest) {
                    ManifestChange::None
                } else {
                    ManifestChange::Edited(text)
                }
            }
            Err(error) if self.last_failure == Some(error.kind()) => ManifestChange::None,
            Err(error) => {
                self.last_failure = Some(error.kind());
                ManifestChange::Unreadable(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_new_content_is_an_edit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seoul.yaml");
        std::fs::write(&path, "one").unwrap();
        let mut watcher = ManifestWatcher::new(&path);
        assert!(matches!(watcher.poll(), ManifestChange::Edited(text) if text == "one"));
        assert!(matches!(watcher.poll(), ManifestChange::None));
        std::fs::write(&path, "one").unwrap();
        assert!(matches!(watcher.poll(), ManifestChange::None));
        std::fs::write(&path, "two").unwrap();
        assert!(matches!(watcher.poll(), ManifestChange::Edited(text) if text == "two"));
    }

    #[test]
    fn a_file_that_is_missing_for_a_moment_is_reported_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seoul.yaml");
        std::fs::write(&path, "one").unwrap();
        let mut watcher = ManifestWatcher::new(&path);
        assert!(matches!(watcher.poll(), ManifestChange::Edited(_)));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(watcher.poll(), ManifestChange::Unreadable(error) if error.kind() == io::ErrorKind::NotFound));
        assert!(matches!(watcher.poll(), ManifestChange::None));
        std::fs::write(&path, "one").unwrap();
        assert!(matches!(watcher.poll(), ManifestChange::None));
    }
}
