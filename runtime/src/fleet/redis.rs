//! The ports of the driver cache on Redis.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dispatch_core::candidate::{AcceptanceCounts, DriverSnapshot};
use dispatch_core::dispatch::OfferOutcome;
use dispatch_core::geo::{Coordinate, Metres};
use dispatch_core::ids::{DispatchId, DriverId};
use dispatch_core::person::PersonStatus;
use dispatch_core::ping_filter::STRIKES_HIDDEN;
use dispatch_core::route::RoutePoint;
use dispatch_core::time::EpochMs;
use redis::aio::{ConnectionManager, MultiplexedConnection};
use redis::{FromRedisValue, Pipeline, RedisError, ScriptInvocation, Value};

use super::connect::{ConnectError, RedisConnector};
use super::error::failed;
use super::feed::Entries;
use super::index::LiveDriver;
use super::keys::{self, Keys};
use super::ping_batcher::PingBatcher;
use super::record_pings::PingRecorder;
use super::scripts::{PUT_VALUES, Scripts};
use super::{
    ACCEPTANCE_DAYS_KEPT, DAY_MS, DRIVER_TTL_MS, FRESHER_BY_MS, ROUTE_CHUNK_POINTS, chunks_after_loss, fresh_since,
    status_text,
};
use crate::city::City;
use crate::ports::{
    Clock, DriverSearch, FleetEntry, HoldToken, Ping, PingOutcome, PortError, PositionSink, Reservations, RouteTail,
    RouteTails,
};

/// How long a live route is kept: longer than any ride.
const ROUTE_TTL_MS: u64 = DAY_MS;

/// How long the cache counts as warm after it was filled. A wiped cache is cold at once; one whose drivers never came
/// back is believed no longer than this.
const WARM_TTL_MS: u64 = 600_000;

/// Drivers or routes per script call: about 2 ms of the server's only thread.
const SCRIPT_BATCH: usize = 200;

/// Most drivers one search reads.
const NEARBY_MAX: usize = 200;

/// Answers per driver in the pipeline that reads details.
const DETAILS_PER_DRIVER: usize = 4;

/// The driver cache in Redis. It requires `GEOSEARCH` (Redis 6.2), which every `ElastiCache` engine version that the
/// resource accepts has.
pub struct RedisFleet {
    connection: ConnectionManager,
    scripts: Scripts,
    keys: Keys,
    city: City,
    clock: Arc<dyn Clock>,
    pings: PingBatcher,
}

impl RedisFleet {
    /// Connects with the first call.
    pub fn new(connector: &RedisConnector, city: City, clock: Arc<dyn Clock>) -> Result<Self, ConnectError> {
        let (connection, scripts, keys) = (connector.manager()?, Scripts::new(), Keys::new(&city.name));
        let recorder = PingRecorder {
            connection: connection.clone(),
            script: scripts.record.clone(),
            keys: keys.clone(),
            city: city.clone(),
            clock: Arc::clone(&clock),
        };
        Ok(Self { connection, scripts, keys, city, clock, pings: PingBatcher::new(recorder) })
    }

    async fn call<T: FromRedisValue>(
        &self,
        action: &'static str,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, PortError> {
        script.invoke_async(&mut self.connection.clone()).await.map_err(|error| failed(action, error))
    }

    async fn pipe<T: FromRedisValue>(&self, action: &'static str, pipeline: &Pipeline) -> Result<T, PortError> {
        pipeline.query_async(&mut self.connection.clone()).await.map_err(|error| failed(action, error))
    }

    /// Ids of free drivers around a place, nearest first. `None` if the cache is cold.
    async fn search(
        &self,
        center: Coordinate,
        rings_m: &[u32],
        enough: usize,
    ) -> Result<Option<Vec<DriverId>>, PortError> {
        let mut found = Vec::new();
        for ring_m in rings_m {
            let mut pipeline = redis::pipe();
            pipeline.exists(self.keys.warm()).cmd("GEOSEARCH").arg(self.keys.geo());
            pipeline.arg("FROMLONLAT").arg(center.lng()).arg(center.lat()).arg("BYRADIUS").arg(*ring_m).arg("m");
            pipeline.arg("ASC").arg("COUNT").arg(enough);
            let (warm, ids): (bool, Vec<String>) = self.pipe("searching drivers", &pipeline).await?;
            if !warm {
                return Ok(None);
            }
            found = ids;
            if found.len() >= enough {
                break;
            }
        }
        Ok(Some(found.into_iter().filter_map(|id| DriverId::parse(id).ok()).collect()))
    }

    /// Everything that ranking needs of the drivers, in one round trip. Missing or unreadable drivers are skipped.
    pub(super) async fn details(
        &self,
        ids: &[DriverId],
        now: EpochMs,
    ) -> Result<Vec<(DriverId, LiveDriver)>, PortError> {
        let mut pipeline = Pipeline::with_capacity(ids.len() * DETAILS_PER_DRIVER);
        for id in ids {
            pipeline.cmd("HMGET").arg(self.keys.driver(id)).arg(&DETAIL_FIELDS);
            pipeline.pttl(self.keys.hold(id)).pttl(self.keys.rest(id)).hgetall(self.keys.acceptance(id));
        }
        let answers: Vec<Value> = self.pipe("reading drivers", &pipeline).await?;
        let oldest = self.first_day_of_window(now);
        Ok(ids
            .iter()
            .zip(answers.chunks_exact(DETAILS_PER_DRIVER))
            .filter_map(|(id, values)| Some((id.clone(), live_driver(values, &oldest, now)?)))
            .collect())
    }

    /// Whether the cache can answer for the city.
    pub(super) async fn is_warm(&self) -> Result<bool, PortError> {
        let mut pipeline = redis::pipe();
        pipeline.exists(self.keys.warm());
        let (warm,): (bool,) = self.pipe("asking whether the cache is warm", &pipeline).await?;
        Ok(warm)
    }

    /// All drivers that send pings, free or not.
    pub(super) async fn live_drivers(&self) -> Result<Vec<DriverId>, PortError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("ZRANGE").arg(self.keys.seen()).arg(0).arg(-1);
        let (ids,): (Vec<String>,) = self.pipe("listing drivers", &pipeline).await?;
        Ok(ids.into_iter().filter_map(|id| DriverId::parse(id).ok()).collect())
    }

    /// Id of the newest feed entry; the beginning of the feed if it is empty.
    pub(super) async fn feed_tip(&self) -> Result<String, PortError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("XREVRANGE").arg(self.keys.feed()).arg("+").arg("-").arg("COUNT").arg(1);
        let (newest,): (Entries,) = self.pipe("reading the feed", &pipeline).await?;
        Ok(newest.into_iter().next().map_or_else(|| "0-0".to_owned(), |(id, _)| id))
    }

    /// A separate connection for reads that block for up to `block`.
    pub(super) async fn feed_connection(
        &self,
        connector: &RedisConnector,
        block: Duration,
    ) -> Result<MultiplexedConnection, PortError> {
        connector.waiting(block).await.map_err(|error| failed("connecting for the feed", error))
    }

    /// At most `count` entries after an id. Blocks for up to `block` until there is one.
    pub(super) async fn feed_after(
        &self,
        connection: &mut MultiplexedConnection,
        after: &str,
        count: usize,
        block: Duration,
    ) -> Result<Entries, PortError> {
        let mut read = redis::cmd("XREAD");
        read.arg("COUNT").arg(count).arg("BLOCK").arg(u64::try_from(block.as_millis()).unwrap_or(u64::MAX));
        read.arg("STREAMS").arg(self.keys.feed()).arg(after);
        let answer: Result<Option<Vec<(String, Entries)>>, RedisError> = read.query_async(connection).await;
        let streams = answer.map_err(|error| failed("reading the feed", error))?;
        Ok(streams.unwrap_or_default().into_iter().flat_map(|(_, entries)| entries).collect())
    }

    /// Drivers whose last ping is older than this are no candidates.
    pub(super) fn fresh_since(&self, now: EpochMs) -> EpochMs {
        fresh_since(&self.city, now)
    }

    pub(super) fn now(&self) -> EpochMs {
        self.clock.now()
    }

    fn first_day_of_window(&self, now: EpochMs) -> String {
        let days = u64::from(self.city.settings().policy.acceptance_window_days);
        self.day_before(now, days.saturating_sub(1))
    }

    fn day_before(&self, now: EpochMs, days: u64) -> String {
        let back = i64::try_from(days * DAY_MS).unwrap_or(i64::MAX);
        self.city.day(EpochMs(now.0.saturating_sub(back)))
    }

    async fn put_batch(&self, entries: &[FleetEntry]) -> Result<(), PortError> {
        let mut call = self.scripts.put.key(self.keys.geo());
        call.key(self.keys.seen()).key(self.keys.feed()).arg(FRESHER_BY_MS).arg(DRIVER_TTL_MS);
        for entry in entries {
            let dispatch = entry.dispatch.as_ref().map_or("", DispatchId::as_str);
            call.key(self.keys.driver(&entry.driver));
            let values: [String; PUT_VALUES] = [
                entry.driver.to_string(),
                entry.position.lat().to_string(),
                entry.position.lng().to_string(),
                entry.seen_at.0.to_string(),
                self.city.timestamp(entry.seen_at),
                status_text(entry.status).to_owned(),
                dispatch.to_owned(),
                entry.preferences.max_distance.to_string(),
                u8::from(entry.preferences.auto_accept).to_string(),
                entry.preferences.minimum_fare.to_string(),
                entry.preferences.preferred_regions.join(","),
            ];
            for value in values {
                call.arg(value);
            }
        }
        let unknown: Vec<u8> = self.call("putting drivers", &call).await?;
        self.restore_chunk_counters(entries, &unknown).await
    }

    /// Restores the chunk counter of drivers on a dispatch whom the cache did not know: it was wiped during the ride
    /// and lost the counter too.
    async fn restore_chunk_counters(&self, entries: &[FleetEntry], unknown: &[u8]) -> Result<(), PortError> {
        let mut pipeline = redis::pipe();
        let lost = entries.iter().zip(unknown).filter(|(_, unknown)| **unknown == 1);
        for dispatch in lost.filter_map(|(entry, _)| entry.dispatch.as_ref()) {
            let first = chunks_after_loss(self.clock.now());
            pipeline
                .cmd("SET")
                .arg(self.keys.chunks(dispatch))
                .arg(first)
                .arg("NX")
                .arg("PX")
                .arg(ROUTE_TTL_MS)
                .ignore();
        }
        if pipeline.is_empty() { Ok(()) } else { self.pipe("putting drivers", &pipeline).await }
    }
}

const DETAIL_FIELDS: [&str; 9] = [
    keys::LAT,
    keys::LNG,
    keys::TS,
    keys::STATUS,
    keys::MAX_DISTANCE_KM,
    keys::AUTO_ACCEPT,
    keys::MINIMUM_FARE,
    keys::IDLE_SINCE,
    keys::DOUBT,
];

/// The driver from its Redis values. `None` if the entry is missing or unreadable: corrupt data excludes a driver and
/// never fails a search.
fn live_driver(values: &[Value], oldest_day: &str, now: EpochMs) -> Option<LiveDriver> {
    let [hash, held, rests, answers] = values else { return None };
    let fields: Vec<Option<String>> = redis::from_redis_value_ref(hash).ok()?;
    let text = |index: usize| fields.get(index)?.as_deref();
    let number = |index: usize| text(index)?.parse::<f64>().ok();
    let moment = |index: usize| text(index)?.parse().ok().map(EpochMs);
    let seen_at = moment(2)?;
    let days: Vec<(String, u32)> = redis::from_redis_value_ref(answers).ok()?;
    let count = |suffix: &str| {
        let in_window = days.iter().filter(|(day, _)| day.ends_with(suffix) && day.as_str() >= oldest_day);
        in_window.map(|(_, count)| *count).fold(0, u32::saturating_add)
    };
    // Negative if there is no such key.
    let until = |ttl: &Value| {
        let ms: i64 = redis::from_redis_value_ref(ttl).ok()?;
        Some(u64::try_from(ms).map_or(EpochMs(0), |ms| now.plus_ms(ms)))
    };
    Some(LiveDriver {
        status: match text(3)? {
            // To searches, a hidden driver is inactive.
            "ACTIVE" if !is_hidden(text(8)) => PersonStatus::Active,
            "DISPATCHED" => PersonStatus::Dispatched,
            _ => PersonStatus::Inactive,
        },
        position: Coordinate::new(number(0)?, number(1)?).ok()?,
        seen_at,
        idle_since: moment(7).unwrap_or(seen_at),
        max_distance: Metres::from_km(number(4)?),
        minimum_fare: text(6)?.parse().ok()?,
        auto_accept: text(5)? == "1",
        acceptance: AcceptanceCounts { offered: count(":o"), accepted: count(":a") },
        held_until: until(held)?,
        rests_until: until(rests)?,
    })
}

/// Whether the driver is hidden for implausible pings: the field begins with the number of strikes, one digit.
fn is_hidden(doubt: Option<&str>) -> bool {
    let strikes = doubt.and_then(|doubt| doubt.bytes().next()).map_or(0, |digit| digit.saturating_sub(b'0'));
    strikes >= STRIKES_HIDDEN
}

/// `lat,lng,ms`.
fn point_text(point: RoutePoint) -> String {
    format!("{},{},{}", point.position.lat(), point.position.lng(), point.at.0)
}

fn point_of(text: &str) -> Option<RoutePoint> {
    let mut parts = text.split(',');
    let lat = parts.next()?.parse().ok()?;
    let lng = parts.next()?.parse().ok()?;
    let at = EpochMs(parts.next()?.parse().ok()?);
    Some(RoutePoint { position: Coordinate::new(lat, lng).ok()?, at })
}

fn tail(stored_chunks: u32, points: &[String]) -> RouteTail {
    RouteTail {
        next_chunk: stored_chunks.saturating_add(1),
        points: points.iter().filter_map(|text| point_of(text)).collect(),
    }
}

#[async_trait]
impl PositionSink for RedisFleet {
    async fn put(&self, entries: &[FleetEntry]) -> Result<(), PortError> {
        for batch in entries.chunks(SCRIPT_BATCH) {
            self.put_batch(batch).await?;
        }
        Ok(())
    }

    async fn fill(&self, entries: &[FleetEntry]) -> Result<(), PortError> {
        self.put(entries).await?;
        let mut pipeline = redis::pipe();
        pipeline.cmd("SET").arg(self.keys.warm()).arg(1).arg("PX").arg(WARM_TTL_MS).ignore();
        self.pipe("filling the cache", &pipeline).await
    }

    async fn record(&self, pings: &[Ping]) -> Result<Vec<PingOutcome>, PortError> {
        self.pings.record(pings).await
    }
}

#[async_trait]
impl DriverSearch for RedisFleet {
    async fn nearby(
        &self,
        center: Coordinate,
        rings_m: &[u32],
        enough: usize,
        now: EpochMs,
    ) -> Result<Option<Vec<DriverSnapshot>>, PortError> {
        let Some(ids) = self.search(center, rings_m, enough.clamp(1, NEARBY_MAX)).await? else { return Ok(None) };
        if ids.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let found = self.details(&ids, now).await?;
        Ok(Some(found.iter().map(|(id, driver)| driver.snapshot(id, now)).collect()))
    }
}

#[async_trait]
impl Reservations for RedisFleet {
    async fn hold(&self, driver: &DriverId, token: &HoldToken, for_ms: u64) -> Result<bool, PortError> {
        let mut call = self.scripts.hold.key(self.keys.hold(driver));
        call.key(self.keys.rest(driver)).key(self.keys.driver(driver)).key(self.keys.feed());
        call.arg(&token.0).arg(for_ms.max(1)).arg(driver.as_str());
        self.call("reserving a driver", &call).await
    }

    async fn release(&self, driver: &DriverId, token: &HoldToken) -> Result<(), PortError> {
        let mut call = self.scripts.release.key(self.keys.hold(driver));
        call.key(self.keys.feed()).arg(&token.0).arg(driver.as_str());
        self.call("releasing a driver", &call).await
    }

    async fn offer_ended(
        &self,
        driver: &DriverId,
        outcome: OfferOutcome,
        rest_ms: u64,
        now: EpochMs,
    ) -> Result<(), PortError> {
        let mut call = self.scripts.offer_ended.key(self.keys.acceptance(driver));
        call.key(self.keys.rest(driver)).key(self.keys.feed()).arg(self.city.day(now));
        call.arg(u8::from(outcome == OfferOutcome::Accepted)).arg(rest_ms);
        call.arg(self.day_before(now, ACCEPTANCE_DAYS_KEPT)).arg((ACCEPTANCE_DAYS_KEPT + 1) * DAY_MS);
        call.arg(driver.as_str());
        self.call("counting an answer", &call).await
    }

    async fn set_status(
        &self,
        driver: &DriverId,
        status: PersonStatus,
        dispatch: Option<&DispatchId>,
    ) -> Result<(), PortError> {
        let mut call = self.scripts.set_status.key(self.keys.geo());
        call.key(self.keys.seen()).key(self.keys.driver(driver)).key(self.keys.feed());
        call.arg(driver.as_str()).arg(status_text(status));
        call.arg(dispatch.map_or("", DispatchId::as_str)).arg(self.clock.now().0);
        self.call("setting a driver's status", &call).await
    }
}

#[async_trait]
impl RouteTails for RedisFleet {
    async fn push(&self, points: &[(DispatchId, RoutePoint)]) -> Result<Vec<(DispatchId, RouteTail)>, PortError> {
        let mut tails = Vec::new();
        for batch in points.chunks(SCRIPT_BATCH) {
            let mut call = self.scripts.push_route.arg(ROUTE_CHUNK_POINTS);
            call.arg(ROUTE_TTL_MS);
            for (id, point) in batch {
                call.key(self.keys.route(id)).key(self.keys.chunks(id)).arg(point_text(*point));
            }
            let whole: Vec<(usize, Vec<String>)> = self.call("adding to routes", &call).await?;
            tails.extend(whole.iter().filter_map(|(place, answer)| {
                let ((id, _), (stored, points)) = (batch.get(*place)?, answer.split_first()?);
                Some((id.clone(), tail(stored.parse().unwrap_or(0), points)))
            }));
        }
        Ok(tails)
    }

    async fn trim(&self, id: &DispatchId, chunk: u32, count: usize) -> Result<(), PortError> {
        let mut call = self.scripts.trim_route.key(self.keys.route(id));
        call.key(self.keys.chunks(id)).arg(chunk).arg(count).arg(ROUTE_TTL_MS);
        self.call("trimming a route", &call).await
    }

    async fn tail(&self, id: &DispatchId) -> Result<RouteTail, PortError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("GET").arg(self.keys.chunks(id)).cmd("LRANGE").arg(self.keys.route(id)).arg(0).arg(-1);
        let (stored, points): (Option<u32>, Vec<String>) = self.pipe("reading a route", &pipeline).await?;
        Ok(tail(stored.unwrap_or(0), &points))
    }
}
