//! The audit trail: log lines of the target `audit` that say who read or changed whose data, and with what result. They
//! contain ids, and never a position, an address, a phone number or a name.

/// The target of audit lines, by which `RUST_LOG` and log collectors select them.
pub const AUDIT: &str = "audit";

/// Objects in one line. A page of a list has at most 100 dispatches, each with one other person.
const OBJECTS_MAX: usize = 256;

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditOutcome {
    /// It took effect.
    Done,
    /// It was refused, and the subject learned nothing about the object.
    Refused,
    /// It failed. A change may have taken effect.
    Failed,
    /// The connection ended or the time was over before there was a result. A change may have taken effect.
    Unknown,
}

impl AuditOutcome {
    /// The outcome of a request by the status of its response.
    pub fn from_status(status: u16) -> Self {
        match status {
            ..400 => Self::Done,
            400..500 => Self::Refused,
            _ => Self::Failed,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// One line of the audit trail.
pub struct AuditLine<'a> {
    /// The issuer's id of the caller, or the id of a person to whom data was delivered.
    pub subject: &'a str,
    /// The `operationId` in the OpenAPI document.
    pub operation: &'a str,
    /// Ids of the persons and dispatches concerned.
    pub objects: &'a [String],
    pub outcome: AuditOutcome,
}

impl AuditLine<'_> {
    /// Writes the line.
    pub fn write(&self) {
        let shown = &self.objects[..self.objects.len().min(OBJECTS_MAX)];
        let object = if shown.is_empty() { "-".to_owned() } else { shown.join(",") };
        let (subject, operation, outcome) = (self.subject, self.operation, self.outcome.as_str());
        tracing::info!(target: AUDIT, subject, operation, object, outcome, "audit");
    }
}
