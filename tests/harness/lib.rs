//! Shared by the test suites: real services as child processes that end with the test, fakes, and recorders.

pub mod apiserver;
pub mod broken_keys;
pub mod deployments;
pub mod dice;
pub mod fake_aws;
pub mod forwarder;
pub mod kubelets;
pub mod ministack;
pub mod moto;
pub mod operator;
pub mod recorder;
pub mod redis;
mod server;
pub mod streams;
pub mod support;
