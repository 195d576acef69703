//! What the suites share: real services as children that die with the test.

pub mod apiserver;
pub mod deployments;
pub mod ministack;
pub mod moto;
pub mod operator;
pub mod recorder;
pub mod redis;
mod server;
