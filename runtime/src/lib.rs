//! The data plane of Coactus Dispatch: the long-lived workers that dispatch one city's rides.

pub mod args;
pub mod auth;
pub mod aws;
pub mod city;
pub mod clock;
pub mod engine;
pub mod eta;
pub mod explain;
#[cfg(any(test, feature = "testing"))]
pub mod faults;
pub mod fleet;
pub mod http;
pub mod local_keys;
pub mod messaging;
pub mod metrics;
pub mod port;
pub mod pulse;
pub mod roles;
pub mod run;
pub mod simulate;
pub mod store;
pub mod stream;
pub mod telemetry;
