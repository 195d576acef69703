//! The middleware that every request passes before its handler.

pub(crate) mod audit;
pub(crate) mod auth;
pub(crate) mod limits;
pub(crate) mod rate_limit;
pub(crate) mod request;
mod trail;
