//! A file's text by what it is: code, string literals, comments.

use std::ops::Range;

use crate::production::blank;

/// Where the strings and comments of a file are.
#[derive(Debug, Clone, Default)]
pub struct Lexis {
    /// String literals with their quotes.
    pub strings: Vec<Range<usize>>,
    /// Comments, documentation included. Those with nothing but white space between them are one.
    pub comments: Vec<Range<usize>>,
}

impl Lexis {
    /// Reads the text of a file that the compiler accepts.
    pub fn new(text: &str) -> Self {
        let mut found = Self::default();
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let length = if let Some(length) = comment(rest) {
                found.add_comment(text, at..at + length);
                length
            } else if let Some(length) = string(rest) {
                found.strings.push(at..at + length);
                length
            } else if let Some(length) = character(rest) {
                length
            } else {
                // A name, so that a letter inside of it does not begin a raw string.
                rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count().max(1)
            };
            at += length;
        }
        found
    }

    /// The text without its comments, line for line.
    pub fn code(&self, text: &str) -> String {
        blank(text, &self.comments)
    }

    fn add_comment(&mut self, text: &str, comment: Range<usize>) {
        match self.comments.last_mut() {
            Some(last) if text[last.end..comment.start].trim().is_empty() => last.end = comment.end,
            _ => self.comments.push(comment),
        }
    }
}

/// The length of the comment at the beginning of some text.
fn comment(text: &[u8]) -> Option<usize> {
    if text.starts_with(b"//") {
        return Some(text.iter().take_while(|byte| **byte != b'\n').count());
    }
    if !text.starts_with(b"/*") {
        return None;
    }
    let (mut at, mut depth) = (2, 1);
    while depth > 0 && at < text.len() {
        let (length, change) = match &text[at..] {
            [b'/', b'*', ..] => (2, 1),
            [b'*', b'/', ..] => (2, -1),
            _ => (1, 0),
        };
        at += length;
        depth += change;
    }
    Some(at)
}

/// The length of the string literal at the beginning of some text.
fn string(text: &[u8]) -> Option<usize> {
    let prefix = [&b"br"[..], b"cr", b"b", b"c", b"r", b""].into_iter().find(|prefix| text.starts_with(prefix))?;
    let body = &text[prefix.len()..];
    if prefix.ends_with(b"r") {
        let marks = body.iter().take_while(|byte| **byte == b'#').count();
        let inside = body.get(marks + 1..).filter(|_| body.get(marks) == Some(&b'"'))?;
        let end: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', marks)).collect();
        let length = inside.windows(end.len()).position(|window| window == end)?;
        return Some(prefix.len() + marks + 1 + length + end.len());
    }
    let inside = body.strip_prefix(b"\"")?;
    let mut at = 0;
    while at < inside.len() && inside[at] != b'"' {
        at += if inside[at] == b'\\' { 2 } else { 1 };
    }
    Some(prefix.len() + 1 + at + 1)
}

/// The length of the character literal at the beginning of some text; a lifetime is none.
fn character(text: &[u8]) -> Option<usize> {
    let inside = text.strip_prefix(b"'")?;
    let first = match inside.first()? {
        b'\\' => 2,
        byte => (byte.leading_ones() as usize).max(1),
    };
    let rest = inside.get(first..)?;
    let closing = rest.iter().take(12).position(|byte| *byte == b'\'')?;
    (closing == 0 || first == 2 && inside[0] == b'\\').then_some(1 + first + closing + 1)
}

/// The line of a byte, from 1.
pub fn line_of(text: &str, byte: usize) -> usize {
    text.get(..byte).unwrap_or(text).matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r##"//! A file.
/// Says "why".
pub fn name() -> &'static str { "//no comment" }
fn is(&self, name: &str) -> bool { matches!(name, r#"서울"# | "it's") } /* 서울 */
pub const QUOTE: [char; 4] = ['"', '\\'', '\u{201c}', '가']; // last
fn borrow<'a>(name: &'a str, r#type: &'a str) -> bool { name == "a\"b" || br"\" == *b"" }
/* outer /* inner */ still */
"##;

    #[test]
    fn strings_and_comments_are_separated_from_code() {
        let lexis = Lexis::new(TEXT);
        let texts = |ranges: &[Range<usize>]| ranges.iter().map(|range| TEXT[range.clone()].trim()).collect::<Vec<_>>();
        let strings = ["\"//no comment\"", "r#\"서울\"#", "\"it's\"", r#""a\"b""#, r#"br"\""#, "b\"\""];
        assert_eq!(texts(&lexis.strings), strings);
        let comments = ["//! A file.\n/// Says \"why\".", "/* 서울 */", "// last", "/* outer /* inner */ still */"];
        assert_eq!(texts(&lexis.comments), comments);
        let code = lexis.code(TEXT);
        assert!(code.contains("['\"',") && !code.contains("why"), "{code}");
        assert_eq!(line_of(TEXT, TEXT.find("QUOTE").expect("it is there")), 5);
    }
}
