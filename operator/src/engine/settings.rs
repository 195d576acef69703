//! How one run of the engine is carried out: mode, approvals, secrets, bounds of waits.

use std::sync::Arc;
use std::time::Duration;

use dispatch_api::dispatch_system::DispatchSystemStatus;

use crate::engine::plan::Approval;
use crate::engine::plan::ownership::Adoption;
use crate::engine::secrets::Secrets;

/// Whether the parts that drift (queue attributes) are looked at. They cost a call each, so a controller looks at the
/// manifest's `driftIntervalSeconds` and not at every reconcile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriftDetection {
    /// Not this time.
    Skip,
    /// Look, and correct or report as the manifest says.
    #[default]
    Look,
}

/// Whether anything is carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Yes, as far as policies and approvals allow.
    #[default]
    CarryOut,
    /// No: the plan is made and shown, whatever is approved.
    DryRun,
}

/// What to do with an input that failed before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetryPolicy {
    /// Try it again: somebody asked for it.
    #[default]
    TryAgain,
    /// Leave it until the manifest changes.
    Refuse,
}

/// Asked before an operation of a stack is begun.
pub trait OperationGate: std::fmt::Debug + Send + Sync {
    /// Whether it may begin now.
    fn try_acquire(&self) -> bool;
}

/// Bounds of a wait for CloudFormation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitPolicy {
    /// First pause between two looks; it doubles.
    pub first: Duration,
    /// Longest pause.
    pub longest: Duration,
    /// When to give up waiting (the operation itself goes on).
    pub total: Duration,
}

impl Default for WaitPolicy {
    /// A replication group takes 10 to 20 minutes; an hour means something is wrong.
    fn default() -> Self {
        Self { first: Duration::from_secs(1), longest: Duration::from_secs(10), total: Duration::from_hours(1) }
    }
}

/// How one reconcile is to be done.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Is anything carried out?
    pub mode: Mode,
    /// What a person has approved.
    pub approval: Approval,
    /// Secrets the manifest names.
    pub secrets: Secrets,
    /// Look for drift?
    pub drift: DriftDetection,
    /// Failed before: again?
    pub retry_policy: RetryPolicy,
    /// Bounds of waits.
    pub wait_policy: WaitPolicy,
    /// May a stack, or kept data, that is somebody else's be taken over?
    pub adoption: Adoption,
    /// Says when an operation may begin; without one, at once.
    pub gate: Option<Arc<dyn OperationGate>>,
    /// Logical ids of resources that may be left behind where CloudFormation has failed at them.
    pub skip: Vec<String>,
    /// Status of the last reconcile, for the times of conditions that did not change.
    pub previous: Option<DispatchSystemStatus>,
}
