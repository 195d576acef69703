//! Makes text from outside safe for statuses, terminals and logs. Pure.

use std::fmt::Write as _;

/// Limit of a message, in bytes. A status has about ten conditions, and Kubernetes limits the size of an object. The
/// full text is in the stack's events.
pub const MESSAGE_MAX: usize = 1024;
/// Replaces the truncated rest of a message.
const CUT: &str = "…";

/// One line of printable text of at most [`MESSAGE_MAX`] bytes. Line breaks and tabs become spaces; other characters
/// that control a terminal or reorder text are escaped. The input comes from AWS and contains names and values that
/// users chose.
pub fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(MESSAGE_MAX));
    // Length of the prefix that still leaves room for `CUT`.
    let mut fits = 0;
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => shown.push(' '),
            c if steers(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
        if shown.len() <= MESSAGE_MAX - CUT.len() {
            fits = shown.len();
        }
        if shown.len() > MESSAGE_MAX {
            shown.truncate(fits);
            shown.push_str(CUT);
            break;
        }
    }
    shown
}

/// At most `max` characters of a text, and a mark if there were more.
pub fn shortened(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((at, _)) => format!("{}{CUT}", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// A text in which each character that controls a terminal or reorders text is escaped, line breaks included.
pub fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) { printable.extend(c.escape_unicode()) } else { printable.push(c) }
    }
    printable
}

/// Text of several lines for a terminal: line breaks stay, and each other character that controls a terminal or
/// reorders text is escaped.
pub fn terminal(text: &str) -> String {
    let mut terminal = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '\n' && steers(c) { terminal.extend(c.escape_unicode()) } else { terminal.push(c) }
    }
    terminal
}

/// JSON for a terminal: the same document, with each character that steers as an escape sequence of JSON. Outside of
/// strings, JSON has none but line breaks.
pub fn terminal_json(json: &str) -> String {
    let mut terminal = String::with_capacity(json.len());
    for c in json.chars() {
        // All characters that steer are in the basic plane, so each is one unit of UTF-16.
        if c != '\n' && steers(c) {
            let code = u32::from(c);
            // A string takes every text.
            let _ = write!(terminal, "\\u{code:04x}");
        } else {
            terminal.push(c);
        }
    }
    terminal
}

/// Control characters, and those that change the direction of text (Unicode annex 9, "Directional Formatting
/// Characters").
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn control_and_direction_characters_are_escaped() {
        assert_eq!(shown("red \u{1b}[31mtext\r\nnext\tcell"), "red \\u{1b}[31mtext  next cell");
        assert_eq!(shown("abc\u{202e}cba"), "abc\\u{202e}cba");
        assert_eq!(shown("테이블이 이미 있습니다"), "테이블이 이미 있습니다");
        assert_eq!(printable("a\nb\u{1b}서울"), "a\\u{a}b\\u{1b}서울");
        assert_eq!(terminal("a\nb\u{1b}[2J\r서울"), "a\nb\\u{1b}[2J\\u{d}서울");
    }

    #[test]
    fn a_text_within_the_limit_is_not_truncated() {
        for length in [MESSAGE_MAX - 4, MESSAGE_MAX - 1, MESSAGE_MAX] {
            assert_eq!(shown(&"x".repeat(length)).len(), length);
        }
        assert!(shown(&"x".repeat(MESSAGE_MAX + 1)).ends_with("x…"));
    }

    proptest! {
        #[test]
        fn json_for_a_terminal_is_the_same_document(text in any::<String>()) {
            let document = serde_json::json!({ "text": text });
            let shown = terminal_json(&serde_json::to_string_pretty(&document).unwrap());
            prop_assert!(!shown.chars().any(|c| c != '\n' && steers(c)));
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), document);
        }

        #[test]
        fn every_text_fits_and_a_harmless_one_is_unchanged(text in any::<String>(), times in 1_usize..200) {
            let text = text.repeat(times);
            let shown = shown(&text);
            prop_assert!(shown.len() <= MESSAGE_MAX);
            prop_assert!(!shown.chars().any(steers));
            if text.len() <= MESSAGE_MAX && !text.chars().any(steers) {
                prop_assert_eq!(shown, text);
            }
        }
    }
}
