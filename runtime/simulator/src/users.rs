//! The users of a run, and what is known of their requests.

use std::collections::{HashSet, VecDeque};

use crate::audit::History;

/// What is known of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestState {
    /// It is being sent.
    Sent,
    /// It is stored under this id.
    Stored(String),
    /// Nothing can happen to it any more.
    Ended(History),
    /// It was not stored.
    NotStored(String),
}

/// Users who can ask now. Each has at most one request at a time.
pub struct UserPool {
    free: VecDeque<u32>,
    next: u32,
    registered: HashSet<u32>,
}

impl UserPool {
    /// So many users.
    pub fn of(count: u32) -> Self {
        Self { free: (0..count).collect(), next: count, registered: HashSet::new() }
    }

    /// The user who has waited longest, or a new one; and whether the service knows it.
    pub fn take(&mut self) -> (u32, bool) {
        let number = self.free.pop_front().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        (number, !self.registered.insert(number))
    }

    /// Makes a user free again.
    pub fn give_back(&mut self, number: u32) {
        self.free.push_back(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_take_turns_and_grow_where_all_are_busy() {
        let mut pool = UserPool::of(2);
        assert_eq!(pool.take(), (0, false));
        assert_eq!(pool.take(), (1, false));
        assert_eq!(pool.take(), (2, false), "a new one");
        pool.give_back(1);
        pool.give_back(0);
        assert_eq!(pool.take(), (1, true), "who waited longest, and is known");
    }
}
