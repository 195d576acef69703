//! What only tests use. Fakes of ports are beside their adapters.

pub mod faults;
