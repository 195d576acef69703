//! The runtime of Coactus Dispatch: the long-running workers that dispatch the rides of one city.

pub mod adapters;
pub mod args;
pub mod auth;
pub mod city;
pub mod engine;
pub mod explain;
pub mod http;
pub mod ports;
pub mod roles;
pub mod run;
pub mod stream;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
