//! The ports on real services: DynamoDB, Redis, SQS, SNS and routers, each beside its fake for tests.

pub mod aws;
pub mod clock;
pub mod eta;
pub mod fleet;
pub mod messaging;
pub mod store;
