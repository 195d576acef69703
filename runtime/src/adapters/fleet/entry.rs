//! Reads what Redis answers about drivers and routes. Pure: corrupt values cost their own driver or point, and never
//! fail a call.

use dispatch_core::candidate::AcceptanceCounts;
use dispatch_core::geo::{Coordinate, Metres};
use dispatch_core::person::PersonStatus;
use dispatch_core::ping_filter::STRIKES_HIDDEN;
use dispatch_core::route::RoutePoint;
use dispatch_core::time::EpochMs;
use redis::{RedisError, Value};

use crate::adapters::fleet::AHEAD_MAX_MS;
use crate::adapters::fleet::index::LiveDriver;
use crate::adapters::fleet::keys;
use crate::ports::RouteTail;

/// Answer of `PTTL` for a key without an expiry.
pub(super) const NEVER_EXPIRES: i64 = -1;

/// A key that may have another type than it should.
pub(super) struct Suspect {
    pub key: String,
    pub expected: &'static str,
    /// Whether the key must have an expiry.
    pub expires: bool,
}

impl Suspect {
    pub(super) fn new(expected: &'static str, key: String) -> Self {
        Self { key, expected, expires: false }
    }
}

pub(super) fn error_of(value: &Value) -> Option<RedisError> {
    let Value::ServerError(error) = value else { return None };
    Some(error.clone().into())
}

/// Whether there is an entry, of whatever type, behind the values of its fields.
pub(super) fn is_present(fields: &Value) -> bool {
    match fields {
        Value::Array(fields) => fields.iter().any(|field| *field != Value::Nil),
        _ => true,
    }
}

pub(super) fn is_wrong_type(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE")
}

pub(super) const DETAIL_FIELDS: [&str; 9] = [
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
pub(super) fn live_driver(values: &[Value], oldest_day: &str, now: EpochMs) -> Option<LiveDriver> {
    let [hash, held, rests, answers] = values else { return None };
    let fields: Vec<Option<String>> = redis::from_redis_value_ref(hash).ok()?;
    let text = |index: usize| fields.get(index)?.as_deref();
    let number = |index: usize| text(index)?.parse::<f64>().ok();
    let moment = |index: usize| text(index)?.parse().ok().map(EpochMs);
    let seen_at = moment(2).filter(|at| at.0 <= now.0.saturating_add(AHEAD_MAX_MS))?;
    let days: Vec<(String, String)> = redis::from_redis_value_ref(answers).unwrap_or_default();
    let days: Vec<(String, u32)> =
        days.into_iter().filter_map(|(day, count)| Some((day, count.parse().ok()?))).collect();
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
            "ACTIVE" | "INACTIVE" => PersonStatus::Inactive,
            _ => return None,
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

/// When a driver last sent a position: the fields `ts` and `doubt`, whose fifth part is the time of the last
/// implausible ping. Times after `latest` were written by a clock that was wrong, and do not count.
pub(super) fn last_ping(fields: &Value, latest: EpochMs) -> Option<EpochMs> {
    last_of(fields, latest, 2)
}

/// When a driver last sent a position or became active: the fields `ts`, `doubt` and `activeSince`.
pub(super) fn last_sign(fields: &Value, latest: EpochMs) -> Option<EpochMs> {
    last_of(fields, latest, 3)
}

fn last_of(fields: &Value, latest: EpochMs, count: usize) -> Option<EpochMs> {
    let fields: Vec<Option<String>> = redis::from_redis_value_ref(fields).ok()?;
    let moment = |text: &str| text.parse().ok().map(EpochMs).filter(|at| *at <= latest);
    let text = |index: usize| fields.get(index)?.as_deref();
    let accepted = moment(text(0)?)?;
    let doubtful = text(1).and_then(|doubt| moment(doubt.split(' ').nth(4)?));
    let active = (2..count).filter_map(|index| moment(text(index)?));
    active.chain(doubtful).chain([accepted]).max()
}

/// `lat,lng,ms`.
pub(super) fn point_text(point: RoutePoint) -> String {
    format!("{},{},{}", point.position.lat(), point.position.lng(), point.at.0)
}

fn point_of(text: &str) -> Option<RoutePoint> {
    let mut parts = text.split(',');
    let lat = parts.next()?.parse().ok()?;
    let lng = parts.next()?.parse().ok()?;
    let at = EpochMs(parts.next()?.parse().ok()?);
    Some(RoutePoint { position: Coordinate::new(lat, lng).ok()?, at })
}

pub(super) fn tail(stored_chunks: u32, points: &[String]) -> RouteTail {
    RouteTail {
        next_chunk: stored_chunks.saturating_add(1),
        points: points.iter().filter_map(|text| point_of(text)).collect(),
    }
}
