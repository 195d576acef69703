//! The batch window. It has no task of its own: the first waiting search that notices its end closes it. Matching is
//! pure computation without await points, so no cancellation can occur between closing a window and answering the
//! others.

use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeSet;
use std::time::Duration;

use dispatch_core::candidate::Candidate;
use dispatch_core::ids::DriverId;
use dispatch_core::matching::{PLENTIFUL, Plan, Request, offer_order, plan};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Largest number of requests in a window: solved in about two milliseconds, and more than a process of this size
/// receives in five seconds. Further searches continue at once.
pub(super) const WINDOW_MAX: usize = 256;

/// Number of windows skipped after one in which drivers were plentiful. Then a window is tried again, which bounds the
/// loss of a city that becomes short of drivers.
const SKIPPED_WINDOWS: u32 = 5;

/// A waiting search.
pub(super) struct Entry {
    request: Request,
    ranked: Vec<Candidate>,
    max_candidates: u8,
    waiting: Vec<oneshot::Sender<Vec<Candidate>>>,
}

impl Entry {
    /// A search with its candidates, of whom it offers at most `max_candidates`.
    pub(super) fn new(request: Request, ranked: Vec<Candidate>, max_candidates: u8) -> Self {
        Self { request, ranked, max_candidates, waiting: Vec::new() }
    }
}

/// A place in a window.
pub(super) struct Ticket {
    pub(super) window: u64,
    /// End of the window.
    pub(super) closes_at: Instant,
    /// Receives the order of the candidates.
    pub(super) order: oneshot::Receiver<Vec<Candidate>>,
}

/// The result of joining a window.
pub(super) enum Joined {
    /// The search waits.
    Waits(Ticket),
    /// The search continues at once, for a counted reason or because the process shuts down.
    AtOnce(Option<&'static str>),
}

/// The open window, if any.
#[derive(Default)]
pub(super) struct Windows(Mutex<State>);

#[derive(Default)]
struct State {
    open: Option<BatchWindow>,
    /// Number of windows opened so far.
    opened: u64,
    /// Until when no window is opened, because drivers are plentiful.
    paused_until: Option<Instant>,
    /// Length of the latest window.
    lasts: Duration,
    stopped: bool,
}

/// The searches of one window.
pub(super) struct BatchWindow {
    number: u64,
    closes_at: Instant,
    entries: Vec<Entry>,
}

/// The result of a window.
pub(super) struct WindowOutcome {
    /// Number of requests.
    pub(super) requests: usize,
    /// Requests without a driver.
    pub(super) left_over: usize,
    /// Why the requests kept their own order, if they did.
    pub(super) fallback: Option<&'static str>,
    /// Whether drivers are plentiful, so that waiting gained nothing.
    pub(super) plentiful: bool,
    /// Time the matching took.
    pub(super) took: Duration,
}

impl Windows {
    /// Joins the open window, or opens one that `lasts`.
    pub(super) fn join(&self, entry: Entry, lasts: Duration, now: Instant) -> Joined {
        let mut state = self.state();
        if state.stopped {
            return Joined::AtOnce(None);
        }
        if state.paused_until.is_some_and(|until| now < until) {
            return Joined::AtOnce(Some("plentiful"));
        }
        let (sender, order) = oneshot::channel();
        if state.open.is_none() {
            state.opened += 1;
            state.lasts = lasts;
            state.open = Some(BatchWindow { number: state.opened, closes_at: now + lasts, entries: Vec::new() });
        }
        let Some(window) = &mut state.open else { return Joined::AtOnce(None) };
        let ticket = Ticket { window: window.number, closes_at: window.closes_at, order };
        if let Some(same) = window.entries.iter_mut().find(|known| known.request.id == entry.request.id) {
            // The entry of a search that was cancelled while waiting remains.
            same.waiting.push(sender);
        } else if window.entries.len() < WINDOW_MAX {
            window.entries.push(Entry { waiting: vec![sender], ..entry });
        } else {
            return Joined::AtOnce(Some("overload"));
        }
        Joined::Waits(ticket)
    }

    /// Removes the window with this number if it has ended and no other caller has removed it.
    pub(super) fn close(&self, number: u64, now: Instant) -> Option<BatchWindow> {
        self.state().open.take_if(|window| window.number == number && window.closes_at <= now)
    }

    /// Removes the open window; no other is opened.
    pub(super) fn stop(&self) -> Option<BatchWindow> {
        let mut state = self.state();
        state.stopped = true;
        state.open.take()
    }

    /// Opens no window for a while.
    pub(super) fn pause(&self) {
        let mut state = self.state();
        state.paused_until = Some(Instant::now() + state.lasts * SKIPPED_WINDOWS);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

impl BatchWindow {
    /// Matches the requests and sends each search its order.
    pub(super) fn settle(self) -> WindowOutcome {
        let started = Instant::now();
        let (requests, asking): (Vec<Request>, Vec<_>) = self
            .entries
            .into_iter()
            .map(|entry| (entry.request, (entry.ranked, entry.max_candidates, entry.waiting)))
            .unzip();
        let planned = plan(&requests);
        let took = started.elapsed();
        let (fallback, plentiful, assigned) = match planned {
            Plan::Single => (Some("single"), requests.iter().all(|only| only.edges.len() > PLENTIFUL), None),
            Plan::Plentiful => (Some("plentiful"), true, None),
            Plan::Assigned(assigned) => (None, false, Some(assigned)),
        };
        let assigned = assigned.unwrap_or_else(|| vec![None; requests.len()]);
        let taken: BTreeSet<&DriverId> = assigned.iter().flatten().collect();
        let mut left_over = 0;
        for ((mut ranked, max_candidates, waiting), assigned) in asking.into_iter().zip(&assigned) {
            if fallback.is_some() {
                ranked.truncate(max_candidates.into());
            } else {
                ranked = offer_order(ranked, assigned.as_ref(), &taken, max_candidates);
                left_over += usize::from(ranked.is_empty());
            }
            for one in waiting {
                // A cancelled search needs no order.
                let _ = one.send(ranked.clone());
            }
        }
        WindowOutcome { requests: requests.len(), left_over, fallback, plentiful, took }
    }
}

#[cfg(test)]
mod tests {
    use dispatch_core::ids::DispatchId;

    use super::*;

    fn entry(number: usize) -> Entry {
        let id = DispatchId::from_suffix(&number.to_string()).unwrap();
        Entry::new(Request { id, waited_ms: 0, edges: Vec::new() }, Vec::new(), 5)
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_window_admits_no_search_and_is_closed_once_at_its_end() {
        let windows = Windows::default();
        let lasts = Duration::from_secs(2);
        let now = Instant::now();
        let join = |number| windows.join(entry(number), lasts, now);
        let tickets: Vec<Ticket> = (0..WINDOW_MAX)
            .map(|number| match join(number) {
                Joined::Waits(ticket) => ticket,
                Joined::AtOnce(_) => panic!("there is room"),
            })
            .collect();
        assert!(matches!(join(WINDOW_MAX), Joined::AtOnce(Some("overload"))));
        assert!(matches!(join(0), Joined::Waits(_)), "a search that already waits takes no further place");
        let number = tickets[0].window;
        assert!(windows.close(number, now).is_none(), "too early");
        assert_eq!(windows.close(number, now + lasts).unwrap().settle().requests, WINDOW_MAX);
        assert!(windows.close(number, now + lasts).is_none(), "it is already closed");
        for ticket in tickets {
            assert!(ticket.order.await.unwrap().is_empty());
        }
    }
}
