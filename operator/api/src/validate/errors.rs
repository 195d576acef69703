//! Errors of validation.

use std::fmt;

/// Maximum number of characters of a refused value in an error message.
const SHOWN_CHARS_MAX: usize = 80;

/// A refused field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path from the root of the object, for example `spec.queues.offers.retentionSeconds`.
    pub path: String,
    /// The refused value, as written in the manifest. `None` if the field is missing or if the value may contain a
    /// secret.
    pub value: Option<String>,
    /// What is allowed, or the violated rule.
    pub allowed: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}: {value} is not allowed: {}", self.path, self.allowed),
            None => write!(f, "{}: {}", self.path, self.allowed),
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

/// Collects errors, so that one run reports all of them.
#[derive(Default)]
pub(crate) struct Findings(Vec<FieldError>);

impl Findings {
    /// Refuses `value`.
    pub(crate) fn refuse(&mut self, path: &str, value: impl fmt::Display, allowed: impl Into<String>) {
        let value = value.to_string();
        let shown = match value.char_indices().nth(SHOWN_CHARS_MAX) {
            Some((end, _)) => format!("{}…", &value[..end]),
            None if value.is_empty() => "an empty string".to_owned(),
            None => value,
        };
        self.0.push(FieldError { path: path.to_owned(), value: Some(shown), allowed: allowed.into() });
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
