//! Time as data. Core never reads a clock: callers pass the time in.

/// A point in time, in milliseconds since the Unix epoch (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EpochMs(pub i64);

impl EpochMs {
    /// The time `ms` milliseconds later.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add_unsigned(ms))
    }

    /// The time `ms` milliseconds earlier.
    #[must_use]
    pub fn minus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_sub_unsigned(ms))
    }

    /// The last whole second before or at this time.
    #[must_use]
    pub fn whole_seconds(self) -> Self {
        Self(self.0 - self.0.rem_euclid(1000))
    }

    /// Milliseconds since `earlier`; 0 if `earlier` is later, which is possible when clocks differ.
    pub fn since_ms(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_add_subtract_and_round_down_on_both_sides_of_the_epoch() {
        assert_eq!(EpochMs(1_500).plus_ms(250), EpochMs(1_750));
        assert_eq!(EpochMs(i64::MAX).plus_ms(1), EpochMs(i64::MAX));
        assert_eq!(EpochMs(1_500).minus_ms(1_750), EpochMs(-250));
        assert_eq!(EpochMs(i64::MIN).minus_ms(1), EpochMs(i64::MIN));
        assert_eq!((EpochMs(1_750).since_ms(EpochMs(1_500)), EpochMs(1_500).since_ms(EpochMs(1_750))), (250, 0));
        let whole = [1_999, 2_000, 0, -1, -1_000].map(|ms| EpochMs(ms).whole_seconds().0);
        assert_eq!(whole, [1_000, 2_000, 0, -1_000, -1_000]);
    }
}
