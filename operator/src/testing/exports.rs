//! In-memory exports with DynamoDB's token rules.

use jiff::{SignedDuration, Timestamp};

use crate::cloud::ports::{Export, ExportExtent, ExportRequest, PortError, PortErrorKind};

/// Validity of a token (DynamoDB API reference, `ClientToken`).
const TOKEN_COUNTS: SignedDuration = SignedDuration::from_hours(8);

/// The exports of an account.
pub struct FakeExports {
    /// DynamoDB's clock.
    pub now: Timestamp,
    /// How exports end: `None` while they are in progress, otherwise completion, or failure for this reason.
    pub end: Option<Result<(), String>>,
    /// Error for every further request.
    pub refusal: Option<(PortErrorKind, String)>,
    /// Requests that started an export.
    pub started: Vec<ExportRequest>,
    exports: Vec<Export>,
}

impl Default for FakeExports {
    fn default() -> Self {
        let now = Timestamp::from_second(1_714_618_800).unwrap_or(Timestamp::UNIX_EPOCH);
        Self { now, end: Some(Ok(())), refusal: None, started: Vec::new(), exports: Vec::new() }
    }
}

impl FakeExports {
    pub(super) fn start(&mut self, request: &ExportRequest) -> Result<Export, PortError> {
        if let Some((kind, text)) = &self.refusal {
            return Err(PortError::new("start an export", *kind, text.clone()));
        }
        let counts = |export: &Export| {
            let age = export.started.map(|started| self.now.duration_since(started));
            export.token.as_ref() == Some(&request.token) && age.is_some_and(|age| age < TOKEN_COUNTS)
        };
        if let Some(same) = self.exports.iter().position(counts) {
            if self.started[same] != *request {
                let text = "ExportConflictException: another request used this token";
                return Err(PortError::new("start an export", PortErrorKind::AlreadyExists, text));
            }
            return Ok(self.exports[same].clone());
        }
        let (from, time) = match request.extent {
            ExportExtent::Full => (None, Some(self.now)),
            ExportExtent::Incremental { from, to } => (Some(from), Some(to)),
        };
        let number = self.exports.len();
        let export = Export {
            arn: format!("{}/export/{:017}-{number:08x}", request.table_arn, self.now.as_millisecond()),
            state: "IN_PROGRESS".to_owned(),
            token: Some(request.token.clone()),
            started: Some(self.now),
            ended: None,
            from,
            time,
            billed_bytes: None,
            item_count: None,
            manifest: None,
            failure: None,
        };
        self.exports.push(export.clone());
        self.started.push(request.clone());
        Ok(export)
    }

    /// The first read of an export still finds it in progress.
    pub(super) fn read(&mut self, arn: &str) -> Result<Export, PortError> {
        let missing = || PortError::new("describe an export", PortErrorKind::NotFound, "no such export");
        let found = self.exports.iter_mut().find(|export| export.arn == arn).ok_or_else(missing)?;
        let seen = found.clone();
        if found.state == "IN_PROGRESS"
            && let Some(end) = &self.end
        {
            found.ended = Some(self.now);
            match end {
                Ok(()) => {
                    "COMPLETED".clone_into(&mut found.state);
                    found.item_count = Some(3);
                }
                Err(why) => {
                    "FAILED".clone_into(&mut found.state);
                    found.failure = Some(why.clone());
                }
            }
        }
        Ok(seen)
    }

    pub(super) fn arns(&self) -> Vec<String> {
        self.exports.iter().map(|export| export.arn.clone()).collect()
    }
}
