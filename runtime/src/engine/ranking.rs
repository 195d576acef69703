//! Ranks candidates: requests driving times if the city has a router, and logs the decision.

use dispatch_core::dispatch::Dispatch;
use dispatch_core::geo::Coordinate;
use dispatch_core::policy::DispatchPolicy;
use dispatch_core::ranking::{PickupTime, Ranking, Shortlist, TimeSource, exploration_for};

use super::Engine;
use super::ranking_record::{RankingRecord, TARGET};
use crate::city::Settings;

impl Engine {
    /// Ranks the drivers of a search. The log entry explains why a driver was offered the dispatch before another: it
    /// contains everything the order depends on, and no position. For a batched search, `policy` lists more candidates
    /// than the city's own policy; the window decides their order.
    pub(super) async fn rank(
        &self,
        settings: &Settings,
        policy: &DispatchPolicy,
        dispatch: &Dispatch,
        shortlist: Shortlist<'_>,
    ) -> Ranking {
        let now = shortlist.now();
        let shortlist = self.with_times(settings, dispatch.pickup, shortlist).await;
        let ranking = shortlist.rank(policy, exploration_for(&dispatch.id, policy));
        if tracing::enabled!(target: TARGET, tracing::Level::INFO) {
            let record = RankingRecord::new(&dispatch.id, &self.city.timestamp_ms(now), &settings.rules, &ranking);
            tracing::info!(target: TARGET, dispatch = %dispatch.id, record = %record, "ranked");
        }
        ranking
    }

    /// Adds the router's driving times for the nearest drivers. Without an answer no driver has one, and distance
    /// decides.
    async fn with_times<'a>(&self, settings: &Settings, pickup: Coordinate, shortlist: Shortlist<'a>) -> Shortlist<'a> {
        let places = shortlist.nearest(settings.policy.eta_top_k.into());
        // A single driver needs no times.
        if settings.router.is_none() || places.len() < 2 {
            return shortlist;
        }
        let seconds = match self.ports.eta.seconds(&places, pickup).await {
            Ok(seconds) => seconds,
            Err(error) => {
                // The adapter has logged it at a limited rate.
                self.metrics.port_error(&error);
                Vec::new()
            }
        };
        let known = seconds.iter().flatten().count();
        self.metrics.eta_estimated(places.len() - known.min(places.len()));
        if known == 0 {
            return shortlist;
        }
        let straight_line = |place: &Coordinate| PickupTime {
            seconds: settings.fare.drive(place.distance_to(pickup)).1,
            source: TimeSource::StraightLine,
        };
        let router = |seconds: u32| PickupTime { seconds, source: TimeSource::Router };
        let times = places.iter().zip(seconds);
        let times = times.map(|(place, seconds)| seconds.map_or_else(|| straight_line(place), router));
        shortlist.with_times(times)
    }
}
