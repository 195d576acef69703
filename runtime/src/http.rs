//! The HTTP API.

pub mod dto;
