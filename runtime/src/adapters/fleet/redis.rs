//! The ports of the driver cache on Redis.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dispatch_core::candidate::DriverSnapshot;
use dispatch_core::dispatch::OfferOutcome;
use dispatch_core::geo::Coordinate;
use dispatch_core::ids::{DispatchId, DriverId};
use dispatch_core::person::PersonStatus;
use dispatch_core::route::RoutePoint;
use dispatch_core::time::EpochMs;
use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, Pipeline, RedisError, ScriptInvocation, Value};

use crate::adapters::fleet::connect::RedisConnector;
use crate::adapters::fleet::connection::Connection;
use crate::adapters::fleet::entry::{
    DETAIL_FIELDS, NEVER_EXPIRES, Suspect, error_of, is_present, is_wrong_type, last_ping, last_sign, live_driver,
    point_text, tail,
};
use crate::adapters::fleet::error::failed;
use crate::adapters::fleet::feed::Entries;
use crate::adapters::fleet::index::LiveDriver;
use crate::adapters::fleet::keys::{ACTIVE_SINCE, DOUBT, Keys, TS};
use crate::adapters::fleet::ping_batcher::PingBatcher;
use crate::adapters::fleet::record_pings::PingRecorder;
use crate::adapters::fleet::scripts::{PUT_VALUES, Scripts};
use crate::adapters::fleet::server_clock::ServerClock;
use crate::adapters::fleet::{
    ACCEPTANCE_DAYS_KEPT, AHEAD_MAX_MS, DAY_MS, DRIVER_TTL_MS, FRESHER_BY_MS, ROUTE_CHUNK_POINTS, chunks_after_loss,
    fresh_since, status_text,
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

const SEARCHING: &str = "searching drivers";

/// Answers per driver in the pipeline that reads details.
const DETAILS_PER_DRIVER: usize = 4;

/// The driver cache in Redis. It requires `GEOSEARCH` (Redis 6.2), which every `ElastiCache` engine version that the
/// resource accepts has.
pub struct RedisFleet {
    connector: RedisConnector,
    connection: Connection,
    scripts: Scripts,
    keys: Keys,
    city: City,
    /// The clock of the server.
    clock: Arc<dyn Clock>,
    pings: PingBatcher,
}

impl RedisFleet {
    /// Connects with the first call.
    pub fn new(connector: &RedisConnector, city: City, clock: Arc<dyn Clock>) -> Self {
        let (connection, scripts, keys) = (Connection::new(connector.clone()), Scripts::new(), Keys::new(&city.name));
        let offset = Arc::clone(connector.clock_offset());
        let clock: Arc<dyn Clock> = Arc::new(ServerClock { clock, offset });
        let recorder = PingRecorder {
            connector: connector.clone(),
            connection: connection.clone(),
            script: scripts.record.clone(),
            keys: keys.clone(),
            city: city.clone(),
            clock: Arc::clone(&clock),
        };
        let (connector, pings) = (connector.clone(), PingBatcher::new(recorder));
        Self { connector, connection, scripts, keys, city, clock, pings }
    }

    async fn call<T: FromRedisValue>(
        &self,
        action: &'static str,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, PortError> {
        let answered: Result<(T, String), _> = script.invoke_async(&mut self.connection.clone()).await;
        let (answer, repaired) = answered.map_err(|error| failed(action, error))?;
        self.connector.note_repairs(&repaired);
        Ok(answer)
    }

    /// The answers of a pipeline, one by one. A key of another type fails its own command only.
    async fn pipe_each(&self, action: &'static str, pipeline: &mut Pipeline) -> Result<Vec<Value>, PortError> {
        let values: Vec<Value> = self.pipe(action, pipeline.ignore_errors()).await?;
        let is_fatal = |error: &RedisError| !is_wrong_type(error);
        let fatal = values.iter().filter_map(error_of).find(is_fatal);
        fatal.map_or(Ok(values), |error| Err(failed(action, error)))
    }

    /// Deletes keys that have another type than expected. The caller continues without them, so a failure is only
    /// counted as any other.
    async fn repair(&self, keys: Vec<Suspect>) {
        if keys.is_empty() {
            return;
        }
        let mut call = self.scripts.repair.prepare_invoke();
        for Suspect { key, expected, expires } in keys {
            call.key(key).arg(expected).arg(u8::from(expires));
        }
        let _: Result<u8, PortError> = self.call("repairing the cache", &call).await;
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
            pipeline.pttl(self.keys.warm()).cmd("GEOSEARCH").arg(self.keys.geo());
            pipeline.arg("FROMLONLAT").arg(center.lng()).arg(center.lat()).arg("BYRADIUS").arg(*ring_m).arg("m");
            pipeline.arg("ASC").arg("COUNT").arg(enough);
            let answers = self.pipe_each(SEARCHING, &mut pipeline).await?;
            let [lives_ms, ids] = answers.as_slice() else { return Ok(None) };
            let is_wrong = error_of(ids).is_some();
            let suspects = is_wrong.then(|| Suspect::new("zset", self.keys.geo()));
            self.repair(suspects.into_iter().collect()).await;
            let ids: Vec<String> = redis::from_redis_value_ref(ids).unwrap_or_default();
            // Without its free drivers the cache cannot answer for the city either.
            if is_wrong || !self.is_lively(lives_ms).await {
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
        let answers = self.pipe_each("reading drivers", &mut pipeline).await?;
        let oldest = self.first_day_of_window(now);
        let each = ids.iter().zip(answers.chunks_exact(DETAILS_PER_DRIVER));
        let (mut found, mut suspects) = (Vec::new(), Vec::new());
        for (id, values) in each {
            if error_of(&values[3]).is_some() {
                suspects.push(Suspect::new("hash", self.keys.acceptance(id)));
            }
            match live_driver(values, &oldest, now) {
                Some(driver) => found.push((id.clone(), driver)),
                // An unreadable entry is deleted, so that the driver's next ping loads it again.
                None if is_present(&values[0]) => {
                    suspects.push(Suspect::new("another", self.keys.driver(id)));
                }
                None => {}
            }
        }
        self.repair(suspects).await;
        Ok(found)
    }

    /// Whether the cache can answer for the city.
    pub(super) async fn is_warm(&self) -> Result<bool, PortError> {
        let mut pipeline = redis::pipe();
        pipeline.pttl(self.keys.warm());
        let (lives_ms,): (Value,) = self.pipe("asking whether the cache is warm", &pipeline).await?;
        Ok(self.is_lively(&lives_ms).await)
    }

    /// Whether the time that the mark of a warm cache lives is that of one. A mark that never expires is none of ours.
    async fn is_lively(&self, lives_ms: &Value) -> bool {
        if *lives_ms == Value::Int(NEVER_EXPIRES) {
            let mark = Suspect { expires: true, ..Suspect::new("string", self.keys.warm()) };
            self.repair(vec![mark]).await;
        }
        matches!(lives_ms, Value::Int(ms) if *ms > 0)
    }

    /// All drivers that send pings, free or not.
    pub(super) async fn live_drivers(&self) -> Result<Vec<DriverId>, PortError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("ZRANGE").arg(self.keys.seen()).arg(0).arg(-1);
        let answers = self.pipe_each("listing drivers", &mut pipeline).await?;
        if answers.iter().any(|answer| error_of(answer).is_some()) {
            self.repair(vec![Suspect::new("zset", self.keys.seen())]).await;
        }
        let lists = answers.iter().filter_map(|answer| redis::from_redis_value_ref(answer).ok());
        let ids: Vec<String> = lists.flat_map(|list: Vec<String>| list).collect();
        Ok(ids.into_iter().filter_map(|id| DriverId::parse(id).ok()).collect())
    }

    /// Id of the newest feed entry; the beginning of the feed if it is empty.
    pub(super) async fn feed_tip(&self) -> Result<String, PortError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("XREVRANGE").arg(self.keys.feed()).arg("+").arg("-").arg("COUNT").arg(1);
        let answers = self.pipe_each("reading the feed", &mut pipeline).await?;
        if answers.iter().any(|answer| error_of(answer).is_some()) {
            self.repair(vec![Suspect::new("stream", self.keys.feed())]).await;
        }
        let newest: Option<Entries> = answers.first().and_then(|answer| redis::from_redis_value_ref(answer).ok());
        Ok(newest.unwrap_or_default().into_iter().next().map_or_else(|| "0-0".to_owned(), |(id, _)| id))
    }

    /// Fails while the positions in the cache must not be used because writes are refused.
    pub(super) fn usable(&self) -> Result<(), PortError> {
        let usable = self.connector.health().usable();
        usable.map_err(|error| PortError::Unavailable { action: SEARCHING, source: Box::new(error) })
    }

    /// The number of the current generation of connections.
    pub(super) fn generation(&self) -> u64 {
        self.connector.generation()
    }

    /// A separate connection for reads that block for up to `block`.
    pub(super) async fn feed_connection(&self, block: Duration) -> Result<MultiplexedConnection, PortError> {
        self.connector.waiting(block).await.map_err(|error| failed("connecting for the feed", error))
    }

    /// At most `count` entries after an id. Blocks for up to `block` until there is one.
    pub(super) async fn feed_after(
        &self,
        connection: &mut MultiplexedConnection,
        after: &str,
        count: usize,
        block: Duration,
    ) -> Result<Entries, PortError> {
        let generation = self.generation();
        let mut read = redis::cmd("XREAD");
        read.arg("COUNT").arg(count).arg("BLOCK").arg(u64::try_from(block.as_millis()).unwrap_or(u64::MAX));
        read.arg("STREAMS").arg(self.keys.feed()).arg(after);
        let answer: Result<Option<Vec<(String, Entries)>>, RedisError> = read.query_async(connection).await;
        let streams = answer.map_err(|error| {
            self.connector.judge(generation, &error);
            failed("reading the feed", error)
        })?;
        Ok(streams.unwrap_or_default().into_iter().flat_map(|(_, entries)| entries).collect())
    }

    /// Drivers whose last ping is older than this are no candidates.
    pub(super) fn fresh_since(&self, now: EpochMs) -> EpochMs {
        fresh_since(&self.city, now)
    }

    /// The server's time.
    pub(super) fn now(&self) -> EpochMs {
        self.clock.now()
    }

    /// The server's time at a time of this machine.
    pub(super) fn to_server(&self, at: EpochMs) -> EpochMs {
        self.connector.clock_offset().to_server(at)
    }

    /// A driver for ranking, with times of this machine. `now` is the server's time.
    pub(super) fn snapshot(&self, id: &DriverId, driver: &LiveDriver, now: EpochMs) -> DriverSnapshot {
        self.with_local_times(driver.snapshot(id, now))
    }

    /// Replaces times of the server by those of this machine.
    pub(super) fn with_local_times(&self, found: DriverSnapshot) -> DriverSnapshot {
        let offset = self.connector.clock_offset();
        let (seen_at, idle_since) = (offset.to_local(found.seen_at), offset.to_local(found.idle_since));
        DriverSnapshot { seen_at, idle_since, ..found }
    }

    fn first_day_of_window(&self, now: EpochMs) -> String {
        let days = u64::from(self.city.settings().policy.acceptance_window_days);
        self.day_before(now, days.saturating_sub(1))
    }

    fn day_before(&self, now: EpochMs, days: u64) -> String {
        self.city.day(now.minus_ms(days * DAY_MS))
    }

    /// The number of stored chunks. A counter that cannot be read counts as lost.
    fn stored_chunks(&self, text: &str) -> u32 {
        text.parse().unwrap_or_else(|_| chunks_after_loss(self.clock.now()))
    }

    /// Reads times of drivers, of this machine's clock.
    async fn times_of(
        &self,
        drivers: &[DriverId],
        fields: &[&str],
        read: impl Fn(&Value, EpochMs) -> Option<EpochMs>,
    ) -> Result<Vec<Option<EpochMs>>, PortError> {
        let mut found = Vec::with_capacity(drivers.len());
        let latest = EpochMs(self.now().0.saturating_add(AHEAD_MAX_MS));
        for batch in drivers.chunks(SCRIPT_BATCH) {
            let mut pipeline = redis::pipe();
            for driver in batch {
                pipeline.cmd("HMGET").arg(self.keys.driver(driver)).arg(fields);
            }
            let answers = self.pipe_each("reading the last positions of drivers", &mut pipeline).await?;
            let offset = self.connector.clock_offset();
            found.extend(answers.iter().map(|answer| read(answer, latest).map(|at| offset.to_local(at))));
        }
        Ok(found)
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

    async fn last_pings(&self, drivers: &[DriverId]) -> Result<Vec<Option<EpochMs>>, PortError> {
        self.times_of(drivers, &[TS, DOUBT], last_ping).await
    }

    async fn last_signs(&self, drivers: &[DriverId]) -> Result<Vec<Option<EpochMs>>, PortError> {
        let signs = self.times_of(drivers, &[TS, DOUBT, ACTIVE_SINCE], last_sign).await?;
        let accepts_for = self.connector.health().accepts_for();
        let accepts_ms = u64::try_from(accepts_for.as_millis()).unwrap_or(u64::MAX);
        let accepts_since = self.connector.clock_offset().to_local(self.now()).minus_ms(accepts_ms);
        Ok(signs.into_iter().map(|sign| sign.map(|at| at.max(accepts_since))).collect())
    }

    async fn record(&self, pings: &[Ping]) -> Result<Vec<PingOutcome>, PortError> {
        self.pings.record(pings).await
    }

    async fn forget(&self, drivers: &[DriverId], routes: &[DispatchId]) -> Result<(), PortError> {
        let mut pipeline = redis::pipe();
        for driver in drivers {
            pipeline.zrem(self.keys.geo(), driver.as_str()).zrem(self.keys.seen(), driver.as_str());
            let own = [self.keys.driver(driver), self.keys.hold(driver), self.keys.rest(driver)];
            pipeline.del(&own[..]).del(self.keys.acceptance(driver));
        }
        for dispatch in routes {
            pipeline.del(&[self.keys.route(dispatch), self.keys.chunks(dispatch)][..]);
        }
        if pipeline.is_empty() {
            return Ok(());
        }
        // A key of another type holds no driver, and is repaired where it is read.
        self.pipe_each("removing data from the cache", &mut pipeline).await.map(drop)
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
        self.usable()?;
        let Some(ids) = self.search(center, rings_m, enough.clamp(1, NEARBY_MAX)).await? else { return Ok(None) };
        if ids.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let now = self.to_server(now);
        let found = self.details(&ids, now).await?;
        Ok(Some(found.iter().map(|(id, driver)| self.snapshot(id, driver, now)).collect()))
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
    ) -> Result<u32, PortError> {
        let mut call = self.scripts.offer_ended.key(self.keys.acceptance(driver));
        call.key(self.keys.rest(driver)).key(self.keys.feed()).arg(self.city.day(now));
        call.arg(u8::from(outcome == OfferOutcome::Accepted)).arg(rest_ms);
        call.arg(self.day_before(now, ACCEPTANCE_DAYS_KEPT)).arg((ACCEPTANCE_DAYS_KEPT + 1) * DAY_MS);
        call.arg(driver.as_str()).arg(u8::from(outcome == OfferOutcome::TimedOut));
        call.arg(self.city.settings().policy.presence.unanswered_offers);
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
                Some((id.clone(), tail(self.stored_chunks(stored), points)))
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
        let answers = self.pipe_each("reading a route", &mut pipeline).await?;
        let [stored, points] = answers.as_slice() else { return Ok(RouteTail { next_chunk: 1, points: Vec::new() }) };
        let count = error_of(stored).map(|_| Suspect::new("string", self.keys.chunks(id)));
        let list = error_of(points).map(|_| Suspect::new("list", self.keys.route(id)));
        self.repair(count.into_iter().chain(list).collect()).await;
        let stored: Option<String> = match stored {
            Value::ServerError(_) => Some(String::new()),
            stored => redis::from_redis_value_ref(stored).unwrap_or_else(|_| Some(String::new())),
        };
        let points: Vec<String> = redis::from_redis_value_ref(points).unwrap_or_default();
        Ok(tail(stored.map_or(0, |stored| self.stored_chunks(&stored)), &points))
    }
}
