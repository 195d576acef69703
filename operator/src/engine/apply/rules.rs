//! Whether the stack may be created or updated. Nothing is changed here, so that a plan says what an apply would.

use dispatch_api::conditions::Reason;
use dispatch_api::validate::ValidatedSystem;

use crate::cloud::ports::{PortError, Ports};
use crate::cloud::stack::{OnExisting, StackDescription};
use crate::engine::observe;
use crate::engine::outcome::Verdict;
use crate::engine::plan::ownership::Adoption;
use crate::engine::plan::table_names::{self, TableNames};
use crate::engine::plan::template::outputs;
use crate::engine::plan::{ImportRefusal, RetainedData, importable};

/// What a run may do for a system.
pub(crate) struct Rules<'a> {
    pub system: &'a ValidatedSystem,
    pub ports: &'a Ports,
    /// AWS account of the stack.
    pub account: &'a str,
    pub adoption: &'a Adoption,
    pub table_names: &'a TableNames,
}

/// How a stack is created.
pub(crate) struct Creation {
    /// Whether it imports retained data.
    pub existing: OnExisting,
    /// The retained data.
    pub kept: RetainedData,
}

impl Rules<'_> {
    /// How the stack may be created, or the verdict that refuses it. Reads table and bucket.
    pub(crate) async fn creation(&self) -> Result<Result<Creation, Verdict>, PortError> {
        let kept = observe::kept(self.system, self.ports, self.account).await?;
        // A table that exists is the system's own, or needs a consent of its own.
        if kept.table.is_none()
            && let Some(verdict) = self.table_name()
        {
            return Ok(Err(verdict));
        }
        let (reason, message) = match importable(self.system, &kept, self.adoption) {
            Ok(existing) => return Ok(Ok(Creation { existing, kept })),
            Err(ImportRefusal::Another(text)) => (Reason::OwnedByAnother, text),
            Err(ImportRefusal::Unfit(text)) => (Reason::NotAdoptable, text),
        };
        Ok(Err(Verdict::Refused { reason, message }))
    }

    /// The verdict that refuses an update of the stack; `None` if it is allowed.
    pub(crate) fn update_refusal(&self, found: Option<&StackDescription>) -> Option<Verdict> {
        // The name is immutable, but the status that records it may be lost.
        let recorded = found.and_then(|stack| stack.outputs.get(outputs::TABLE_NAME));
        if recorded == Some(&self.system.names.table) { None } else { self.table_name() }
    }

    fn table_name(&self) -> Option<Verdict> {
        let message = table_names::refusal(self.system, self.table_names)?;
        Some(Verdict::Refused { reason: Reason::TableNameNotAllowed, message })
    }
}
