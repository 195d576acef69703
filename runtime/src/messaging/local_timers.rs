//! Offer timers of this process, in front of the durable ones: to the millisecond, and lost with the process.

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

/// Timers on their way to the queue.
const ON_THE_WAY_MAX: usize = 1_024;
/// Timers that run. Each is an open offer of a few hundred bytes; what is beyond is left to the durable timers.
const RUNNING_MAX: usize = 10_000;
/// Timers that fire at once. Each is a read and, mostly, nothing else.
const FIRING_MAX: usize = 32;
/// Longest time between two signs of life while nothing is to be done.
const SIGN_EVERY: Duration = Duration::from_secs(10);

/// What a fired timer does.
#[async_trait]
pub trait TimerHandler: Send + Sync {
    /// Handles a timer; gives the time that is left where it was early. A failure is left to the durable timer.
    async fn fire(&self, timer: &TimerMessage) -> Option<Duration>;
}

/// [`OfferTimers`] that also run in this process. Wake-ups are left to the durable timers: they are not worth two searches.
pub struct LocalFirst {
    durable: Arc<dyn OfferTimers>,
    sender: Sender<(Instant, TimerMessage)>,
}

/// The timers of this process.
pub struct LocalTimers {
    receiver: Receiver<(Instant, TimerMessage)>,
}

impl LocalFirst {
    /// Timers in front of `durable`. They fire only while [`LocalTimers::run`] runs.
    pub fn new(durable: Arc<dyn OfferTimers>) -> (Self, LocalTimers) {
        let (sender, receiver) = channel(ON_THE_WAY_MAX);
        (Self { durable, sender }, LocalTimers { receiver })
    }
}

#[async_trait]
impl OfferTimers for LocalFirst {
    async fn start(&self, message: &TimerMessage, delay_ms: u64) -> Result<(), PortError> {
        if message.offer_seq.is_some() {
            // Full, or nobody runs them in this process: the durable timer is enough.
            let _ = self.sender.try_send((Instant::now() + Duration::from_millis(delay_ms), message.clone()));
        }
        self.durable.start(message, delay_ms).await
    }
}

impl LocalTimers {
    /// Fires timers until `shutdown`. Those that still run are then left to the durable ones. As long as as many fire as may it gives no
    /// sign of life: each is a few calls that end in time.
    pub async fn run(mut self, handler: Arc<dyn TimerHandler>, pulse: Heartbeat, shutdown: &CancellationToken) {
        let mut running = Running::default();
        let mut firing: JoinSet<Option<(Instant, TimerMessage)>> = JoinSet::new();
        loop {
            let may_fire = firing.len() < FIRING_MAX;
            if may_fire {
                pulse.beat();
            }
            let next = running.next().filter(|_| may_fire);
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(SIGN_EVERY) => {}
                Some((due, timer)) = self.receiver.recv() => running.add(due, timer),
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    if let Some(timer) = running.take_first() {
                        let handler = Arc::clone(&handler);
                        firing.spawn(async move {
                            let left = handler.fire(&timer).await?;
                            Some((Instant::now() + left, timer))
                        });
                    }
                }
                Some(fired) = firing.join_next() => {
                    if let Ok(Some((due, timer))) = fired {
                        running.add(due, timer);
                    }
                }
            }
        }
        while firing.join_next().await.is_some() {}
    }
}

/// Timers by when they are due; the number keeps those of the same moment apart.
#[derive(Default)]
struct Running {
    timers: BTreeMap<(Instant, u64), TimerMessage>,
    count: u64,
}

impl Running {
    fn add(&mut self, due: Instant, timer: TimerMessage) {
        if self.timers.len() < RUNNING_MAX {
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
    use std::sync::Mutex;

    use super::*;
    use crate::messaging::fake::FakeTimers;
    use crate::telemetry::heartbeat::{Heartbeats, SILENCE_MAX};

    struct Shared(Arc<FakeTimers>);

    #[async_trait]
    impl OfferTimers for Shared {
        async fn start(&self, message: &TimerMessage, delay_ms: u64) -> Result<(), PortError> {
            self.0.start(message, delay_ms).await
        }
    }

    /// Notes when timers fire; those of an odd offer are early once.
    #[derive(Default)]
    struct Fired(Mutex<Vec<(Duration, u32)>>, Mutex<Option<Instant>>);

    #[async_trait]
    impl TimerHandler for Fired {
        async fn fire(&self, timer: &TimerMessage) -> Option<Duration> {
            let since = self.1.lock().unwrap().expect("a start").elapsed();
            let offer = timer.offer_seq.expect("an offer");
            let mut fired = self.0.lock().unwrap();
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
    async fn timers_fire_when_they_are_due_early_ones_again_and_the_durable_ones_run_beside_them() {
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
        let mut order = fired.0.lock().unwrap().clone();
        order.sort();
        let s = Duration::from_secs;
        let rounded: Vec<_> = order.iter().map(|(at, offer)| (at.as_secs(), *offer)).collect();
        assert_eq!(rounded, [(10, 3), (15, 3), (20, 2), (20, 4)], "{order:?} within {:?}", s(30));
        assert_eq!(durable.started.all().len(), 5);
        shutdown.cancel();
        running.await.unwrap();
        timers.start(&timer(Some(8)), 1).await.unwrap();
        assert_eq!(durable.started.all().len(), 6, "what nobody runs here is left to the durable timers");
    }

    #[tokio::test(start_paused = true)]
    async fn more_timers_than_fit_are_left_to_the_durable_ones() {
        let durable = Arc::new(FakeTimers::default());
        let (timers, local) = LocalFirst::new(Arc::new(Shared(Arc::clone(&durable))));
        for _ in 0..ON_THE_WAY_MAX + 10 {
            timers.start(&timer(Some(2)), 1_000).await.unwrap();
        }
        assert_eq!(durable.started.all().len(), ON_THE_WAY_MAX + 10);
        let fired = Arc::new(Fired(Mutex::default(), Mutex::new(Some(Instant::now()))));
        let shutdown = CancellationToken::new();
        let (handler, end) = (Arc::clone(&fired), shutdown.clone());
        let pulse = Heartbeats::default().begin("timers");
        let running = tokio::spawn(async move { local.run(handler, pulse, &end).await });
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(fired.0.lock().unwrap().len(), ON_THE_WAY_MAX);
        shutdown.cancel();
        running.await.unwrap();
    }

    /// Never done with a timer.
    struct Stuck;

    #[async_trait]
    impl TimerHandler for Stuck {
        async fn fire(&self, _: &TimerMessage) -> Option<Duration> {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn timers_give_signs_of_life_until_as_many_hang_as_may_fire() {
        let (timers, local) = LocalFirst::new(Arc::new(Shared(Arc::default())));
        let (pulses, end) = (Heartbeats::default(), CancellationToken::new());
        let pulse = pulses.begin("timers");
        let stop = end.clone();
        let running = tokio::spawn(async move { local.run(Arc::new(Stuck), pulse, &stop).await });
        for _ in 0..FIRING_MAX - 1 {
            timers.start(&timer(Some(2)), 1_000).await.unwrap();
        }
        tokio::time::sleep(SILENCE_MAX * 2).await;
        assert_eq!(pulses.silent(), None, "nothing to do, and one more could fire");
        timers.start(&timer(Some(3)), 1_000).await.unwrap();
        tokio::time::sleep(SILENCE_MAX * 2).await;
        assert_eq!(pulses.silent(), Some("timers"));
        running.abort();
    }
}
