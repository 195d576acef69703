//! The data plane of Coactus Dispatch: the long-lived workers that dispatch one city's rides.

pub mod city;
pub mod engine;
pub mod fleet;
pub mod http;
pub mod metrics;
pub mod port;
pub mod store;
