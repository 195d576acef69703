//! The offers this process knows without reading: those it has just made, and those that have ended.
//!
//! Both save a read. An answer that arrives at the process that made the offer is decided on the cached dispatch; the
//! write condition verifies that it is still current. A timer whose offer is known to have ended has nothing to do: an
//! ended offer never reopens.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;

use dispatch_core::dispatch::DispatchStatus;
use dispatch_core::ids::DispatchId;

use crate::ports::StoredDispatch;

/// Dispatches of one generation. Two generations are kept, and the older one is dropped. An entry takes about 3 KB
/// while an offer is open, so 25 MB at most; with offers of 15 s that is enough for 270 offers a second. Dropped
/// entries are read from the table.
const GENERATION: usize = 4096;

/// What is known of a dispatch's offers.
enum OpenOffer {
    /// An open offer.
    Open(Box<StoredDispatch>),
    /// An offer that is being answered from the cached dispatch; whether it is still open is not known. The version is
    /// kept, so that a late stream record of an earlier one starts no search meanwhile.
    Taken { offer_seq: u32, ver: u32 },
    /// All offers up to this one have ended.
    Over { offer_seq: u32, ver: u32 },
}

impl OpenOffer {
    fn from_stored(stored: &StoredDispatch) -> Self {
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
            Self::Taken { ver, .. } | Self::Over { ver, .. } => *ver,
        }
    }
}

/// A cache of bounded size.
#[derive(Default)]
pub(super) struct OfferCache(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<DispatchId, OpenOffer>,
    old: HashMap<DispatchId, OpenOffer>,
}

impl Generations {
    fn get(&self, id: &DispatchId) -> Option<&OpenOffer> {
        self.young.get(id).or_else(|| self.old.get(id))
    }
}

impl OfferCache {
    /// Records a stored dispatch; a version older than the known one is ignored.
    pub(super) fn note(&self, stored: &StoredDispatch) {
        let mut known = self.locked();
        let id = &stored.state.id;
        if known.get(id).is_some_and(|known| known.ver() >= stored.state.ver) {
            return;
        }
        if known.young.len() >= GENERATION {
            known.old = std::mem::take(&mut known.young);
        }
        known.young.insert(id.clone(), OpenOffer::from_stored(stored));
    }

    /// Takes the dispatch with its open offer. It is used once; a caller that fails with it has to read.
    pub(super) fn take_open(&self, id: &DispatchId) -> Option<StoredDispatch> {
        let mut known = self.locked();
        if !matches!(known.get(id), Some(OpenOffer::Open(_))) {
            return None;
        }
        let older = known.old.remove(id);
        let Some(OpenOffer::Open(stored)) = known.young.remove(id).or(older) else { return None };
        let StoredDispatch { state, .. } = &*stored;
        known.young.insert(id.clone(), OpenOffer::Taken { offer_seq: state.offer_seq, ver: state.ver });
        Some(*stored)
    }

    /// Whether an offer has ended. False if unknown.
    pub(super) fn is_over(&self, id: &DispatchId, offer_seq: u32) -> bool {
        match self.locked().get(id) {
            Some(OpenOffer::Open(stored)) => stored.state.offer_seq > offer_seq,
            Some(OpenOffer::Taken { offer_seq: last, .. }) => *last > offer_seq,
            Some(OpenOffer::Over { offer_seq: last, .. }) => *last >= offer_seq,
            None => false,
        }
    }

    /// Whether a dispatch is known to have advanced beyond this version; the change itself has then triggered the next
    /// step.
    pub(super) fn has_advanced(&self, id: &DispatchId, ver: u32) -> bool {
        self.locked().get(id).is_some_and(|known| known.ver() > ver)
    }

    fn locked(&self) -> MutexGuard<'_, Generations> {
        self.0.lock()
    }
}
