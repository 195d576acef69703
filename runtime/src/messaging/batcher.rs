//! Several callers' entries in one call: SQS and SNS take ten at a time, and count one request.
//!
//! Nothing waits for company. An entry that finds a call free goes out at once; what comes while all calls are out goes together with the
//! next. So a quiet process is as fast as without, and a busy one makes up to a tenth of the calls.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use thiserror::Error;
use tokio::sync::oneshot;

use crate::ports::PortError;

/// Entries of one call, for SQS and SNS alike ("Amazon SQS batch actions", "Amazon SNS message batching"). Both also bound a call to
/// 256 KiB; our entries are messages of one or two.
const BATCH: usize = 10;
/// Calls that may be out at once: at ten entries and some ten milliseconds each, eight thousand entries a second.
const CALLS_MAX: usize = 8;
/// Entries that may wait. They are side effects of requests, of which fewer are in flight; more means that the service hangs.
const WAITING_MAX: usize = 4096;

/// A call that takes several entries.
#[async_trait]
pub(super) trait BatchCall<T>: Send + Sync {
    /// What is done, for errors.
    fn action(&self) -> &'static str;

    /// Sends one to ten entries; gives one result for each, in their order.
    async fn send(&self, entries: Vec<T>) -> Vec<Result<(), PortError>>;
}

/// Why an entry was not sent.
#[derive(Debug, Error)]
enum NotSent {
    #[error("too many are waiting to be sent")]
    TooMany,
    #[error("the process ends")]
    Ended,
}

struct Waiting<T> {
    entry: T,
    told: oneshot::Sender<Result<(), PortError>>,
}

struct State<T> {
    waiting: VecDeque<Waiting<T>>,
    /// Calls that are out.
    calls: usize,
}

/// Gathers entries for one kind of call.
pub(super) struct Batcher<T, C> {
    call: Arc<C>,
    state: Arc<Mutex<State<T>>>,
}

fn locked<T>(state: &Mutex<State<T>>) -> MutexGuard<'_, State<T>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Send + 'static, C: BatchCall<T> + 'static> Batcher<T, C> {
    pub(super) fn new(call: C) -> Self {
        Self { call: Arc::new(call), state: Arc::new(Mutex::new(State { waiting: VecDeque::new(), calls: 0 })) }
    }

    /// What is done, for errors.
    pub(super) fn action(&self) -> &'static str {
        self.call.action()
    }

    /// Sends entries and waits for what became of them: the first failure, where there is one. Entries given together go together
    /// where they fit. Once given they are sent, even if nobody waits any more.
    pub(super) async fn send(&self, entries: Vec<T>) -> Result<(), PortError> {
        let mut results = Vec::with_capacity(entries.len());
        {
            let mut state = locked(&self.state);
            if state.waiting.len() + entries.len() > WAITING_MAX {
                return Err(self.not_sent(NotSent::TooMany));
            }
            for entry in entries {
                let (told, result) = oneshot::channel();
                state.waiting.push_back(Waiting { entry, told });
                results.push(result);
            }
            if state.calls < CALLS_MAX {
                state.calls += 1;
                let (call, state) = (Arc::clone(&self.call), Arc::clone(&self.state));
                tokio::spawn(async move { work_off(&*call, &state).await });
            }
        }
        let mut ended = Ok(());
        for result in results {
            let result = result.await.unwrap_or_else(|_| Err(self.not_sent(NotSent::Ended)));
            ended = ended.and(result);
        }
        ended
    }

    fn not_sent(&self, why: NotSent) -> PortError {
        PortError::Unavailable { action: self.call.action(), source: Box::new(why) }
    }
}

/// Sends what waits until nothing does.
async fn work_off<T, C: BatchCall<T>>(call: &C, state: &Mutex<State<T>>) {
    while let Some(batch) = next(state) {
        let (entries, told): (Vec<T>, Vec<_>) = batch.into_iter().map(|waiting| (waiting.entry, waiting.told)).unzip();
        for (told, result) in told.into_iter().zip(call.send(entries).await) {
            // Whoever has stopped waiting needs no answer.
            let _ = told.send(result);
        }
    }
}

/// What goes with the next call; where there is nothing, the call is free again.
fn next<T>(state: &Mutex<State<T>>) -> Option<Vec<Waiting<T>>> {
    let mut state = locked(state);
    if state.waiting.is_empty() {
        state.calls -= 1;
        return None;
    }
    let count = state.waiting.len().min(BATCH);
    Some(state.waiting.drain(..count).collect())
}

/// One result for each of `count` entries whose ids are their places: those that are not among the failed were taken.
pub(super) fn results<'a>(
    count: usize,
    failed: impl IntoIterator<Item = (&'a str, PortError)>,
) -> Vec<Result<(), PortError>> {
    let mut results: Vec<Result<(), PortError>> = (0..count).map(|_| Ok(())).collect();
    for (id, error) in failed {
        if let Some(place) = id.parse::<usize>().ok().and_then(|index| results.get_mut(index)) {
            *place = Err(error);
        }
    }
    results
}

/// The same failure for each of `count` entries.
pub(super) fn all_failed(count: usize, error: impl Fn() -> PortError) -> Vec<Result<(), PortError>> {
    (0..count).map(|_| Err(error())).collect()
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    /// Far more than all calls take at first.
    const ENTRIES: usize = 200;

    /// Sends nothing, remembers everything, and waits for a permit with each call.
    struct Slow {
        sent: Mutex<Vec<Vec<u32>>>,
        permits: Semaphore,
    }

    #[async_trait]
    impl BatchCall<u32> for Arc<Slow> {
        fn action(&self) -> &'static str {
            "testing"
        }

        async fn send(&self, entries: Vec<u32>) -> Vec<Result<(), PortError>> {
            self.permits.acquire().await.unwrap().forget();
            self.sent.lock().unwrap().push(entries.clone());
            let refused = || PortError::Failed { action: "testing", source: Box::new(NotSent::TooMany) };
            entries.into_iter().map(|entry| if entry == 13 { Err(refused()) } else { Ok(()) }).collect()
        }
    }

    fn slow(permits: usize) -> (Arc<Slow>, Arc<Batcher<u32, Arc<Slow>>>) {
        let slow = Arc::new(Slow { sent: Mutex::default(), permits: Semaphore::new(permits) });
        (slow.clone(), Arc::new(Batcher::new(slow)))
    }

    fn sizes(slow: &Slow) -> Vec<usize> {
        slow.sent.lock().unwrap().iter().map(Vec::len).collect()
    }

    #[test]
    fn of_a_batch_only_the_failed_entries_fail() {
        let error = || PortError::Failed { action: "testing", source: Box::new(NotSent::Ended) };
        let results = results(3, [("1", error()), ("x", error()), ("7", error())]);
        assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    }

    #[tokio::test]
    async fn a_single_entry_goes_at_once_and_those_given_together_go_together() {
        let (slow, gather) = slow(10);
        gather.send(vec![1]).await.unwrap();
        gather.send(vec![2, 3]).await.unwrap();
        assert_eq!(*slow.sent.lock().unwrap(), [vec![1], vec![2, 3]]);
    }

    #[tokio::test]
    async fn what_comes_while_all_calls_are_out_goes_together_and_each_hears_of_its_own() {
        let (slow, gather) = slow(0);
        let sends: Vec<_> = (0..ENTRIES)
            .map(|entry| {
                tokio::spawn({
                    let gather = gather.clone();
                    async move { gather.send(vec![u32::try_from(entry).unwrap()]).await }
                })
            })
            .collect();
        while locked(&gather.state).waiting.len() < ENTRIES - CALLS_MAX * BATCH {
            tokio::task::yield_now().await;
        }
        slow.permits.add_permits(100);
        for (entry, send) in sends.into_iter().enumerate() {
            assert_eq!(send.await.unwrap().is_ok(), entry != 13, "{entry}");
        }
        let sizes = sizes(&slow);
        assert_eq!(sizes.iter().sum::<usize>(), ENTRIES);
        assert!(sizes.len() <= CALLS_MAX + ENTRIES / BATCH && sizes.iter().all(|size| *size <= BATCH), "{sizes:?}");
        assert_eq!(locked(&gather.state).calls, 0);
    }

    #[tokio::test]
    async fn what_was_given_is_sent_even_if_nobody_waits_and_too_much_is_refused() {
        let (slow, gather) = slow(0);
        let full = gather.send(vec![0; WAITING_MAX]);
        assert!(tokio::time::timeout(std::time::Duration::from_millis(1), full).await.is_err());
        let refused = gather.send(vec![1; WAITING_MAX]).await.unwrap_err();
        assert!(matches!(refused, PortError::Unavailable { .. }));
        slow.permits.add_permits(Semaphore::MAX_PERMITS / 2);
        while sizes(&slow).iter().sum::<usize>() < WAITING_MAX {
            tokio::task::yield_now().await;
        }
    }
}
