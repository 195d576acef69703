//! The order of candidates: asks how long the nearest drivers need where the city has a router, and writes down what was decided.

use dispatch_core::dispatch::Dispatch;
use dispatch_core::geo::Coordinate;
use dispatch_core::policy::DispatchPolicy;
use dispatch_core::ranking::{PickupTime, Ranking, Shortlist, TimeSource, turn_of};

use super::Engine;
use super::ranking_record::{RankingRecord, TARGET};
use crate::city::Settings;

impl Engine {
    /// Decides in which order the drivers of a search are asked. The log line answers why a driver was asked before another: it
    /// holds all the order depended on, and no position.
    /// Where searches are gathered, `policy` lists more of them than the city's own, and the window decides in which order they are asked.
    pub(super) async fn rank(
        &self,
        settings: &Settings,
        policy: &DispatchPolicy,
        dispatch: &Dispatch,
        shortlist: Shortlist<'_>,
    ) -> Ranking {
        let now = shortlist.now();
        let shortlist = self.with_times(settings, dispatch.pickup, shortlist).await;
        let ranking = shortlist.rank(policy, turn_of(&dispatch.id, policy));
        if tracing::enabled!(target: TARGET, tracing::Level::INFO) {
            let record = RankingRecord::of(&dispatch.id, &self.city.timestamp_ms(now), &settings.rules, &ranking);
            tracing::info!(target: TARGET, dispatch = %dispatch.id, record = %record, "ranked");
        }
        ranking
    }

    /// Adds the router's times of the nearest drivers. Without an answer nobody has one, and distance decides.
    async fn with_times<'a>(&self, settings: &Settings, pickup: Coordinate, shortlist: Shortlist<'a>) -> Shortlist<'a> {
        let places = shortlist.nearest(settings.policy.eta_top_k.into());
        // Of one driver there is only one order.
        if settings.router.is_none() || places.len() < 2 {
            return shortlist;
        }
        let seconds = match self.ports.eta.seconds(&places, pickup).await {
            Ok(seconds) => seconds,
            Err(error) => {
                // The adapter has said so, as often as is useful.
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
