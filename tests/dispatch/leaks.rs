//! Searches logs, metrics and answers of the processes for phone numbers, positions, addresses and tokens.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

/// Secrets of the test rides, which may appear in documents of the API only: phone numbers, positions, addresses.
pub(crate) const CANARIES: [&str; 10] = [
    "01098761234",
    "01012348765",
    "37.512349",
    "127.012654",
    "37.513912",
    "127.013377",
    "37.521357",
    "127.024689",
    "카나리아로",
    "비밀골목",
];

/// Forms of secrets, because simulated traffic draws its own. Digits after a number and a colon are a time of day.
static FORMS: LazyLock<[(&str, Regex); 3]> = LazyLock::new(|| {
    let form = |pattern| Regex::new(pattern).expect("a pattern");
    [
        ("a phone number", form(r"(^|[^0-9A-Za-z._-])(\+?82-?|0)1[016-9]-?\d{3,4}-?\d{4}($|[^0-9A-Za-z_-])")),
        ("a position", form(r"(^|[^0-9A-Za-z:._-]|[^0-9]:)(3[3-8]|12[4-9]|13[01])\.\d{4,}")),
        ("a token", form(r"eyJ[A-Za-z0-9_-]{8,}")),
    ]
});

/// Phone numbers that validation errors show as examples.
const EXAMPLES: [&str; 2] = ["+821012341234", "01012341234"];

/// Fails if the logs or the last metrics of the processes of a folder contain a secret. In a campaign, records the
/// amount that was searched in the folder `DISPATCH_SCANS`, for its table.
pub(crate) fn assert_no_secrets_in(folder: &Path) {
    let texts = texts_in(folder);
    let found: Vec<String> = texts.iter().flat_map(|(place, text)| found_in(place, text, &[])).collect();
    if let (Ok(scans), Some(name)) = (std::env::var("DISPATCH_SCANS"), folder.file_name()) {
        let bytes: usize = texts.iter().map(|(_, text)| text.len()).sum();
        let line = format!("{} {bytes} {}\n", texts.len(), found.len());
        // A temporary folder's name begins with a dot; the shell's `*` would not match it.
        let name = name.to_string_lossy().trim_start_matches('.').to_owned();
        std::fs::write(Path::new(&scans).join(name), line).expect("the folder of the campaign exists");
    }
    assert_eq!(found, [""; 0]);
    assert!(texts.iter().any(|(_, text)| !text.is_empty()), "nothing was logged");
}

/// The secrets that a text contains.
pub(crate) fn found_in(place: &str, text: &str, signatures: &[&str]) -> Vec<String> {
    let exact = CANARIES.iter().chain(signatures).filter(|secret| text.contains(**secret));
    let exact = exact.map(|secret| format!("{place} contains {secret}"));
    let text = EXAMPLES.iter().fold(text.to_owned(), |text, example| text.replace(example, ""));
    let forms = FORMS.iter().filter_map(|(what, form)| {
        let found = form.find(&text)?.as_str();
        Some(format!("{place} contains {what}: {found}"))
    });
    exact.chain(forms).collect()
}

/// The texts of a folder, by file. Of metrics only names and labels, because a value may look like a position.
pub(crate) fn texts_in(folder: &Path) -> Vec<(String, String)> {
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
fn secrets_are_recognised_by_their_form_and_times_and_ids_are_not() {
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
