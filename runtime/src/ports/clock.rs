use dispatch_core::time::EpochMs;

/// The current time.
pub trait Clock: Send + Sync {
    fn now(&self) -> EpochMs;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everything else asks")]
    fn now(&self) -> EpochMs {
        EpochMs(jiff::Timestamp::now().as_millisecond())
    }
}

/// A clock that tests set.
#[cfg(any(test, feature = "testing"))]
#[derive(Debug, Default)]
pub struct FakeClock(std::sync::atomic::AtomicI64);

#[cfg(any(test, feature = "testing"))]
impl FakeClock {
    pub fn at(now: EpochMs) -> Self {
        Self(std::sync::atomic::AtomicI64::new(now.0))
    }

    pub fn advance_ms(&self, ms: i64) {
        self.0.fetch_add(ms, std::sync::atomic::Ordering::SeqCst);
    }
}

#[cfg(any(test, feature = "testing"))]
impl Clock for FakeClock {
    fn now(&self) -> EpochMs {
        EpochMs(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
}
