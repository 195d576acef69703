//! The data plane under faults. `README.md` lists the behaviours and the tests of each.

#![cfg(test)]

mod abuse;
mod batched;
mod bench;
mod clocks;
mod conformance;
mod degraded;
mod drain;
mod economy;
mod fares;
mod fuzzed;
mod gate;
mod hostile;
mod javascript;
mod killed;
mod leaks;
mod ledger;
mod memory;
mod mutator;
mod once;
mod overload;
mod poison;
mod pool;
mod presence;
mod privacy;
mod process;
mod proxy;
mod push;
mod readme;
mod redis_faults;
mod refusals;
mod sometimes;
mod streams;
mod support;
mod tls;
mod trip;
