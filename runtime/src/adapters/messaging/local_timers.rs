//! Local offer timers in front of the durable ones: precise to the millisecond, and lost with the process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::ports::{OfferTimers, PortError, TimerMessage};
use crate::telemetry::heartbeat::Heartbeat;

/// Timers that may wait to be scheduled.
const QUEUED_MAX: usize = 1_024;
/// Scheduled timers. Each belongs to an open offer and takes a few hundred bytes; further ones are left to the durable
/// timers.
const SCHEDULED_MAX: usize = 10_000;
/// Timers that are handled concurrently. Each is one read and usually nothing else.
const FIRING_MAX: usize = 32;
/// Longest time between two heartbeats while nothing happens.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);

/// The handler of fired timers.
#[async_trait]
pub trait TimerHandler: Send + Sync {
    /// Handles a timer; returns the remaining time if it was early. A failure is left to the durable timer.
    async fn fire(&self, timer: &TimerMessage) -> Option<Duration>;
}

/// [`OfferTimers`] that also run in this process. Wake-ups use only the durable timers: a local one would cause a
/// second search.
pub struct LocalFirst {
    durable: Arc<dyn OfferTimers>,
    sender: Sender<(Instant, TimerMessage)>,
}

/// The local timers of a process.
pub struct LocalTimers {
    receiver: Receiver<(Instant, TimerMessage)>,
}

impl LocalFirst {
    /// Local timers in front of `durable`. They fire only while [`LocalTimers::run`] runs.
    pub fn new(durable: Arc<dyn OfferTimers>) -> (Self, LocalTimers) {
        let (sender, receiver) = channel(QUEUED_MAX);
        (Self { durable, sender }, LocalTimers { receiver })
    }
}

#[async_trait]
impl OfferTimers for LocalFirst {
    async fn start(&self, message: &TimerMessage, delay_ms: u64) -> Result<(), PortError> {
        if message.offer_seq.is_some() {
            // If the channel is full or the process runs no local timers, the durable timer suffices.
            let _ = self.sender.try_send((Instant::now() + Duration::from_millis(delay_ms), message.clone()));
        }
        self.durable.start(message, delay_ms).await
    }
}

impl LocalTimers {
    /// Fires timers until `shutdown`; the others are then left to the durable ones. While `FIRING_MAX` handlers run, no
    /// heartbeat is sent: each handler is a few calls with time-outs, so a longer silence is a hang.
    pub async fn run(mut self, handler: Arc<dyn TimerHandler>, pulse: Heartbeat, shutdown: &CancellationToken) {
        let mut schedule = Schedule::default();
        let mut firing: JoinSet<Option<(Instant, TimerMessage)>> = JoinSet::new();
        loop {
            let may_fire = firing.len() < FIRING_MAX;
            if may_fire {
                pulse.beat();
            }
            let next = schedule.next().filter(|_| may_fire);
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(HEARTBEAT_EVERY) => {}
                Some((due, timer)) = self.receiver.recv() => schedule.add(due, timer),
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    if let Some(timer) = schedule.take_first() {
                        let handler = Arc::clone(&handler);
                        firing.spawn(async move {
                            let left = handler.fire(&timer).await?;
                            Some((Instant::now() + left, timer))
                        });
                    }
                }
                Some(fired) = firing.join_next() => {
                    if let Ok(Some((due, timer))) = fired {
                        schedule.add(due, timer);
                    }
                }
            }
        }
        while firing.join_next().await.is_some() {}
    }
}

/// Scheduled timers by due time; the number distinguishes those with the same time.
#[derive(Default)]
struct Schedule {
    timers: BTreeMap<(Instant, u64), TimerMessage>,
    count: u64,
}

impl Schedule {
    fn add(&mut self, due: Instant, timer: TimerMessage) {
        if self.timers.len() < SCHEDULED_MAX {
            self.count += 1;
            self.timers.insert((due, self.count), timer);
        }
    }

    fn next(&self) -> Option<Instant> {
        self.timers.first_key_value().map(|((due, _), _)| *due)
    }

    fn take_first(&mut self) -> Option<TimerMessage> {
        self.timers.pop_first().map(|(_, timer)| timer)
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::adapters::messaging::fake::FakeTimers;
    use crate::telemetry::heartbeat::{Heartbeats, SILENCE_MAX};

    struct Shared(Arc<FakeTimers>);

    #[async_trait]
    impl OfferTimers for Shared {
        async fn start(&self, message: &TimerMessage, delay_ms: u64) -> Result<(), PortError> {
            self.0.start(message, delay_ms).await
        }
    }

    /// Records when timers fire; timers of odd offers are early once.
    #[derive(Default)]
    struct Fired(Mutex<Vec<(Duration, u32)>>, Mutex<Option<Instant>>);

    #[async_trait]
    impl TimerHandler for Fired {
        async fn fire(&self, timer: &TimerMessage) -> Option<Duration> {
            let since = self.1.lock().expect("a start").elapsed();
            let offer = timer.offer_seq.expect("an offer");
            let mut fired = self.0.lock();
            let early = offer % 2 == 1 && !fired.iter().any(|(_, seen)| *seen == offer);
            fired.push((since, offer));
            early.then_some(Duration::from_secs(5))
        }
    }

    fn timer(offer_seq: Option<u32>) -> TimerMessage {
        let text = String::new;
        TimerMessage {
            dispatch_id: text(),
            driver_id: None,
            request_time: text(),
            timeout_at: text(),
            offer_seq,
            ver: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn timers_fire_when_due_early_ones_again_and_durable_ones_are_also_started() {
        let durable = Arc::new(FakeTimers::default());
        let (timers, local) = LocalFirst::new(Arc::new(Shared(Arc::clone(&durable))));
        let fired = Arc::new(Fired(Mutex::default(), Mutex::new(Some(Instant::now()))));
        let shutdown = CancellationToken::new();
        let (handler, end) = (Arc::clone(&fired), shutdown.clone());
        let pulse = Heartbeats::default().begin("timers");
        let running = tokio::spawn(async move { local.run(handler, pulse, &end).await });
        for (offer, delay_ms) in
            [(Some(2), 20_000), (Some(3), 10_000), (None, 1), (Some(4), 20_000), (Some(6), 999_000)]
        {
            timers.start(&timer(offer), delay_ms).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(30)).await;
        let mut order = fired.0.lock().clone();
        order.sort();
        let s = Duration::from_secs;
        let rounded: Vec<_> = order.iter().map(|(at, offer)| (at.as_secs(), *offer)).collect();
        assert_eq!(rounded, [(10, 3), (15, 3), (20, 2), (20, 4)], "{order:?} within {:?}", s(30));
        assert_eq!(durable.started.all().len(), 5);
        shutdown.cancel();
        running.await.unwrap();
        timers.start(&timer(Some(8)), 1).await.unwrap();
        assert_eq!(durable.started.all().len(), 6, "without a running loop the durable timers remain");
    }

    #[tokio::test(start_paused = true)]
    async fn more_timers_than_fit_are_left_to_the_durable_ones() {
        let durable = Arc::new(FakeTimers::default());
        let (timers, local) = LocalFirst::new(Arc::new(Shared(Arc::clone(&durable))));
        for _ in 0..QUEUED_MAX + 10 {
            timers.start(&timer(Some(2)), 1_000).await.unwrap();
        }
        assert_eq!(durable.started.all().len(), QUEUED_MAX + 10);
        let fired = Arc::new(Fired(Mutex::default(), Mutex::new(Some(Instant::now()))));
        let shutdown = CancellationToken::new();
        let (handler, end) = (Arc::clone(&fired), shutdown.clone());
        let pulse = Heartbeats::default().begin("timers");
        let running = tokio::spawn(async move { local.run(handler, pulse, &end).await });
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(fired.0.lock().len(), QUEUED_MAX);
        shutdown.cancel();
        running.await.unwrap();
    }

    /// Never finishes handling a timer.
    struct Stuck;

    #[async_trait]
    impl TimerHandler for Stuck {
        async fn fire(&self, _: &TimerMessage) -> Option<Duration> {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn timers_send_heartbeats_until_all_handlers_hang() {
        let (timers, local) = LocalFirst::new(Arc::new(Shared(Arc::default())));
        let (pulses, end) = (Heartbeats::default(), CancellationToken::new());
        let pulse = pulses.begin("timers");
        let stop = end.clone();
        let running = tokio::spawn(async move { local.run(Arc::new(Stuck), pulse, &stop).await });
        for _ in 0..FIRING_MAX - 1 {
            timers.start(&timer(Some(2)), 1_000).await.unwrap();
        }
        tokio::time::sleep(SILENCE_MAX * 2).await;
        assert_eq!(pulses.silent(), None, "nothing is due, and one more could fire");
        timers.start(&timer(Some(3)), 1_000).await.unwrap();
        tokio::time::sleep(SILENCE_MAX * 2).await;
        assert_eq!(pulses.silent(), Some("timers"));
        running.abort();
    }
}
