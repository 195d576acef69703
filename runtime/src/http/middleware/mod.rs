//! The middleware that every request passes before its handler.

pub mod auth;
pub mod limits;
pub mod rate_limit;
pub mod request;
