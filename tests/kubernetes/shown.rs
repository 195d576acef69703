//! Normalizes the output of `kubectl`: replaces what differs from run to run.

use regex::{Captures, Regex};

fn replaced(text: &str, pattern: &str, by: &str) -> String {
    Regex::new(pattern).expect("a pattern").replace_all(text, by).into_owned()
}

fn settled(text: &str) -> String {
    let text = replaced(text, r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME");
    let text = replaced(&text, r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID");
    let text = replaced(&text, r"Role-[0-9A-F]{9,}", "Role-SUFFIX");
    let text = replaced(&text, r"\b[0-9a-f]{64}\b", "DIGEST");
    let text = replaced(&text, r"localhost:\d+", "localhost:PORT");
    // A plan id is derived from the template; the emulator's account id has the same length and is kept.
    let plan = Regex::new(r"\b[0-9a-f]{12}\b").expect("a pattern");
    let kept = |found: &Captures<'_>| if &found[0] == "000000000000" { found[0].to_owned() } else { "PLAN".to_owned() };
    plan.replace_all(&text, kept).into_owned()
}

/// A table with cells separated by bars: the width of a column depends on the longest age in it.
pub(crate) fn table(text: &str) -> String {
    let cells = |line: &str| {
        let line = replaced(line.trim_end(), r" {2,}", " | ");
        replaced(&line, r"(^| \| )(\d+[smhd])+( \| |$)", "${1}AGE${3}")
    };
    settled(&text.lines().map(cells).collect::<Vec<_>>().join("\n"))
}

/// The output of `kubectl describe` from the status on. Events are sorted and deduplicated, because several have the
/// same second.
pub(crate) fn described(text: &str) -> String {
    let status = text.find("\nStatus:").map_or(text, |start| &text[start + 1..]);
    let (status, events) = status.split_once("\nEvents:\n").unwrap_or((status, ""));
    let once = |line: &str| table(&replaced(line.trim(), r" \(x\d+ over [^)]*\)", ""));
    let mut events: Vec<String> = events.lines().map(once).collect();
    events.sort();
    events.dedup();
    let settled = settled(&replaced(status, r"(?m): {2,}", ": "));
    format!("{settled}\nEvents:\n{}\n", events.join("\n"))
}
