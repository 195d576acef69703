//! The figures of a run.

use std::collections::BTreeMap;

use super::bill::{Bill, route_in_chunks, route_literally};
use super::world::{Request, World};
use crate::stats::{gini, mean, number, percent, quantile};

/// Time between two points of a route, ms.
const PING_MS: u64 = 4_000;

/// Limit of [`Metric::Soon`], s.
const SOON_S: f64 = 30.0;

/// A figure of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Metric {
    /// Share of requests that were accepted.
    Served,
    /// Share of requests whose rider gave up.
    GaveUp,
    /// Share of requests that were accepted within 30 s.
    Soon,
    /// Mean time from the request to the acceptance or the end, over all requests, s.
    Waited,
    /// Mean time from the request to the acceptance, over accepted requests, s.
    MatchMean,
    /// Median of that time, s.
    MatchP50,
    /// 95th percentile of that time, s.
    MatchP95,
    /// Mean distance of the driver from the pickup at the acceptance, m.
    PickupMean,
    /// 95th percentile of that distance, m.
    PickupP95,
    /// Offers per accepted ride.
    Offers,
    /// Offers per accepted ride to drivers who could not have got the ride.
    Wasted,
    /// Gini coefficient of offers among drivers.
    GiniOffers,
    /// Gini coefficient of idle time among drivers.
    GiniIdle,
    /// DynamoDB reads per accepted ride.
    Reads,
    /// DynamoDB writes per accepted ride.
    Writes,
    /// SQS calls per accepted ride.
    Sqs,
    /// SNS calls per accepted ride.
    Sns,
    /// Read units per accepted ride.
    ReadUnits,
    /// Write units of the table per accepted ride.
    WriteUnits,
    /// Write units of the indexes per accepted ride.
    IndexUnits,
    /// Writes of the route per accepted ride.
    RouteWrites,
    /// Write units of these in the table, without indexes.
    RouteUnits,
    /// Searches that waited for the partition or for Redis, per request.
    Throttled,
    /// Writes that an index partition would have throttled.
    WritesThrottled,
    /// Offers to a driver who had another open offer, per request.
    AtOnce,
    /// Free drivers per open request, median over time.
    Supply,
}

impl Metric {
    /// The value as text.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::Served | Self::Soon | Self::GaveUp => percent(value),
            _ => number(value),
        }
    }
}

pub(super) type Outcome = BTreeMap<Metric, f64>;

/// The figures of a finished run.
pub(super) fn of(world: &World<'_>) -> Outcome {
    let counted: Vec<_> =
        (0..).zip(&world.requests).filter(|(number, _)| world.counts(*number)).map(|(_, request)| request).collect();
    let served: Vec<_> = counted.iter().filter(|request| request.accepted_at.is_some()).collect();
    let waited = |request: &Request| request.accepted_at.map_or(f64::NAN, |at| (at - request.plan.at) as f64 / 1000.0);
    let mut to_match: Vec<f64> = served.iter().map(|request| waited(request)).collect();
    let until_closed =
        |request: &&Request| request.closed_at.map_or(f64::NAN, |at| (at - request.plan.at) as f64 / 1000.0);
    let waits: Vec<f64> = counted.iter().map(until_closed).collect();
    let mut pickups: Vec<f64> = served.iter().map(|request| request.pickup_m).collect();
    let (mut bill, mut routes) = (Bill::default(), Bill::default());
    for request in &counted {
        bill += request.bill;
    }
    for request in &served {
        let pings = u32::try_from(request.driven_ms / PING_MS).unwrap_or(u32::MAX);
        if world.setup.arm.is_literal() {
            route_literally(pings, &mut routes);
        } else {
            route_in_chunks(pings, &mut routes);
        }
    }
    let rides = served.len() as f64;
    let requests = counted.len() as f64;
    let sum = |of: fn(&Request) -> u32| counted.iter().map(|request| f64::from(of(request))).sum::<f64>();
    let mut offers: Vec<f64> = world.drivers.iter().map(|driver| driver.offers.into()).collect();
    let mut idle: Vec<f64> = world.drivers.iter().map(|driver| driver.idle_ms as f64).collect();
    BTreeMap::from([
        (Metric::Served, rides / requests),
        (Metric::GaveUp, sum(|request| u32::from(request.gave_up)) / requests),
        (Metric::Soon, to_match.iter().filter(|seconds| **seconds <= SOON_S).count() as f64 / requests),
        (Metric::Waited, mean(&waits)),
        (Metric::MatchMean, mean(&to_match)),
        (Metric::MatchP50, quantile(&mut to_match, 0.5)),
        (Metric::MatchP95, quantile(&mut to_match, 0.95)),
        (Metric::PickupMean, mean(&pickups)),
        (Metric::PickupP95, quantile(&mut pickups, 0.95)),
        (Metric::Offers, sum(|request| request.pushes) / rides),
        (Metric::Wasted, sum(|request| request.wasted) / rides),
        (Metric::GiniOffers, gini(&mut offers)),
        (Metric::GiniIdle, gini(&mut idle)),
        (Metric::Reads, bill.reads / rides),
        (Metric::Writes, bill.writes / rides),
        (Metric::Sqs, bill.sqs / rides),
        (Metric::Sns, bill.sns / rides),
        (Metric::ReadUnits, bill.read_units / rides),
        (Metric::WriteUnits, bill.write_units / rides),
        (Metric::IndexUnits, bill.index_units / rides),
        (Metric::RouteWrites, routes.writes / rides),
        (Metric::RouteUnits, routes.write_units / rides),
        (Metric::Throttled, world.throttled as f64 / world.requests.len() as f64),
        (Metric::WritesThrottled, world.writes_throttled as f64),
        (Metric::AtOnce, world.ledger.offers_at_once() as f64 / world.requests.len() as f64),
        (Metric::Supply, quantile(&mut world.supply.clone(), 0.5)),
    ])
}
