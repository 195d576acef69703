//! The runtime of Coactus Dispatch: the long-running workers that dispatch the rides of one city.

pub mod args;
pub mod auth;
pub mod aws;
pub mod city;
pub mod engine;
pub mod eta;
pub mod explain;
pub mod fleet;
pub mod http;
pub mod messaging;
pub mod ports;
pub mod roles;
pub mod run;
pub mod store;
pub mod stream;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
