//! Helpers for tests. Fakes of ports are beside their adapters.

pub mod faults;
