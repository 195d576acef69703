//! The queue between requests and Redis: the pings of a process, whoever sent them, in few calls of many pings.
//!
//! A request leaves its pings here and waits for what became of them. A task that lives as long as there are any takes them out in the
//! order they came and has several calls under way. There is nothing to be ended with the process: whatever waits here has a request
//! that waits for it, and requests under way are finished first.
//!
//! Calls go through one connection in the order of the queue, so a driver's pings are judged in the order they came. Where a connection
//! breaks, a later call may be made anew before an earlier one: the script judges by times and drops what has become old, and of two pings of
//! one millisecond either may be the last.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use redis::RedisError;
use thiserror::Error;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::error::failed;
use super::record_pings::Recorder;
use crate::ports::{Ping, PortError, Recorded};

/// Pings of one call: under a millisecond of the server's only thread, which searches and holds share, and enough to make the call's own cost
/// nothing. A quarter of the largest body.
const CHUNK: usize = 125;

/// Calls under way at once: the server works on one while the next is read and the answer of the last is sent.
const CALLS: usize = 4;

/// Time the first of few pings waits for more. Phones ask each few seconds: to them it is nothing, and whatever comes within it is
/// one call.
const LINGER: Duration = Duration::from_millis(1);

/// Pings that wait at most: twenty of the largest bodies, some tenths of a second of work. Who comes later is better told so at once.
const WAITING_MAX: usize = 10_000;

const RECORDING: &str = "recording pings";

/// More pings wait than may.
#[derive(Debug, Error)]
#[error("too many pings wait for the cache")]
struct Full;

/// Where pings go.
pub(super) trait Sink: Send + Sync + 'static {
    /// Takes pings over, in the order given; one answer for each.
    fn record(&self, pings: &[Ping]) -> impl Future<Output = Result<Vec<Recorded>, RedisError>> + Send;
}

impl Sink for Recorder {
    async fn record(&self, pings: &[Ping]) -> Result<Vec<Recorded>, RedisError> {
        self.record(pings).await
    }
}

type Answer = Result<Vec<Recorded>, RedisError>;

/// Pings of one request, at most [`CHUNK`].
struct Job {
    pings: Vec<Ping>,
    answer: oneshot::Sender<Answer>,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// Pings of all jobs.
    pings: usize,
    /// Takes them out.
    drainer: Option<JoinHandle<()>>,
}

struct Shared<S> {
    sink: S,
    waiting: Mutex<Waiting>,
    /// Something came, or enough for a call.
    came: Notify,
    enough: Notify,
}

/// The queue.
pub(super) struct PingBatcher<S = Recorder>(Arc<Shared<S>>);

impl<S: Sink> PingBatcher<S> {
    /// An empty queue in front of `sink`.
    pub(super) fn new(sink: S) -> Self {
        Self(Arc::new(Shared { sink, waiting: Mutex::default(), came: Notify::new(), enough: Notify::new() }))
    }

    /// Takes pings over, in the order given; one answer for each.
    pub(super) async fn record(&self, pings: &[Ping]) -> Result<Vec<Recorded>, PortError> {
        let mut recorded = Vec::with_capacity(pings.len());
        for answer in self.leave(pings)? {
            // A task that broke has dropped its jobs.
            let told =
                answer.await.map_err(|error| PortError::Unavailable { action: RECORDING, source: error.into() })?;
            recorded.extend(told.map_err(|error| failed(RECORDING, error))?);
        }
        Ok(recorded)
    }

    /// Puts pings into the queue, all or none.
    fn leave(&self, pings: &[Ping]) -> Result<Vec<oneshot::Receiver<Answer>>, PortError> {
        let mut waiting = self.0.waiting();
        if waiting.pings + pings.len() > WAITING_MAX {
            return Err(PortError::Unavailable { action: RECORDING, source: Full.into() });
        }
        let mut answers = Vec::with_capacity(pings.len().div_ceil(CHUNK));
        for part in pings.chunks(CHUNK) {
            let (answer, told) = oneshot::channel();
            waiting.jobs.push_back(Job { pings: part.to_vec(), answer });
            answers.push(told);
        }
        waiting.pings += pings.len();
        let is_enough = waiting.pings >= CHUNK;
        if !pings.is_empty() && waiting.drainer.as_ref().is_none_or(JoinHandle::is_finished) {
            waiting.drainer = Some(tokio::spawn(drain(Arc::clone(&self.0))));
        }
        drop(waiting);
        self.0.came.notify_one();
        if is_enough {
            self.0.enough.notify_one();
        }
        Ok(answers)
    }
}

impl<S> Shared<S> {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whole jobs that make one call.
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

    /// Whether nothing waits; then the task that asks is no longer the drainer.
    fn is_done(&self) -> bool {
        let mut waiting = self.waiting();
        let is_done = waiting.jobs.is_empty();
        if is_done {
            waiting.drainer = None;
        }
        is_done
    }
}

/// Takes pings out of the queue until nothing waits there.
async fn drain<S: Sink>(shared: Arc<Shared<S>>) {
    let mut calls = FuturesUnordered::new();
    loop {
        let waiting = shared.waiting().pings;
        if waiting > 0 && waiting < CHUNK {
            // Either way what is there is taken now.
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
            () = shared.came.notified(), if !full => {}
        }
    }
}

/// One call, and what became of it told to everybody whose pings were in it.
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
                // Who no longer listens has given up.
                let _ = job.answer.send(Ok(recorded.by_ref().take(count).collect()));
            }
        }
        Err(error) => {
            // Redis does not answer: who waits behind would wait as long again, and a queue that is full of them helps nobody.
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

    /// Answers every second driver `Outdated`, when it is let to; remembers its calls.
    struct Slow {
        let_through: Semaphore,
        calls: Mutex<Vec<Vec<Ping>>>,
        is_down: bool,
    }

    impl Sink for Arc<Slow> {
        async fn record(&self, pings: &[Ping]) -> Result<Vec<Recorded>, RedisError> {
            self.calls.lock().unwrap().push(pings.to_vec());
            self.let_through.acquire().await.unwrap().forget();
            if self.is_down {
                return Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
            }
            Ok(pings.iter().map(answer_to).collect())
        }
    }

    fn answer_to(ping: &Ping) -> Recorded {
        if ping.driver.as_str().ends_with(['1', '3', '5', '7', '9']) { Recorded::Outdated } else { Recorded::Seen }
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
    async fn a_thousand_single_pings_are_few_calls_and_each_hears_of_its_own() {
        let (queue, sink) = queue(usize::MAX >> 4, false);
        let pings: Vec<Ping> = (0..1000).map(ping).collect();
        let answers = join_all(pings.iter().map(|ping| queue.record(std::slice::from_ref(ping)))).await;
        for (ping, answer) in pings.iter().zip(answers) {
            assert_eq!(answer.unwrap(), [answer_to(ping)]);
        }
        let calls = sink.calls.lock().unwrap();
        assert_eq!(calls.len(), 8);
        assert_eq!(calls.concat(), pings, "in the order they came");
        assert!(queue.0.waiting().drainer.is_none(), "nothing is left behind");
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_body_goes_in_several_calls_under_way_at_once() {
        let (queue, sink) = queue(0, false);
        let pings: Vec<Ping> = (0..500).map(ping).collect();
        let recording = queue.record(&pings);
        let let_through = async {
            while sink.calls.lock().unwrap().len() < CALLS {
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
        assert_eq!(sink.calls.lock().unwrap().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_the_queue_full_is_told_at_once_and_finds_room_later() {
        let (queue, sink) = queue(0, false);
        let many: Vec<Ping> = (0..500).map(ping).collect();
        let begin = || {
            let (queue, many) = (Arc::clone(&queue), many.clone());
            tokio::spawn(async move { queue.record(&many).await })
        };
        let mut recordings = vec![begin()];
        while sink.calls.lock().unwrap().len() < CALLS {
            tokio::time::sleep(LINGER).await;
        }
        recordings.extend((0..WAITING_MAX / many.len()).map(|_| begin()));
        tokio::time::sleep(LINGER).await;
        assert_eq!(queue.0.waiting().pings, WAITING_MAX);
        let refused = timeout(Duration::ZERO, queue.record(&many)).await.expect("at once");
        assert!(matches!(refused, Err(PortError::Unavailable { .. })));
        sink.let_through.add_permits(1000);
        assert!(join_all(recordings).await.into_iter().all(|told| told.unwrap().is_ok()));
        assert!(queue.record(&many).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_server_that_is_gone_hears_of_it_with_the_first() {
        let (queue, sink) = queue(1, true);
        let many: Vec<Ping> = (0..500).map(ping).collect();
        let recordings = join_all((0..10).map(|_| queue.record(&many)));
        let let_through = async {
            tokio::time::sleep(10 * LINGER).await;
            sink.let_through.add_permits(CALLS);
        };
        let (told, ()) = tokio::join!(recordings, let_through);
        assert!(told.iter().all(|told| matches!(told, Err(PortError::Unavailable { .. }))));
        assert!(sink.calls.lock().unwrap().len() < 10);
    }

    #[tokio::test(start_paused = true)]
    async fn pings_whose_request_has_given_up_are_recorded_all_the_same() {
        let (queue, sink) = queue(100, false);
        assert!(timeout(Duration::ZERO, queue.record(&[ping(1)])).await.is_err());
        queue.record(&[ping(2)]).await.unwrap();
        assert_eq!(sink.calls.lock().unwrap().concat(), [ping(1), ping(2)]);
    }
}
