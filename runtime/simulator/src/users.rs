//! The users of a run, and the state of their requests.

use std::collections::{HashSet, VecDeque};

use crate::audit::History;

/// The state of a request, as far as the simulator knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RequestState {
    /// Sent, without a response yet.
    Sent,
    /// Stored under this dispatch id.
    Stored(String),
    /// Ended with this history.
    Ended(History),
    /// Refused until its user gave up, because the service was unavailable.
    Refused,
    /// Not stored, for this reason.
    NotStored(String),
}

/// Users who can request a ride now. Each has at most one request at a time.
pub(crate) struct UserPool {
    free: VecDeque<u32>,
    next: u32,
    registered: HashSet<u32>,
}

impl UserPool {
    pub(crate) fn new(count: u32) -> Self {
        Self { free: (0..count).collect(), next: count, registered: HashSet::new() }
    }

    /// The user who has been free for the longest time, or a new one, and whether it is registered already.
    pub(crate) fn take(&mut self) -> (u32, bool) {
        let number = self.free.pop_front().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        (number, !self.registered.insert(number))
    }

    /// Returns a user to the pool.
    pub(crate) fn give_back(&mut self, number: u32) {
        self.free.push_back(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_take_turns_and_new_ones_are_added_when_all_are_busy() {
        let mut pool = UserPool::new(2);
        assert_eq!(pool.take(), (0, false));
        assert_eq!(pool.take(), (1, false));
        assert_eq!(pool.take(), (2, false), "a new one");
        pool.give_back(1);
        pool.give_back(0);
        assert_eq!(pool.take(), (1, true), "the longest free, registered");
    }
}
