//! Audit of rides and offers, independent of the decisions of the arm.

use std::collections::BTreeMap;

/// A ride or an offer of a driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interval {
    pub driver: u32,
    /// Start, ms.
    pub from: u64,
    /// End, ms.
    pub to: u64,
}

/// All rides and offers of a run.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub rides: Vec<Interval>,
    offers: Vec<Interval>,
    acceptances: BTreeMap<u32, u32>,
}

impl Ledger {
    /// Records an offer; returns the index of the entry.
    pub(super) fn offer(&mut self, driver: u32, from: u64) -> usize {
        self.offers.push(Interval { driver, from, to: u64::MAX });
        self.offers.len() - 1
    }

    /// Records the end of an offer.
    pub(super) fn offer_over(&mut self, entry: usize, at: u64) {
        if let Some(offer) = self.offers.get_mut(entry) {
            offer.to = at;
        }
    }

    /// Records the acceptance of a request.
    pub(super) fn accepted(&mut self, request: u32) {
        *self.acceptances.entry(request).or_default() += 1;
    }

    /// Ends all open offers at the end of the run.
    pub(super) fn close(&mut self, at: u64) {
        for offer in self.offers.iter_mut().filter(|offer| offer.to == u64::MAX) {
            offer.to = at;
        }
    }

    /// Number of overlapping rides of one driver and of requests that were accepted twice.
    pub(super) fn violations(&self) -> usize {
        overlaps(&self.rides) + self.acceptances.values().filter(|count| **count > 1).count()
    }

    /// Number of offers to a driver who had another open offer.
    pub(super) fn offers_at_once(&self) -> usize {
        overlaps(&self.offers)
    }
}

fn overlaps(intervals: &[Interval]) -> usize {
    let mut by_driver: Vec<(u32, u64, u64)> = intervals.iter().map(|one| (one.driver, one.from, one.to)).collect();
    by_driver.sort_unstable();
    let mut count = 0;
    let mut last: Option<(u32, u64)> = None;
    for (driver, from, to) in by_driver {
        let busy_until = last.filter(|(other, _)| *other == driver).map_or(0, |(_, until)| until);
        count += usize::from(from < busy_until);
        last = Some((driver, to.max(busy_until)));
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_on_two_rides_is_found() {
        let ride = |driver, from, to| Interval { driver, from, to };
        assert_eq!(overlaps(&[ride(1, 0, 10), ride(1, 10, 20), ride(2, 5, 8)]), 0);
        assert_eq!(overlaps(&[ride(1, 0, 10), ride(2, 5, 8), ride(1, 9, 12)]), 1);
    }

    #[test]
    fn a_request_accepted_twice_is_found() {
        let mut ledger = Ledger::default();
        ledger.accepted(3);
        assert_eq!(ledger.violations(), 0);
        ledger.accepted(3);
        assert_eq!(ledger.violations(), 1);
    }
}
