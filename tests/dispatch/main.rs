//! The data plane under faults. `README.md` lists the behaviours and the tests of each.

#![cfg(test)]

mod batched;
mod bench;
mod conformance;
mod degraded;
mod drain;
mod economy;
mod killed;
mod leaks;
mod ledger;
mod once;
mod overload;
mod pool;
mod process;
mod readme;
mod refusals;
mod sometimes;
mod streams;
mod support;
mod trip;
