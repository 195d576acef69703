//! Combines the entries of several callers in one call: SQS and SNS accept ten at a time and count one request.
//!
//! No entry waits for a batch to fill. An entry is sent at once if a call is free; entries that arrive while all calls
//! are in progress share the next one. So latency does not grow when load is low, and a loaded process makes as little
//! as a tenth of the calls.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use thiserror::Error;
use tokio::sync::oneshot;

use crate::ports::PortError;

/// Entries of one call, for SQS and SNS alike ("Amazon SQS batch actions", "Amazon SNS message batching"). Both also
/// limit a call to 256 KiB; our entries have 1 or 2 KiB.
const BATCH: usize = 10;
/// Concurrent calls: with ten entries and about ten milliseconds each, eight thousand entries a second.
const CALLS_MAX: usize = 8;
/// Entries that may wait. They are side effects of requests, of which fewer are in progress; more means that the
/// service hangs.
const WAITING_MAX: usize = 4096;

/// A call that accepts several entries.
#[async_trait]
pub(super) trait BatchCall<T>: Send + Sync {
    /// The action named in errors.
    fn action(&self) -> &'static str;

    /// Sends one to ten entries; returns one result for each, in their order.
    async fn send(&self, entries: Vec<T>) -> Vec<Result<(), PortError>>;
}

/// Why an entry was not sent.
#[derive(Debug, Error)]
enum NotSent {
    #[error("too many entries are waiting to be sent")]
    TooMany,
    #[error("the process is shutting down")]
    Ended,
}

struct Waiting<T> {
    entry: T,
    reply: oneshot::Sender<Result<(), PortError>>,
}

struct State<T> {
    waiting: VecDeque<Waiting<T>>,
    /// Calls in progress.
    calls: usize,
}

/// Batches entries for one kind of call.
pub(super) struct Batcher<T, C> {
    call: Arc<C>,
    state: Arc<Mutex<State<T>>>,
}

impl<T: Send + 'static, C: BatchCall<T> + 'static> Batcher<T, C> {
    pub(super) fn new(call: C) -> Self {
        Self { call: Arc::new(call), state: Arc::new(Mutex::new(State { waiting: VecDeque::new(), calls: 0 })) }
    }

    /// The action named in errors.
    pub(super) fn action(&self) -> &'static str {
        self.call.action()
    }

    /// Sends entries and waits for their results; returns the first failure, if any. Entries passed together are sent
    /// together if they fit. They are sent even if the caller stops waiting.
    pub(super) async fn send(&self, entries: Vec<T>) -> Result<(), PortError> {
        let mut results = Vec::with_capacity(entries.len());
        {
            let mut state = self.state.lock();
            if state.waiting.len() + entries.len() > WAITING_MAX {
                return Err(self.not_sent(NotSent::TooMany));
            }
            for entry in entries {
                let (reply, result) = oneshot::channel();
                state.waiting.push_back(Waiting { entry, reply });
                results.push(result);
            }
            if state.calls < CALLS_MAX {
                state.calls += 1;
                let (call, state) = (Arc::clone(&self.call), Arc::clone(&self.state));
                tokio::spawn(async move { drain(&*call, &state).await });
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

/// Sends batches until no entry waits.
async fn drain<T, C: BatchCall<T>>(call: &C, state: &Mutex<State<T>>) {
    while let Some(batch) = next(state) {
        let (entries, replies): (Vec<T>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.entry, waiting.reply)).unzip();
        for (reply, result) in replies.into_iter().zip(call.send(entries).await) {
            // A caller that stopped waiting needs no result.
            let _ = reply.send(result);
        }
    }
}

/// The next batch; if there is none, the call becomes free.
fn next<T>(state: &Mutex<State<T>>) -> Option<Vec<Waiting<T>>> {
    let mut state = state.lock();
    if state.waiting.is_empty() {
        state.calls -= 1;
        return None;
    }
    let count = state.waiting.len().min(BATCH);
    Some(state.waiting.drain(..count).collect())
}

/// One result for each of `count` entries whose ids are their indices: entries without an error succeeded.
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

/// The same error for each of `count` entries.
pub(super) fn all_failed(count: usize, error: impl Fn() -> PortError) -> Vec<Result<(), PortError>> {
    (0..count).map(|_| Err(error())).collect()
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    /// Far more than all concurrent calls accept at first.
    const ENTRIES: usize = 200;

    /// Records entries instead of sending them, and waits for a permit before each call.
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
            self.sent.lock().push(entries.clone());
            let refused = || PortError::Failed { action: "testing", source: Box::new(NotSent::TooMany) };
            entries.into_iter().map(|entry| if entry == 13 { Err(refused()) } else { Ok(()) }).collect()
        }
    }

    fn slow(permits: usize) -> (Arc<Slow>, Arc<Batcher<u32, Arc<Slow>>>) {
        let slow = Arc::new(Slow { sent: Mutex::default(), permits: Semaphore::new(permits) });
        (slow.clone(), Arc::new(Batcher::new(slow)))
    }

    fn sizes(slow: &Slow) -> Vec<usize> {
        slow.sent.lock().iter().map(Vec::len).collect()
    }

    #[test]
    fn only_the_failed_entries_of_a_batch_fail() {
        let error = || PortError::Failed { action: "testing", source: Box::new(NotSent::Ended) };
        let results = results(3, [("1", error()), ("x", error()), ("7", error())]);
        assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    }

    #[tokio::test]
    async fn a_single_entry_is_sent_at_once_and_entries_passed_together_stay_together() {
        let (slow, batcher) = slow(10);
        batcher.send(vec![1]).await.unwrap();
        batcher.send(vec![2, 3]).await.unwrap();
        assert_eq!(*slow.sent.lock(), [vec![1], vec![2, 3]]);
    }

    #[tokio::test]
    async fn entries_that_wait_share_calls_and_each_caller_gets_its_own_result() {
        let (slow, batcher) = slow(0);
        let sends: Vec<_> = (0..ENTRIES)
            .map(|entry| {
                tokio::spawn({
                    let batcher = batcher.clone();
                    async move { batcher.send(vec![u32::try_from(entry).unwrap()]).await }
                })
            })
            .collect();
        while batcher.state.lock().waiting.len() < ENTRIES - CALLS_MAX * BATCH {
            tokio::task::yield_now().await;
        }
        slow.permits.add_permits(100);
        for (entry, send) in sends.into_iter().enumerate() {
            assert_eq!(send.await.unwrap().is_ok(), entry != 13, "{entry}");
        }
        let sizes = sizes(&slow);
        assert_eq!(sizes.iter().sum::<usize>(), ENTRIES);
        assert!(sizes.len() <= CALLS_MAX + ENTRIES / BATCH && sizes.iter().all(|size| *size <= BATCH), "{sizes:?}");
        assert_eq!(batcher.state.lock().calls, 0);
    }

    #[tokio::test]
    async fn accepted_entries_are_sent_without_a_waiting_caller_and_excess_is_refused() {
        let (slow, batcher) = slow(0);
        let full = batcher.send(vec![0; WAITING_MAX]);
        assert!(tokio::time::timeout(std::time::Duration::from_millis(1), full).await.is_err());
        let refused = batcher.send(vec![1; WAITING_MAX]).await.unwrap_err();
        assert!(matches!(refused, PortError::Unavailable { .. }));
        slow.permits.add_permits(Semaphore::MAX_PERMITS / 2);
        while sizes(&slow).iter().sum::<usize>() < WAITING_MAX {
            tokio::task::yield_now().await;
        }
    }
}
