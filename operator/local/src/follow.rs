//! Follows edits of the manifest by its content. A look each second costs nothing and sees what file events miss: editors that
//! rename, network folders, edits that change nothing.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use dispatch_api::manifest::MANIFEST_BYTES_MAX;
use sha2::{Digest as _, Sha256};

/// The manifest file and what was last seen of it.
#[derive(Debug)]
pub struct Follow {
    path: PathBuf,
    seen: Option<[u8; 32]>,
    last_failure: Option<io::ErrorKind>,
}

/// What a look showed.
#[derive(Debug)]
pub enum Look {
    /// Nothing new.
    Same,
    /// Another text than before.
    Changed(String),
    /// The file cannot be read. Said once for each cause: an editor may just be replacing it.
    Unreadable(io::Error),
}

impl Follow {
    /// Follows a file; the first look shows it as changed.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), seen: None, last_failure: None }
    }

    /// Looks once.
    pub fn look(&mut self) -> Look {
        match read(&self.path) {
            Ok(text) => {
                self.last_failure = None;
                let hash: [u8; 32] = Sha256::digest(&text).into();
                if self.seen.replace(hash) == Some(hash) { Look::Same } else { Look::Changed(text) }
            }
            Err(error) if self.last_failure == Some(error.kind()) => Look::Same,
            Err(error) => {
                self.last_failure = Some(error.kind());
                Look::Unreadable(error)
            }
        }
    }
}

/// Reads at most one byte more than a manifest may have, which is enough to refuse it.
pub fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let limit = u64::try_from(MANIFEST_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    std::fs::File::open(path)?.take(limit).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_content_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seoul.yaml");
        std::fs::write(&path, "one").unwrap();
        let mut follow = Follow::new(&path);
        assert!(matches!(follow.look(), Look::Changed(text) if text == "one"));
        assert!(matches!(follow.look(), Look::Same));
        std::fs::write(&path, "one").unwrap();
        assert!(matches!(follow.look(), Look::Same));
        std::fs::write(&path, "two").unwrap();
        assert!(matches!(follow.look(), Look::Changed(text) if text == "two"));
    }

    #[test]
    fn a_file_that_is_away_for_a_moment_is_said_once_and_comes_back_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seoul.yaml");
        std::fs::write(&path, "one").unwrap();
        let mut follow = Follow::new(&path);
        assert!(matches!(follow.look(), Look::Changed(_)));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(follow.look(), Look::Unreadable(error) if error.kind() == io::ErrorKind::NotFound));
        assert!(matches!(follow.look(), Look::Same));
        std::fs::write(&path, "one").unwrap();
        assert!(matches!(follow.look(), Look::Same));
    }
}
