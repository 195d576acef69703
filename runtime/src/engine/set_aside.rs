//! Dispatches that cannot be continued, because a stored item cannot be read or the table refuses the write.

use std::collections::{HashMap, HashSet};

use dispatch_core::ids::DispatchId;
use dispatch_core::time::EpochMs;
use parking_lot::Mutex;

/// Time a dispatch is left alone, ms. An operator who repaired it waits at most that long.
const SET_ASIDE_MS: u64 = 10 * 60 * 1000;

/// Dispatches that are remembered, about 100 bytes each. A city with more has to be repaired before it can be swept.
const REMEMBERED_MAX: usize = 20_000;

/// Dispatches set aside, and until when.
#[derive(Default)]
pub struct SetAside(Mutex<HashMap<DispatchId, EpochMs>>);

impl SetAside {
    /// Sets a dispatch aside. The sweeper, which reads the oldest requests first, would otherwise meet it in each round
    /// and, with enough of them, nothing else.
    pub fn add(&self, id: &DispatchId, now: EpochMs) {
        let mut ids = self.0.lock();
        if ids.len() >= REMEMBERED_MAX {
            ids.retain(|_, until| *until > now);
        }
        if ids.len() < REMEMBERED_MAX {
            ids.insert(id.clone(), now.plus_ms(SET_ASIDE_MS));
        }
    }

    /// The dispatches that are set aside now.
    pub fn ids(&self, now: EpochMs) -> HashSet<DispatchId> {
        let mut ids = self.0.lock();
        ids.retain(|_, until| *until > now);
        ids.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dispatch_is_set_aside_for_a_while() {
        let (set_aside, now) = (SetAside::default(), EpochMs(1_000));
        let id = DispatchId::parse("dispatch#1").unwrap();
        set_aside.add(&id, now);
        assert!(set_aside.ids(now.plus_ms(SET_ASIDE_MS - 1)).contains(&id));
        assert!(set_aside.ids(now.plus_ms(SET_ASIDE_MS)).is_empty());
    }

    #[test]
    fn the_set_is_bounded_and_makes_room() {
        let (set_aside, now) = (SetAside::default(), EpochMs(1_000));
        for number in 0..=REMEMBERED_MAX {
            set_aside.add(&DispatchId::parse(format!("dispatch#{number}")).unwrap(), now);
        }
        assert_eq!(set_aside.ids(now).len(), REMEMBERED_MAX);
        let later = now.plus_ms(SET_ASIDE_MS);
        set_aside.add(&DispatchId::parse("dispatch#new").unwrap(), later);
        assert_eq!(set_aside.ids(later).len(), 1);
    }
}
