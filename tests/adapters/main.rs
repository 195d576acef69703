//! Contract suites of the ports: each runs on the in-memory adapter and on the real one.

#![cfg(test)]

mod black_hole;
mod eta;
mod fleet;
mod messaging;
mod races;
mod store;
mod stream;

use dispatch_tests::support;
