//! The clock of the Redis server, by which everything in the cache is dated.
//!
//! Freshness and the order of pings compare times that different workers wrote. By their own clocks, one worker that is
//! ahead would drop the drivers of all others and win against their pings. So each worker translates its time to that
//! of the server, which all of them share. How far they differ is measured with every probe.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use dispatch_core::time::EpochMs;

use crate::ports::Clock;

/// Smaller differences are not corrected: they are within the error of the measurement, and a step back in time would
/// put a driver's pings out of order.
const DIFFERENCE_MIN_MS: i64 = 1000;

/// How far the server's clock is ahead of this machine's, ms. 0 until it was measured.
#[derive(Debug, Default)]
pub(super) struct ClockOffset {
    ms: AtomicI64,
    is_measured: AtomicBool,
}

impl ClockOffset {
    /// Notes the server's time, asked for and answered at these times of this machine.
    pub(super) fn measure(&self, asked: EpochMs, server: EpochMs, answered: EpochMs) {
        let middle = asked.0.midpoint(answered.0);
        let difference = server.0.saturating_sub(middle);
        let known = self.get();
        // The known offset stays while it is right: it must not change with every measurement.
        if difference.abs_diff(known) >= DIFFERENCE_MIN_MS.unsigned_abs() {
            let offset = if difference.abs() < DIFFERENCE_MIN_MS { 0 } else { difference };
            self.ms.store(offset, Ordering::Relaxed);
        }
        self.is_measured.store(true, Ordering::Relaxed);
    }

    fn get(&self) -> i64 {
        self.ms.load(Ordering::Relaxed)
    }

    pub(super) fn is_measured(&self) -> bool {
        self.is_measured.load(Ordering::Relaxed)
    }

    /// The server's time at a time of this machine.
    pub(super) fn to_server(&self, at: EpochMs) -> EpochMs {
        EpochMs(at.0.saturating_add(self.get()))
    }

    /// The time of this machine at a time of the server.
    pub(super) fn to_local(&self, at: EpochMs) -> EpochMs {
        EpochMs(at.0.saturating_sub(self.get()))
    }
}

/// The time of the server, from the clock of this machine.
pub(super) struct ServerClock {
    pub clock: Arc<dyn Clock>,
    pub offset: Arc<ClockOffset>,
}

impl Clock for ServerClock {
    fn now(&self) -> EpochMs {
        self.offset.to_server(self.clock.now())
    }

    fn is_trusted(&self) -> bool {
        self.clock.is_trusted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_differences_beyond_the_error_of_the_measurement_are_corrected() {
        let offset = ClockOffset::default();
        let measured = |server: i64| {
            offset.measure(EpochMs(100_000), EpochMs(server), EpochMs(100_200));
            offset.to_server(EpochMs(0)).0
        };
        assert_eq!(measured(100_900), 0);
        assert_eq!(measured(145_100), 45_000);
        assert_eq!(measured(145_900), 45_000, "it is still right");
        assert_eq!(offset.to_local(EpochMs(145_000)), EpochMs(100_000));
        assert_eq!(measured(55_100), -45_000);
        assert_eq!(measured(100_150), 0);
    }
}
