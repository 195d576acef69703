//! The window searches are gathered in. It has no task of its own: the first of those who wait to see its end closes it, and matching is
//! plain arithmetic, so nobody can be stopped between closing a window and telling the others.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dispatch_core::candidate::Candidate;
use dispatch_core::ids::DriverId;
use dispatch_core::matching::{PLENTIFUL, Plan, Request, offer_order, plan};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Requests of a window: what is solved in some two milliseconds, and more than a process of this size has in five seconds. Searches
/// beyond go on at once.
pub(super) const WINDOW_MAX: usize = 256;

/// Windows for which nothing is gathered after one in which drivers were plentiful. Then one is tried again: the bound of what a
/// city that grows short of drivers loses by it.
const REST_WINDOWS: u32 = 5;

/// A search that waits.
pub(super) struct Entry {
    request: Request,
    ranked: Vec<Candidate>,
    max_candidates: u8,
    waiting: Vec<oneshot::Sender<Vec<Candidate>>>,
}

impl Entry {
    /// A search with its candidates, of whom it asks `max_candidates`.
    pub(super) fn new(request: Request, ranked: Vec<Candidate>, max_candidates: u8) -> Self {
        Self { request, ranked, max_candidates, waiting: Vec::new() }
    }
}

/// A place in a window.
pub(super) struct Ticket {
    /// Number of the window.
    pub(super) window: u64,
    /// Its end.
    pub(super) closes_at: Instant,
    /// Where the order of the candidates will be told.
    pub(super) order: oneshot::Receiver<Vec<Candidate>>,
}

/// What became of a search that was to be gathered.
pub(super) enum Joined {
    /// It waits.
    Waits(Ticket),
    /// It goes on at once, for a reason that is counted or because the process ends.
    AtOnce(Option<&'static str>),
}

/// The open window, where there is one.
#[derive(Default)]
pub(super) struct Windows(Mutex<State>);

#[derive(Default)]
struct State {
    open: Option<Window>,
    /// Windows opened so far.
    opened: u64,
    /// Until when nothing is gathered, because drivers are plentiful.
    rests_until: Option<Instant>,
    /// How long windows last that are opened now.
    lasts: Duration,
    stopped: bool,
}

/// Searches that were gathered.
pub(super) struct Window {
    number: u64,
    closes_at: Instant,
    entries: Vec<Entry>,
}

/// What a window came to.
pub(super) struct Settled {
    /// Requests gathered.
    pub(super) requests: usize,
    /// Requests nobody was left for.
    pub(super) left_over: usize,
    /// Why each request kept its own order, where it did.
    pub(super) kept_their_order: Option<&'static str>,
    /// Whether waiting gained nothing.
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
        if state.rests_until.is_some_and(|until| now < until) {
            return Joined::AtOnce(Some("plentiful"));
        }
        let (sender, order) = oneshot::channel();
        if state.open.is_none() {
            state.opened += 1;
            state.lasts = lasts;
            state.open = Some(Window { number: state.opened, closes_at: now + lasts, entries: Vec::new() });
        }
        let Some(window) = &mut state.open else { return Joined::AtOnce(None) };
        let ticket = Ticket { window: window.number, closes_at: window.closes_at, order };
        if let Some(same) = window.entries.iter_mut().find(|known| known.request.id == entry.request.id) {
            // Who was dropped while waiting has left its place.
            same.waiting.push(sender);
        } else if window.entries.len() < WINDOW_MAX {
            window.entries.push(Entry { waiting: vec![sender], ..entry });
        } else {
            return Joined::AtOnce(Some("overload"));
        }
        Joined::Waits(ticket)
    }

    /// Takes the window of this number out, if its time is over and nobody was faster.
    pub(super) fn close(&self, number: u64, now: Instant) -> Option<Window> {
        self.state().open.take_if(|window| window.number == number && window.closes_at <= now)
    }

    /// Takes the open window out; no other is opened.
    pub(super) fn stop(&self) -> Option<Window> {
        let mut state = self.state();
        state.stopped = true;
        state.open.take()
    }

    /// Gathers nothing for a while.
    pub(super) fn rest(&self) {
        let mut state = self.state();
        state.rests_until = Some(Instant::now() + state.lasts * REST_WINDOWS);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    /// Matches what was gathered, and tells everybody.
    pub(super) fn settle(self) -> Settled {
        let begun = Instant::now();
        let (requests, asking): (Vec<Request>, Vec<_>) = self
            .entries
            .into_iter()
            .map(|entry| (entry.request, (entry.ranked, entry.max_candidates, entry.waiting)))
            .unzip();
        let planned = plan(&requests);
        let took = begun.elapsed();
        let (kept_their_order, plentiful, assigned) = match planned {
            Plan::Single => (Some("single"), requests.iter().all(|only| only.edges.len() > PLENTIFUL), None),
            Plan::Plentiful => (Some("plentiful"), true, None),
            Plan::Assigned(assigned) => (None, false, Some(assigned)),
        };
        let assigned = assigned.unwrap_or_else(|| vec![None; requests.len()]);
        let taken: BTreeSet<&DriverId> = assigned.iter().flatten().collect();
        let mut left_over = 0;
        for ((mut ranked, max_candidates, waiting), assigned) in asking.into_iter().zip(&assigned) {
            if kept_their_order.is_some() {
                ranked.truncate(max_candidates.into());
            } else {
                ranked = offer_order(ranked, assigned.as_ref(), &taken, max_candidates);
                left_over += usize::from(ranked.is_empty());
            }
            for one in waiting {
                // Who no longer waits needs no order.
                let _ = one.send(ranked.clone());
            }
        }
        Settled { requests: requests.len(), left_over, kept_their_order, plentiful, took }
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
    async fn a_full_window_takes_nobody_in_and_is_closed_once_when_its_time_is_over() {
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
        assert!(matches!(join(0), Joined::Waits(_)), "who waits already needs no room");
        let number = tickets[0].window;
        assert!(windows.close(number, now).is_none(), "too early");
        assert_eq!(windows.close(number, now + lasts).unwrap().settle().requests, WINDOW_MAX);
        assert!(windows.close(number, now + lasts).is_none(), "somebody was faster");
        for ticket in tickets {
            assert!(ticket.order.await.unwrap().is_empty());
        }
    }
}
