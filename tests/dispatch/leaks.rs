//! What processes say of themselves, searched for what must never be said: phone numbers, positions, places, tokens.

use std::path::Path;

use crate::process::{Process, Surroundings};
use crate::trip::{Apps, CANARIES};

/// Logs of these surroundings and metrics of the processes that run; nobody's secrets are in them.
pub async fn nothing_is_told(surroundings: &Surroundings, processes: &[&Process], apps: &Apps) {
    let tokens = apps.tokens();
    assert!(!tokens.is_empty(), "nobody called");
    let mut searched = 0;
    for file in logs(surroundings.folder.path()) {
        let text = std::fs::read_to_string(&file).unwrap();
        searched += text.len();
        search(&file.display().to_string(), &text, &tokens);
    }
    assert!(searched > 0, "nothing was logged");
    for process in processes {
        search(&process.name, &process.metrics().await, &tokens);
    }
}

fn logs(folder: &Path) -> impl Iterator<Item = std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "log"))
}

fn search(place: &str, text: &str, tokens: &[String]) {
    // The last part of a token is its signature.
    let signatures = tokens.iter().filter_map(|token| token.rsplit('.').next());
    for secret in CANARIES.into_iter().chain(signatures) {
        assert!(!text.contains(secret), "{place} tells {secret}");
    }
}
