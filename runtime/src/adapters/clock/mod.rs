//! The clock of a process: the machine's, compared with that of AWS.
//!
//! Times in the table, in queues and in the cache are written by one process and compared by another. A process whose
//! clock is wrong would end offers that have just begun, or keep offers that are over. So the time is compared with the
//! header `Date` of the answers of AWS. A process whose clock differs too much continues with the time of AWS, and
//! leaves sweeps and time-outs to others until its clock is right again.

mod date_header;
mod reference;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use dispatch_core::time::EpochMs;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use date_header::DateHeaders;
use reference::{Reference, Sample, is_wrong};

use crate::ports::Clock;
use crate::telemetry::metrics::Metrics;

/// Time between two checks of the clock, for the metric and the log.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// An offset that is not known yet.
const UNKNOWN: i64 = i64::MIN;

/// The machine's clock, or the time of AWS while the machine's clock is wrong. Without answers of AWS, the machine's
/// clock is not judged.
pub struct ComparedClock {
    /// The machine's clock. It may be set at any moment.
    machine: Arc<dyn Clock>,
    /// The beginning of the time that only runs forward.
    started: Instant,
    reference: Mutex<Reference>,
    /// By how much the time of AWS exceeds the time since the start, ms; [`UNKNOWN`] until there are enough answers.
    offset_ms: AtomicI64,
    /// The last judgement.
    wrong: AtomicBool,
}

/// What is known about the clock at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Comparison {
    machine: EpochMs,
    /// The time of AWS, if it is known.
    aws: Option<EpochMs>,
    is_wrong: bool,
}

impl Comparison {
    fn ahead_ms(&self) -> Option<i64> {
        self.aws.map(|aws| self.machine.0.saturating_sub(aws.0))
    }
}

impl ComparedClock {
    /// Compares the clock `machine`.
    pub fn new(machine: Arc<dyn Clock>) -> Self {
        Self {
            machine,
            started: Instant::now(),
            reference: Mutex::default(),
            offset_ms: AtomicI64::new(UNKNOWN),
            wrong: AtomicBool::new(false),
        }
    }

    /// Notes the time `date` of an answer to a request that was sent and answered at these moments.
    pub(crate) fn note(&self, date: EpochMs, sent: Instant, answered: Instant) {
        let since_start = |at: Instant| at.saturating_duration_since(self.started);
        let mut reference = self.reference.lock();
        reference.add(Sample { date, sent: since_start(sent), answered: since_start(answered) });
        if let Some(offset_ms) = reference.offset_ms() {
            self.offset_ms.store(offset_ms, Ordering::Relaxed);
        }
    }

    fn compare(&self) -> Comparison {
        // Every position is dated, so this must not wait for a lock.
        let offset_ms = Some(self.offset_ms.load(Ordering::Relaxed)).filter(|offset_ms| *offset_ms != UNKNOWN);
        let running_ms = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        let machine = self.machine.now();
        let aws = offset_ms.map(|offset_ms| EpochMs(running_ms.saturating_add(offset_ms)));
        let compared = Comparison { machine, aws, is_wrong: false };
        let is_wrong = is_wrong(self.wrong.load(Ordering::Relaxed), compared.ahead_ms());
        self.wrong.store(is_wrong, Ordering::Relaxed);
        Comparison { is_wrong, ..compared }
    }

    /// Checks the clock every second until `shutdown`: sets the metrics, and logs when the judgement changes.
    pub async fn watch(&self, metrics: &Metrics, shutdown: &CancellationToken) {
        let pulse = metrics.pulse("the clock watcher");
        let mut was_wrong = false;
        loop {
            pulse.beat();
            let compared = self.compare();
            metrics.clock(compared.ahead_ms(), !compared.is_wrong);
            if compared.is_wrong != was_wrong {
                was_wrong = compared.is_wrong;
                log(compared);
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(CHECK_EVERY) => {}
            }
        }
    }
}

fn log(compared: Comparison) {
    let ahead_ms = compared.ahead_ms();
    if compared.is_wrong {
        tracing::error!(
            ahead_ms,
            "the clock of this machine differs from that of AWS; this process uses the time of AWS, and neither sweeps \
             nor ends offers until the clock is right; check the time synchronization of the node"
        );
    } else {
        tracing::info!(ahead_ms, "the clock of this machine agrees with that of AWS again");
    }
}

impl Clock for ComparedClock {
    fn now(&self) -> EpochMs {
        let compared = self.compare();
        compared.aws.filter(|_| compared.is_wrong).unwrap_or(compared.machine)
    }

    fn is_trusted(&self) -> bool {
        !self.compare().is_wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::clock::FakeClock;

    /// A clock that has heard the time of AWS, which is `ahead_ms` behind it, often enough.
    async fn compared(ahead_ms: i64) -> (Arc<FakeClock>, ComparedClock) {
        let machine = Arc::new(FakeClock::at(EpochMs(1_800_000_000_000)));
        let clock = ComparedClock::new(machine.clone());
        answer(&machine, &clock, ahead_ms).await;
        (machine, clock)
    }

    async fn answer(machine: &FakeClock, clock: &ComparedClock, ahead_ms: i64) {
        for _ in 0..reference::SAMPLES {
            let sent = Instant::now();
            pass(machine, 1_000).await;
            // `Date` has whole seconds, so it is half a second behind on average.
            clock.note(EpochMs(machine.now().0 - ahead_ms - 1_000), sent, Instant::now());
        }
    }

    /// Both clocks of the machine run.
    async fn pass(machine: &FakeClock, ms: i64) {
        tokio::time::advance(Duration::from_millis(ms.unsigned_abs())).await;
        machine.advance_ms(ms);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_agrees_is_used_as_it_is() {
        let (machine, clock) = compared(1_200).await;
        assert_eq!((clock.now(), clock.is_trusted()), (machine.now(), true));
        let unheard = ComparedClock::new(machine.clone());
        machine.advance_ms(3_600_000);
        assert!(unheard.is_trusted(), "without answers there is nothing to compare with");
        assert_eq!(unheard.now(), machine.now());
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_differs_from_the_start_is_replaced_by_the_time_of_aws() {
        for ahead_ms in [45_000, -45_000] {
            let (machine, clock) = compared(ahead_ms).await;
            assert!(!clock.is_trusted());
            assert_eq!(clock.now().0, machine.now().0 - ahead_ms);
            pass(&machine, 5_000).await;
            assert_eq!(clock.now().0, machine.now().0 - ahead_ms);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_is_noticed_at_once_and_trusted_again_once_it_is_right() {
        let (machine, clock) = compared(0).await;
        let right = clock.now();
        machine.advance_ms(3_600_000);
        assert!(!clock.is_trusted());
        assert_eq!(clock.now(), right);
        pass(&machine, 10_000).await;
        assert_eq!(clock.now(), right.plus_ms(10_000));
        machine.advance_ms(-3_600_000);
        assert!(clock.is_trusted());
        assert_eq!(clock.now(), machine.now());
    }

    #[tokio::test(start_paused = true)]
    async fn the_difference_after_a_suspension_is_measured_anew() {
        let (machine, clock) = compared(0).await;
        // A suspended machine has a clock that ran and a timer that stood still.
        machine.advance_ms(60_000);
        assert!(!clock.is_trusted());
        answer(&machine, &clock, 0).await;
        assert!(clock.is_trusted());
    }

    #[tokio::test(start_paused = true)]
    async fn the_metrics_show_the_difference() {
        let (_, clock) = compared(45_000).await;
        let (metrics, shutdown) = (Metrics::new(), CancellationToken::new());
        shutdown.cancel();
        clock.watch(&metrics, &shutdown).await;
        let text = metrics.encode().unwrap();
        assert!(text.contains("dispatch_clock_ahead_milliseconds 45000\n"), "{text}");
        assert!(text.contains("dispatch_clock_trusted 0\n"), "{text}");
    }
}
