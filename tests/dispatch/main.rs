//! The data plane under faults: what a city can depend on.

#![cfg(test)]

mod conformance;
mod once;
mod pool;
mod streams;
mod support;
