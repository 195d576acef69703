//! What this process knows of offers without reading: those it has just made, and those that are over.
//!
//! Both save a read. An answer that comes to the process that made the offer is judged on what was stored then; the condition of the
//! write says whether that still holds. A timer whose offer is known to be over has nothing to do: no offer comes alive again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dispatch_core::dispatch::DispatchStatus;
use dispatch_core::ids::DispatchId;

use crate::ports::StoredDispatch;

/// Dispatches of one generation; two are kept, and the older forgotten. Some 3 KB each while an offer is open, so 25 MB at most; at 15 s an
/// offer enough for 270 a second. What is forgotten is read.
const GENERATION: usize = 4096;

/// A dispatch's offers as far as they are known.
enum Known {
    /// An open offer.
    Open(Box<StoredDispatch>),
    /// All offers up to this one are over.
    Over { offer_seq: u32, ver: u32 },
}

impl Known {
    fn of(stored: &StoredDispatch) -> Self {
        let state = &stored.state;
        if state.status == DispatchStatus::Requested && state.driver.is_some() {
            Self::Open(Box::new(stored.clone()))
        } else {
            Self::Over { offer_seq: state.offer_seq, ver: state.ver }
        }
    }

    fn ver(&self) -> u32 {
        match self {
            Self::Open(stored) => stored.state.ver,
            Self::Over { ver, .. } => *ver,
        }
    }
}

/// A memory of bounded size.
#[derive(Default)]
pub(super) struct OfferCache(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<DispatchId, Known>,
    old: HashMap<DispatchId, Known>,
}

impl Generations {
    fn get(&self, id: &DispatchId) -> Option<&Known> {
        self.young.get(id).or_else(|| self.old.get(id))
    }
}

impl OfferCache {
    /// Takes note of a dispatch as it was stored; what is older than what is known changes nothing.
    pub(super) fn note(&self, stored: &StoredDispatch) {
        let mut known = self.locked();
        let id = &stored.state.id;
        if known.get(id).is_some_and(|known| known.ver() >= stored.state.ver) {
            return;
        }
        if known.young.len() >= GENERATION {
            known.old = std::mem::take(&mut known.young);
        }
        known.young.insert(id.clone(), Known::of(stored));
    }

    /// A dispatch as it was when its offer was made, once: whoever fails with it has to read.
    pub(super) fn take_open(&self, id: &DispatchId) -> Option<StoredDispatch> {
        let mut known = self.locked();
        if !matches!(known.get(id), Some(Known::Open(_))) {
            return None;
        }
        let older = known.old.remove(id);
        match known.young.remove(id).or(older) {
            Some(Known::Open(stored)) => Some(*stored),
            _ => None,
        }
    }

    /// Whether an offer is over. False where that is not known.
    pub(super) fn is_over(&self, id: &DispatchId, offer_seq: u32) -> bool {
        match self.locked().get(id) {
            Some(Known::Open(stored)) => stored.state.offer_seq > offer_seq,
            Some(Known::Over { offer_seq: last, .. }) => *last >= offer_seq,
            None => false,
        }
    }

    /// Whether a dispatch is known to have gone on since this version: whoever made it go on, or its own record, sees to the rest.
    pub(super) fn has_gone_on(&self, id: &DispatchId, ver: u32) -> bool {
        self.locked().get(id).is_some_and(|known| known.ver() > ver)
    }

    fn locked(&self) -> MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
