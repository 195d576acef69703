//! Errors of validation.

use std::fmt;

/// Maximum number of characters of a refused value in an error message.
const SHOWN_CHARS_MAX: usize = 80;

/// A refused field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path from the root of the object, for example `spec.queues.offers.retentionSeconds`.
    pub path: String,
    /// The refused value. It has quotes unless it is a single word, and steers no terminal. `None` if the field is
    /// missing or if the value may contain a secret.
    pub value: Option<String>,
    /// What is allowed, or the violated rule.
    pub allowed: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}: {value} is not allowed: {}", printable(&self.path), self.allowed),
            None => write!(f, "{}: {}", printable(&self.path), self.allowed),
        }
    }
}

/// All errors of one object, at least one. `Display` prints one line per error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidationErrors(pub Vec<FieldError>);

impl fmt::Display for ValidationErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ValidationErrors {}

/// A text in quotes, without characters that steer a terminal.
pub(crate) fn quoted(text: &str) -> String {
    format!("{:?}", shortened(text))
}

fn shortened(text: &str) -> String {
    text.char_indices().nth(SHOWN_CHARS_MAX).map_or_else(|| text.to_owned(), |(end, _)| format!("{}…", &text[..end]))
}

/// Escapes what is not printed as it is, because it controls a terminal or changes the direction of text.
fn printable(text: &str) -> String {
    let escaped = |c: char| if matches!(c, '"' | '\'' | '\\') { c.to_string() } else { c.escape_debug().to_string() };
    text.chars().map(escaped).collect()
}

/// Collects errors, so that one run reports all of them.
#[derive(Default)]
pub(crate) struct Findings(Vec<FieldError>);

impl Findings {
    /// Refuses `value`.
    pub(crate) fn refuse(&mut self, path: &str, value: impl fmt::Display, allowed: impl Into<String>) {
        let value = value.to_string();
        let word = value.chars().all(|c| c.is_alphanumeric() || (c.is_ascii_punctuation() && c != '"'));
        let shown = match value.as_str() {
            "" => "an empty string".to_owned(),
            word_or_number if word => shortened(word_or_number),
            text => quoted(text),
        };
        self.describe(path, shown, allowed);
    }

    /// Refuses a value by a description.
    pub(crate) fn describe(&mut self, path: &str, shown: impl Into<String>, allowed: impl Into<String>) {
        self.0.push(FieldError { path: path.to_owned(), value: Some(shown.into()), allowed: allowed.into() });
    }

    /// Refuses a field without repeating its value, which is missing or may contain a secret.
    pub(crate) fn say(&mut self, path: &str, what: impl Into<String>) {
        self.0.push(FieldError { path: path.to_owned(), value: None, allowed: what.into() });
    }

    /// A check of the field at `path`.
    pub(crate) fn at<'a>(&'a mut self, path: &'a str) -> Field<'a> {
        Field { findings: self, path }
    }

    /// Whether the field at `path` or a field below it was refused.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.0.iter().any(|error| {
            error.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// Whether each of these errors is about the same field as one of `others`.
    pub(crate) fn are_among(&self, others: &[FieldError]) -> bool {
        self.0.iter().all(|error| others.iter().any(|other| other.path == error.path))
    }

    /// Whether nothing was refused.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `Ok` if nothing was refused.
    pub(crate) fn finish(self) -> Result<(), ValidationErrors> {
        if self.0.is_empty() { Ok(()) } else { Err(ValidationErrors(self.0)) }
    }
}

/// A field that is being checked.
pub(crate) struct Field<'a> {
    findings: &'a mut Findings,
    path: &'a str,
}

impl Field<'_> {
    /// Refuses `value` unless `ok`.
    pub(crate) fn require(&mut self, ok: bool, value: impl fmt::Display, allowed: &str) {
        if !ok {
            self.findings.refuse(self.path, value, allowed);
        }
    }

    /// Refuses each item of a list for which `is_allowed` is false.
    pub(crate) fn each(&mut self, list: &[String], is_allowed: fn(&str) -> bool, allowed: &str) {
        for (index, value) in list.iter().enumerate().filter(|(_, value)| !is_allowed(value)) {
            self.findings.refuse(&format!("{}[{index}]", self.path), value, allowed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_values_and_paths_steer_no_terminal_and_show_where_they_end() {
        let mut found = Findings::default();
        found.refuse("spec.timezone", "Asia/Soul", "a zone");
        found.refuse("spec.timezone", "Asia/Seoul\u{a0}", "a zone");
        found.refuse("spec.timezone", "\u{1b}[31mRED\u{7}\nAsia", "a zone");
        found.refuse("spec.city", "서울", "a name");
        found.refuse("spec.city", "", "a name");
        found.refuse("spec.city", "a".repeat(200), "a name");
        found.say("spec.\u{1b}[2Jx\u{202e}", "unknown field");
        let shown = found.finish().unwrap_err().to_string();
        let long = format!("spec.city: {}… is not allowed: a name", "a".repeat(SHOWN_CHARS_MAX));
        let expected = [
            "spec.timezone: Asia/Soul is not allowed: a zone",
            "spec.timezone: \"Asia/Seoul\\u{a0}\" is not allowed: a zone",
            "spec.timezone: \"\\u{1b}[31mRED\\u{7}\\nAsia\" is not allowed: a zone",
            "spec.city: 서울 is not allowed: a name",
            "spec.city: an empty string is not allowed: a name",
            &long,
            "spec.\\u{1b}[2Jx\\u{202e}: unknown field",
        ];
        assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
    }
}
