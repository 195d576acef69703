//! What a process says of itself: log lines, metrics, and whether its loops still come round.

pub mod heartbeat;
mod logging;
pub mod metrics;

pub use logging::init;
