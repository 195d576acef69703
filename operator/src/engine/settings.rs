//! Settings of one run of the engine: mode, approvals, secrets, limits of waits.

use std::sync::Arc;
use std::time::Duration;

use dispatch_api::dispatch_system::DispatchSystemStatus;

use crate::engine::plan::Approval;
use crate::engine::plan::ownership::Adoption;
use crate::engine::plan::table_names::TableNames;
use crate::engine::secrets::Secrets;

/// Whether to detect drift. It costs additional calls, so the controller does so every `driftIntervalSeconds` of the
/// spec and not at every reconcile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriftDetection {
    Skip,
    /// Detect drift, and correct or report it according to `driftPolicy`.
    #[default]
    Look,
}

/// Which resources of the stack a check of their existence covers. Checks are due together with drift detection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExistenceCheck {
    #[default]
    All,
    /// Those that rides depend on every time, the others in rotation over about half a day.
    Rotation,
}

/// Whether the plan is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Apply the plan, subject to policies and approvals.
    #[default]
    CarryOut,
    /// Only compute the plan, even if it is approved.
    DryRun,
}

/// Whether to retry an input that failed before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetryPolicy {
    #[default]
    TryAgain,
    /// Do not retry until the spec changes.
    Refuse,
}

/// Who approves plans that need an approval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Approver {
    /// The author of the system.
    #[default]
    Author,
    /// Another person, who may write the namespace. A deletion that deletes data needs an approval as well.
    Second,
}

/// Limits concurrent stack operations.
pub trait OperationGate: std::fmt::Debug + Send + Sync {
    /// Whether the caller may start a stack operation now.
    fn try_acquire(&self) -> bool;
}

/// Limits of a wait for CloudFormation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitPolicy {
    /// First pause between two polls. Each following pause is twice as long.
    pub first: Duration,
    /// Maximum pause.
    pub longest: Duration,
    /// Total time to wait. The operation itself continues afterwards.
    pub total: Duration,
}

impl Default for WaitPolicy {
    /// A replication group takes 10 to 20 minutes; more than an hour indicates a problem.
    fn default() -> Self {
        Self { first: Duration::from_secs(1), longest: Duration::from_secs(10), total: Duration::from_hours(1) }
    }
}

/// Settings of one reconcile.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub mode: Mode,
    pub approval: Approval,
    /// The secrets that the spec names.
    pub secrets: Secrets,
    pub drift: DriftDetection,
    pub existence: ExistenceCheck,
    pub retry_policy: RetryPolicy,
    pub wait_policy: WaitPolicy,
    /// Whether to adopt a stack or retained data of another owner.
    pub adoption: Adoption,
    /// Table names that a spec may choose besides the system's own.
    pub table_names: TableNames,
    /// Who approves plans and deletions.
    pub approver: Approver,
    /// Limit of concurrent stack operations; `None` is no limit.
    pub gate: Option<Arc<dyn OperationGate>>,
    /// Logical ids of failed resources that may be skipped.
    pub skip: Vec<String>,
    /// Status of the last reconcile.
    pub previous: Option<DispatchSystemStatus>,
}
