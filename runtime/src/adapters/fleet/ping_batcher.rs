//! Batches the pings of concurrent requests into few calls to Redis.
//!
//! A request queues its pings and waits for their outcomes. A drain task, which lives while the queue is not empty,
//! takes them out in order and keeps several calls in flight. It needs no shutdown: every queued ping has a waiting
//! request, and requests in progress finish first.
//!
//! All calls use one connection in the order of the queue, so the pings of a driver are judged in the order they came.
//! After a broken connection a later call may be repeated before an earlier one. The script then drops pings that have
//! become outdated; of two pings of the same millisecond either may count as the last.

use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use redis::RedisError;
use thiserror::Error;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::adapters::fleet::error::failed;
use crate::adapters::fleet::record_pings::PingRecorder;
use crate::ports::{Ping, PingOutcome, PortError};

/// Pings per call: under a millisecond of the server's only thread, which also serves searches and holds, and enough to
/// make the overhead of the call negligible. A quarter of the largest body.
const CHUNK: usize = 125;

/// Calls in flight: the server works on one while it reads the next and sends the answer of the last.
const CALLS: usize = 4;

/// How long the first of few pings waits for more. Phones send one every few seconds, so the delay does not matter, and
/// everything within it becomes one call.
const LINGER: Duration = Duration::from_millis(1);

/// Most queued pings: twenty of the largest bodies, some tenths of a second of work. Beyond that a request fails at
/// once.
const WAITING_MAX: usize = 10_000;

const RECORDING: &str = "recording pings";

/// The queue is full.
#[derive(Debug, Error)]
#[error("too many pings are queued for the cache")]
struct Full;

/// The destination of batched pings.
pub(super) trait Sink: Send + Sync + 'static {
    /// Records pings in the given order; returns one outcome per ping.
    fn record(&self, pings: &[Ping]) -> impl Future<Output = Result<Vec<PingOutcome>, RedisError>> + Send;
}

impl Sink for PingRecorder {
    async fn record(&self, pings: &[Ping]) -> Result<Vec<PingOutcome>, RedisError> {
        self.record(pings).await
    }
}

type Answer = Result<Vec<PingOutcome>, RedisError>;

/// At most [`CHUNK`] pings of one request.
struct Job {
    pings: Vec<Ping>,
    answer: oneshot::Sender<Answer>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Pings of all jobs.
    pings: usize,
    /// The drain task, if it was started.
    drainer: Option<JoinHandle<()>>,
}

struct Shared<S> {
    sink: S,
    waiting: Mutex<Queue>,
    /// Signals a new job (`arrived`) or a full chunk (`enough`).
    arrived: Notify,
    enough: Notify,
}

/// A queue of pings in front of a [`Sink`].
pub(super) struct PingBatcher<S = PingRecorder>(Arc<Shared<S>>);

impl<S: Sink> PingBatcher<S> {
    pub(super) fn new(sink: S) -> Self {
        Self(Arc::new(Shared { sink, waiting: Mutex::default(), arrived: Notify::new(), enough: Notify::new() }))
    }

    /// Records pings in the given order; returns one outcome per ping. Fails at once if the queue is full.
    pub(super) async fn record(&self, pings: &[Ping]) -> Result<Vec<PingOutcome>, PortError> {
        let mut recorded = Vec::with_capacity(pings.len());
        for answer in self.enqueue(pings)? {
            // The drain task panicked and dropped its jobs.
            let outcomes =
                answer.await.map_err(|error| PortError::Unavailable { action: RECORDING, source: error.into() })?;
            recorded.extend(outcomes.map_err(|error| failed(RECORDING, error))?);
        }
        Ok(recorded)
    }

    /// Queues all pings or none.
    fn enqueue(&self, pings: &[Ping]) -> Result<Vec<oneshot::Receiver<Answer>>, PortError> {
        let mut waiting = self.0.waiting();
        if waiting.pings + pings.len() > WAITING_MAX {
            return Err(PortError::Unavailable { action: RECORDING, source: Full.into() });
        }
        let mut answers = Vec::with_capacity(pings.len().div_ceil(CHUNK));
        for part in pings.chunks(CHUNK) {
            let (answer, receiver) = oneshot::channel();
            waiting.jobs.push_back(Job { pings: part.to_vec(), answer });
            answers.push(receiver);
        }
        waiting.pings += pings.len();
        let is_enough = waiting.pings >= CHUNK;
        if !pings.is_empty() && waiting.drainer.as_ref().is_none_or(JoinHandle::is_finished) {
            waiting.drainer = Some(tokio::spawn(drain(Arc::clone(&self.0))));
        }
        drop(waiting);
        self.0.arrived.notify_one();
        if is_enough {
            self.0.enough.notify_one();
        }
        Ok(answers)
    }
}

impl<S> Shared<S> {
    fn waiting(&self) -> MutexGuard<'_, Queue> {
        self.waiting.lock()
    }

    /// The whole jobs of the next call.
    fn next_call(&self) -> Vec<Job> {
        let mut waiting = self.waiting();
        let (mut jobs, mut pings) = (Vec::new(), 0);
        while let Some(job) = waiting.jobs.pop_front_if(|job| pings + job.pings.len() <= CHUNK) {
            pings += job.pings.len();
            jobs.push(job);
        }
        waiting.pings -= pings;
        jobs
    }

    /// Whether the queue is empty. If so, the calling task is no longer the drain task.
    fn is_done(&self) -> bool {
        let mut waiting = self.waiting();
        let is_done = waiting.jobs.is_empty();
        if is_done {
            waiting.drainer = None;
        }
        is_done
    }
}

/// Drains the queue until it is empty.
async fn drain<S: Sink>(shared: Arc<Shared<S>>) {
    let mut calls = FuturesUnordered::new();
    loop {
        let waiting = shared.waiting().pings;
        if waiting > 0 && waiting < CHUNK {
            // On a timeout as well, what is queued goes out now.
            let _ = timeout(LINGER, shared.enough.notified()).await;
        }
        while calls.len() < CALLS {
            let jobs = shared.next_call();
            if jobs.is_empty() {
                break;
            }
            calls.push(call(&shared, jobs));
        }
        if calls.is_empty() && shared.is_done() {
            return;
        }
        let full = calls.len() >= CALLS;
        tokio::select! {
            _ = calls.next(), if !calls.is_empty() => {}
            () = shared.arrived.notified(), if !full => {}
        }
    }
}

/// Sends one call and answers every request whose pings were in it.
async fn call<S: Sink>(shared: &Shared<S>, mut jobs: Vec<Job>) {
    let counts: Vec<usize> = jobs.iter().map(|job| job.pings.len()).collect();
    let mut pings = std::mem::take(&mut jobs[0].pings);
    for job in &mut jobs[1..] {
        pings.append(&mut job.pings);
    }
    match shared.sink.record(&pings).await {
        Ok(recorded) => {
            let mut recorded = recorded.into_iter();
            for (job, count) in jobs.into_iter().zip(counts) {
                // The receiver is gone if the request has been cancelled.
                let _ = job.answer.send(Ok(recorded.by_ref().take(count).collect()));
            }
        }
        Err(error) => {
            // Redis does not answer. Every queued job would wait as long again and keep the queue full, so all of them
            // fail now.
            let behind = {
                let mut waiting = shared.waiting();
                waiting.pings = 0;
                std::mem::take(&mut waiting.jobs)
            };
            for job in jobs.into_iter().chain(behind) {
                let _ = job.answer.send(Err(error.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use dispatch_core::geo::Coordinate;
    use dispatch_core::ids::DriverId;
    use dispatch_core::time::EpochMs;
    use futures::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    /// Answers `Outdated` for every second driver, once a permit is available; records its calls.
    struct Slow {
        let_through: Semaphore,
        calls: Mutex<Vec<Vec<Ping>>>,
        is_down: bool,
    }

    impl Sink for Arc<Slow> {
        async fn record(&self, pings: &[Ping]) -> Result<Vec<PingOutcome>, RedisError> {
            self.calls.lock().push(pings.to_vec());
            self.let_through.acquire().await.unwrap().forget();
            if self.is_down {
                return Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
            }
            Ok(pings.iter().map(answer_to).collect())
        }
    }

    fn answer_to(ping: &Ping) -> PingOutcome {
        if ping.driver.as_str().ends_with(['1', '3', '5', '7', '9']) {
            PingOutcome::Outdated
        } else {
            PingOutcome::Seen
        }
    }

    fn queue(calls_let_through: usize, is_down: bool) -> (Arc<PingBatcher<Arc<Slow>>>, Arc<Slow>) {
        let let_through = Semaphore::new(calls_let_through);
        let sink = Arc::new(Slow { let_through, calls: Mutex::default(), is_down });
        (Arc::new(PingBatcher::new(Arc::clone(&sink))), sink)
    }

    fn ping(number: usize) -> Ping {
        let driver = DriverId::parse(format!("driver#{number}")).unwrap();
        Ping { driver, position: Coordinate::new(37.5, 127.0).unwrap(), at: EpochMs(0), phone_at: None }
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_single_pings_are_few_calls_with_one_outcome_each() {
        let (queue, sink) = queue(usize::MAX >> 4, false);
        let pings: Vec<Ping> = (0..1000).map(ping).collect();
        let answers = join_all(pings.iter().map(|ping| queue.record(std::slice::from_ref(ping)))).await;
        for (ping, answer) in pings.iter().zip(answers) {
            assert_eq!(answer.unwrap(), [answer_to(ping)]);
        }
        let calls = sink.calls.lock();
        assert_eq!(calls.len(), 8);
        assert_eq!(calls.concat(), pings, "in the order they came");
        assert!(queue.0.waiting().drainer.is_none(), "the drain task has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_body_is_sent_in_several_concurrent_calls() {
        let (queue, sink) = queue(0, false);
        let pings: Vec<Ping> = (0..500).map(ping).collect();
        let recording = queue.record(&pings);
        let let_through = async {
            while sink.calls.lock().len() < CALLS {
                tokio::time::sleep(LINGER).await;
            }
            sink.let_through.add_permits(CALLS);
        };
        let (recorded, ()) = tokio::join!(recording, let_through);
        assert_eq!(recorded.unwrap(), pings.iter().map(answer_to).collect::<Vec<_>>());
        assert_eq!(queue.record(&[]).await.unwrap(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn few_pings_wait_a_moment_for_more_and_no_longer() {
        let (queue, sink) = queue(2, false);
        let begun = tokio::time::Instant::now();
        queue.record(&[ping(1)]).await.unwrap();
        assert!(begun.elapsed() <= 2 * LINGER, "{:?}", begun.elapsed());
        queue.record(&[ping(2)]).await.unwrap();
        assert_eq!(sink.calls.lock().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_fails_at_once_and_accepts_pings_later() {
        let (queue, sink) = queue(0, false);
        let many: Vec<Ping> = (0..500).map(ping).collect();
        let begin = || {
            let (queue, many) = (Arc::clone(&queue), many.clone());
            tokio::spawn(async move { queue.record(&many).await })
        };
        let mut recordings = vec![begin()];
        while sink.calls.lock().len() < CALLS {
            tokio::time::sleep(LINGER).await;
        }
        recordings.extend((0..WAITING_MAX / many.len()).map(|_| begin()));
        tokio::time::sleep(LINGER).await;
        assert_eq!(queue.0.waiting().pings, WAITING_MAX);
        let refused = timeout(Duration::ZERO, queue.record(&many)).await.expect("at once");
        assert!(matches!(refused, Err(PortError::Unavailable { .. })));
        sink.let_through.add_permits(1000);
        assert!(join_all(recordings).await.into_iter().all(|result| result.unwrap().is_ok()));
        assert!(queue.record(&many).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn queued_pings_fail_with_the_first_call_to_an_unreachable_server() {
        let (queue, sink) = queue(1, true);
        let many: Vec<Ping> = (0..500).map(ping).collect();
        let recordings = join_all((0..10).map(|_| queue.record(&many)));
        let let_through = async {
            tokio::time::sleep(10 * LINGER).await;
            sink.let_through.add_permits(CALLS);
        };
        let (results, ()) = tokio::join!(recordings, let_through);
        assert!(results.iter().all(|result| matches!(result, Err(PortError::Unavailable { .. }))));
        assert!(sink.calls.lock().len() < 10);
    }

    #[tokio::test(start_paused = true)]
    async fn pings_of_a_cancelled_request_are_still_recorded() {
        let (queue, sink) = queue(100, false);
        assert!(timeout(Duration::ZERO, queue.record(&[ping(1)])).await.is_err());
        queue.record(&[ping(2)]).await.unwrap();
        assert_eq!(sink.calls.lock().concat(), [ping(1), ping(2)]);
    }
}
