//! Telemetry of a process: logs, metrics, and the heartbeats of its loops.

pub mod heartbeat;
mod logging;
pub mod metrics;

pub use logging::init;
