use dispatch_core::time::EpochMs;

/// The current time.
pub trait Clock: Send + Sync {
    fn now(&self) -> EpochMs;

    /// Whether the machine's clock may end what other processes dated. A process whose clock is wrong leaves that to
    /// others.
    fn is_trusted(&self) -> bool {
        true
    }
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
pub struct FakeClock {
    now_ms: std::sync::atomic::AtomicI64,
    is_wrong: std::sync::atomic::AtomicBool,
}

#[cfg(any(test, feature = "testing"))]
impl FakeClock {
    pub fn at(now: EpochMs) -> Self {
        Self { now_ms: std::sync::atomic::AtomicI64::new(now.0), ..Self::default() }
    }

    pub fn advance_ms(&self, ms: i64) {
        self.now_ms.fetch_add(ms, std::sync::atomic::Ordering::SeqCst);
    }

    /// Sets whether the clock is known to be wrong.
    pub fn set_wrong(&self, is_wrong: bool) {
        self.is_wrong.store(is_wrong, std::sync::atomic::Ordering::SeqCst);
    }
}

#[cfg(any(test, feature = "testing"))]
impl Clock for FakeClock {
    fn now(&self) -> EpochMs {
        EpochMs(self.now_ms.load(std::sync::atomic::Ordering::SeqCst))
    }

    fn is_trusted(&self) -> bool {
        !self.is_wrong.load(std::sync::atomic::Ordering::SeqCst)
    }
}
