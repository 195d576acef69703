//! What processes say of themselves and answer to others, searched for what must never be said: phone numbers, positions, places, tokens.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

use crate::process::{Process, Surroundings};
use crate::trip::{Apps, CANARIES};

/// What secrets look like, whoever's they are: traffic draws its own. What follows a number and a colon is a time of day.
static FORMS: LazyLock<[(&str, Regex); 3]> = LazyLock::new(|| {
    let form = |pattern| Regex::new(pattern).expect("a pattern");
    [
        ("a phone number", form(r"(^|[^0-9A-Za-z._-])(\+?82-?|0)1[016-9]-?\d{3,4}-?\d{4}($|[^0-9A-Za-z_-])")),
        ("a position", form(r"(^|[^0-9A-Za-z:._-]|[^0-9]:)(3[3-8]|12[4-9]|13[01])\.\d{4,}")),
        ("a token", form(r"eyJ[A-Za-z0-9_-]{8,}")),
    ]
});

/// Numbers a refusal shows of its own accord: nobody's.
const EXAMPLES: [&str; 2] = ["+821012341234", "01012341234"];

/// Logs of these surroundings and metrics of the processes that run; nobody's secrets are in them.
pub async fn nothing_is_told(surroundings: &Surroundings, processes: &[&Process], apps: &Apps) {
    let tokens = apps.tokens();
    assert!(!tokens.is_empty(), "nobody called");
    // The last part of a token is its signature.
    let signatures: Vec<&str> = tokens.iter().filter_map(|token| token.rsplit('.').next()).collect();
    let mut texts = told(surroundings.folder.path());
    for process in processes {
        texts.push((process.name.clone(), process.metrics().await));
    }
    let found = texts.iter().flat_map(|(place, text)| found_in(place, text, &signatures));
    assert_eq!(found.collect::<Vec<_>>(), [""; 0]);
}

/// Everything the processes of a folder have left: their logs, their last metrics, and a summary. What was searched is noted for the table
/// of a campaign, in the folder `DISPATCH_SCANS`.
pub fn nothing_is_left(folder: &Path) {
    let texts = told(folder);
    let found: Vec<String> = texts.iter().flat_map(|(place, text)| found_in(place, text, &[])).collect();
    if let (Ok(scans), Some(name)) = (std::env::var("DISPATCH_SCANS"), folder.file_name()) {
        let bytes: usize = texts.iter().map(|(_, text)| text.len()).sum();
        let line = format!("{} {bytes} {}\n", texts.len(), found.len());
        // Temporary folders are hidden; what is noted is not.
        let name = name.to_string_lossy().trim_start_matches('.').to_owned();
        std::fs::write(Path::new(&scans).join(name), line).expect("the folder of the campaign is there");
    }
    assert_eq!(found, [""; 0]);
    assert!(texts.iter().any(|(_, text)| !text.is_empty()), "nothing was logged");
}

/// What a text tells of anybody.
pub fn found_in(place: &str, text: &str, signatures: &[&str]) -> Vec<String> {
    let exact = CANARIES.iter().chain(signatures).filter(|secret| text.contains(**secret));
    let exact = exact.map(|secret| format!("{place} tells {secret}"));
    let text = EXAMPLES.iter().fold(text.to_owned(), |text, example| text.replace(example, ""));
    let forms = FORMS.iter().filter_map(|(what, form)| {
        let found = form.find(&text)?.as_str();
        Some(format!("{place} tells {what}: {found}"))
    });
    exact.chain(forms).collect()
}

/// Texts of a folder by the files' names. Of metrics only what they are called: a sum of seconds may look like anything.
fn told(folder: &Path) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: PathBuf| {
        let kind = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_owned();
        let text = match kind.as_str() {
            "log" => std::fs::read_to_string(&path).unwrap(),
            "metrics" => labels(&std::fs::read_to_string(&path).unwrap()),
            _ => return None,
        };
        Some((path.display().to_string(), text))
    };
    entries.filter_map(read).collect()
}

fn labels(metrics: &str) -> String {
    let line = |line: &str| line.rsplit_once(' ').map_or_else(String::new, |(name, _)| format!("{name}\n"));
    metrics.lines().map(line).collect()
}

#[test]
fn secrets_are_known_by_their_form_and_times_and_ids_are_none() {
    let found = |text: &str| found_in("a log", text, &["signature"]).len();
    for secret in [
        "phone=01012345678",
        "call +82-10-1234-5678 back",
        "{\"lat\":37.566200}",
        "at 126.97841,",
        "Bearer eyJhbGciOiJFUzI1NiJ9.e30.x",
        "a signature",
        "카나리아로 7",
    ] {
        assert_eq!(found(secret), 1, "{secret}");
    }
    for harmless in [
        "2026-11-25T12:37:38.123456Z  INFO request",
        "dispatch#01JW3Q4X5Y6Z7A8B9C0D1E2F3G",
        "took_ms=38 shard-3.0001 after 000000000000000012345",
        "127.0.0.1:40110",
    ] {
        assert_eq!(found(harmless), 0, "{harmless}");
    }
}
