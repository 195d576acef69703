//! The search for drivers in the table (spec §4), while the cache is cold or down.

use std::collections::HashSet;
use std::sync::Arc;

use dispatch_core::candidate::{AcceptanceCounts, DriverSnapshot, Search, eligibility};
use dispatch_core::geo::{Metres, region_of_address};
use dispatch_core::policy::DispatchPolicy;
use dispatch_core::time::EpochMs;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::adapters::fleet::fleet_entry;
use crate::engine::Engine;
use crate::ports::{ActiveCursor, FleetEntry, PortError, StoredDispatch};

/// Pages of one reading, of at most 1,000 drivers each. In a city with more active drivers, the district of the pickup
/// is read first.
const PAGES_MAX: usize = 20;

/// Drivers fetched when none of the nearest is eligible: one round trip. More would cost more than the next search two
/// seconds later.
pub(super) const FETCHED_MAX: usize = 200;

/// Why the cache is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cache {
    Cold,
    Down,
}

/// A search in the table.
#[derive(Clone, Copy)]
pub(super) struct TableSearch<'a> {
    pub search: &'a Search,
    pub policy: &'a DispatchPolicy,
    pub now: EpochMs,
    pub cache: Cache,
}

/// The active drivers as last read from the table. Searches that wait for the same reading share it: while the cache is
/// down, every search of a process would otherwise read the whole city.
#[derive(Default)]
pub(super) struct ActiveDrivers(Mutex<Option<Reading>>);

struct Reading {
    begun: Instant,
    /// The district that was read first.
    region: String,
    /// Whether every active driver was read.
    is_whole: bool,
    /// `None` if reading failed.
    entries: Option<Arc<Vec<FleetEntry>>>,
}

impl Engine {
    /// The nearest drivers of the table whom the dispatch may be offered to, nearest first.
    ///
    /// The table has a driver's position at the last change of status. It counts as fresh in this search, because
    /// nothing better is known and a wrong guess costs one offer. The cache gets the true age, so that only a ping
    /// makes the driver fresh there. Drivers whom a refilled cache knows from pings come before all others: the others
    /// may be gone.
    pub(super) async fn drivers_from_table(
        &self,
        stored: &StoredDispatch,
        wanted: TableSearch<'_>,
    ) -> Result<Vec<DriverSnapshot>, PortError> {
        let TableSearch { search, policy, now, cache } = wanted;
        let region = region_of_address(&stored.details.pickup.address);
        let entries = self.active_entries(stored, region, cache).await?;
        let is_eligible = |driver: &DriverSnapshot| eligibility(driver, search, policy, now).is_ok();
        if cache == Cache::Cold {
            let live = self.live_drivers(stored, wanted).await;
            if live.iter().any(is_eligible) {
                return Ok(live);
            }
        }
        let within_m = policy.search_rings_m.last().copied().map_or(0.0, f64::from);
        let mut near: Vec<(f64, DriverSnapshot)> = entries
            .iter()
            .map(|entry| (entry.position.distance_to(search.pickup).0, entry))
            .filter(|(distance_m, _)| *distance_m <= within_m)
            .map(|(distance_m, entry)| (distance_m, snapshot(entry, now)))
            .filter(|(_, driver)| is_eligible(driver))
            .collect();
        near.sort_by(|(a_m, a), (b_m, b)| a_m.total_cmp(b_m).then_with(|| a.id.cmp(&b.id)));
        near.truncate(FETCHED_MAX);
        let (active, found) = (entries.len(), near.len());
        tracing::info!(dispatch = %stored.state.id, active, found, ?cache, "searched the table");
        Ok(near.into_iter().map(|(_, driver)| driver).collect())
    }

    /// The active drivers, read after this call began. A cold cache is filled with them.
    async fn active_entries(
        &self,
        stored: &StoredDispatch,
        region: &str,
        cache: Cache,
    ) -> Result<Arc<Vec<FleetEntry>>, PortError> {
        let asked = Instant::now();
        let mut last = self.active_drivers.0.lock().await;
        if let Some(reading) = last.as_ref().filter(|reading| reading.begun >= asked) {
            match &reading.entries {
                Some(entries) if reading.is_whole || reading.region == region => return Ok(Arc::clone(entries)),
                Some(_) => {}
                None => return Err(reading_failed()),
            }
        }
        let begun = Instant::now();
        let read = self.read_active(region).await;
        let (entries, is_whole) = match read {
            Ok((entries, is_whole)) => (Arc::new(entries), is_whole),
            Err(error) => {
                self.metrics.port_error(&error);
                *last = Some(Reading { begun, region: region.to_owned(), is_whole: false, entries: None });
                return Err(error);
            }
        };
        if cache == Cache::Cold {
            let filled = self.ports.fleet.positions.fill(&entries).await;
            self.tolerate(stored, filled);
        }
        *last = Some(Reading { begun, region: region.to_owned(), is_whole, entries: Some(Arc::clone(&entries)) });
        Ok(entries)
    }

    /// Reads the drivers of a district, then those of the rest of the city. Also returns whether these are all.
    async fn read_active(&self, region: &str) -> Result<(Vec<FleetEntry>, bool), PortError> {
        let (mut entries, mut seen, mut pages) = (Vec::new(), HashSet::new(), 0);
        for within in [Some(region), None] {
            let mut from = Some(ActiveCursor::default());
            while let Some(cursor) = from {
                if pages == PAGES_MAX {
                    return Ok((entries, false));
                }
                let page = self.ports.profiles.active_drivers(within, cursor).await?;
                // Each partition without a driver of the district is a page as well, but costs nothing to speak of.
                pages += usize::from(!page.drivers.is_empty());
                // The city includes the district.
                let new = page.drivers.iter().filter(|driver| seen.insert(driver.id.clone()));
                entries.extend(new.filter_map(fleet_entry));
                from = page.next;
            }
        }
        Ok((entries, true))
    }

    /// Drivers who have sent a ping since the cache was refilled.
    async fn live_drivers(&self, stored: &StoredDispatch, wanted: TableSearch<'_>) -> Vec<DriverSnapshot> {
        let TableSearch { search, policy, now, .. } = wanted;
        let searched = self.ports.fleet.search.nearby(search.pickup, &policy.search_rings_m, FETCHED_MAX, now).await;
        match searched {
            Ok(known) => {
                let fresh = |driver: &DriverSnapshot| now.since_ms(driver.seen_at) <= policy.stale_after_ms;
                known.unwrap_or_default().into_iter().filter(fresh).collect()
            }
            Err(error) => {
                self.tolerate(stored, Err(error));
                Vec::new()
            }
        }
    }
}

fn reading_failed() -> PortError {
    let source = "the drivers could not be read a moment ago".into();
    PortError::Unavailable { action: "searching active drivers", source }
}

fn snapshot(entry: &FleetEntry, now: EpochMs) -> DriverSnapshot {
    DriverSnapshot {
        id: entry.driver.clone(),
        availability: entry.status,
        position: entry.position,
        seen_at: now,
        idle_since: entry.seen_at,
        max_distance: Metres::from_km(entry.preferences.max_distance),
        minimum_fare: entry.preferences.minimum_fare,
        auto_accept: entry.preferences.auto_accept,
        acceptance: AcceptanceCounts::default(),
        resting: false,
    }
}
