//! What is said about a value that is refused.

use std::fmt;

/// Longest part of a refused value that is shown; the path leads to the rest.
const SHOWN_CHARS_MAX: usize = 80;

/// One refused field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path from the root of the object, for example `spec.queues.offers.retentionSeconds`.
    pub path: String,
    /// What was found, as a person would write it. `None` where the field is missing, and where the value may hold a
    /// secret.
    pub value: Option<String>,
    /// What is allowed, or which rule is broken.
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

/// Everything that is wrong with one object, at least one error; `Display` has one line for each.
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

/// Collects errors, so that one run tells a person everything.
#[derive(Default)]
pub(crate) struct Findings(Vec<FieldError>);

impl Findings {
    /// Refuses `value`.
    pub(crate) fn refuse(&mut self, path: &str, value: impl fmt::Display, allowed: impl Into<String>) {
        let value = value.to_string();
        let shown = match value.char_indices().nth(SHOWN_CHARS_MAX) {
            Some((end, _)) => format!("{}…", &value[..end]),
            None if value.is_empty() => "an empty text".to_owned(),
            None => value,
        };
        self.0.push(FieldError { path: path.to_owned(), value: Some(shown), allowed: allowed.into() });
    }

    /// Refuses a field without repeating its value: it is missing, or it may hold a secret.
    pub(crate) fn say(&mut self, path: &str, what: impl Into<String>) {
        self.0.push(FieldError { path: path.to_owned(), value: None, allowed: what.into() });
    }

    /// The field at `path`, to speak of.
    pub(crate) fn at<'a>(&'a mut self, path: &'a str) -> Field<'a> {
        Field { findings: self, path }
    }

    /// Whether something was refused at `path` or below it.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.0.iter().any(|error| {
            error.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// Whether nothing was refused.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `Ok` when nothing was refused.
    pub(crate) fn finish(self) -> Result<(), ValidationErrors> {
        if self.0.is_empty() { Ok(()) } else { Err(ValidationErrors(self.0)) }
    }
}

/// A field under examination.
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

    /// Refuses every value of a list that `is_allowed` refuses.
    pub(crate) fn each(&mut self, list: &[String], is_allowed: fn(&str) -> bool, allowed: &str) {
        for (index, value) in list.iter().enumerate().filter(|(_, value)| !is_allowed(value)) {
            self.findings.refuse(&format!("{}[{index}]", self.path), value, allowed);
        }
    }
}
