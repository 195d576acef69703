//! Telemetry of a process: logs, the audit trail, metrics, and the heartbeats of its loops.

mod audit;
pub mod heartbeat;
mod logging;
pub mod metrics;
mod unreadable;

pub use audit::{AUDIT, AuditLine, AuditOutcome};
pub use logging::init;
