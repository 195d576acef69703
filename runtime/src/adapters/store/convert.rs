//! Converts between stored items and domain types.
//!
//! Reading is checked: an item that another writer broke is an [`ItemError`], which names the attribute and never
//! contains its value. Attributes that this service adds may be missing; a dispatch written by another service that
//! follows the specification gets the city's policy for them.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use dispatch_core::dispatch::{
    CandidateRef, Dispatch, DispatchStatus, EventEntry, EventName, EventType, Matching, Record,
};
use dispatch_core::geo::Coordinate;
use dispatch_core::ids::{DispatchId, DriverId, IdError, UserId};
use dispatch_core::meter::ReviewReason;
use dispatch_core::privacy::Retention;
use dispatch_core::route::{RouteEntry, RoutePoint};
use dispatch_core::time::EpochMs;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::adapters::store::entity::{self, DispatchItem, DriverItem, MatchingItem, RouteChunkItem, UserItem};
use crate::adapters::store::entity_type::{DRIVER, USER};
use crate::adapters::store::keys::{self, Shards};
use crate::city::{City, parse_timestamp, route_point};
use crate::ports::{CurrentStatus, DispatchDetails, Driver, NewDispatch, StoredDispatch, User};

/// An item as the SDK represents it.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// `EntityType` of a dispatch.
pub const DISPATCH: &str = "DISPATCH";
/// `EntityType` of an entry of the list of reviews (addition).
pub const DISPATCH_REVIEW: &str = "DISPATCH_REVIEW";
/// `EntityType` of a route chunk (addition).
pub const DISPATCH_ROUTE: &str = "DISPATCH_ROUTE";

/// Why a stored item cannot be used. It contains no values: they may be phone numbers or positions.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ItemError {
    /// An attribute is missing or does not have the specified type.
    #[error("a stored {entity} cannot be read at {attribute}: {problem}")]
    Shape {
        entity: &'static str,
        /// Path of the attribute.
        attribute: String,
        /// Describes the problem without values.
        problem: &'static str,
    },
    /// An attribute has the right type but an invalid value.
    #[error("a stored {entity} cannot be used at {attribute}: it is not {expected}")]
    Value {
        entity: &'static str,
        /// Path of the attribute.
        attribute: &'static str,
        expected: &'static str,
    },
    /// A value cannot be serialized as an item.
    #[error("a {entity} cannot be written as an item")]
    Write { entity: &'static str },
    /// A changed step has no record of what happened.
    #[error("a changed step has no record")]
    NoRecord,
}

/// Reads an item as `T`. Errors name the path of the attribute and never contain its value.
pub(crate) fn read_item<T: DeserializeOwned>(
    entity: &'static str,
    item: impl Into<serde_dynamo::Item>,
) -> Result<T, ItemError> {
    let fields: HashMap<String, serde_dynamo::AttributeValue> = item.into().into();
    let deserializer = serde_dynamo::Deserializer::from_attribute_value(serde_dynamo::AttributeValue::M(fields));
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        // The only message of serde that contains names alone; the others may quote the value.
        let text = error.inner().to_string();
        let missing = text.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
        let path = error.path().to_string();
        match missing {
            Some(field) if path == "." => ItemError::Shape { entity, attribute: field.to_owned(), problem: "missing" },
            Some(field) => ItemError::Shape { entity, attribute: format!("{path}.{field}"), problem: "missing" },
            None => ItemError::Shape { entity, attribute: path, problem: "not of the expected type or range" },
        }
    })
}

/// Writes a value as an item.
pub(crate) fn write_item<T: Serialize>(entity: &'static str, value: &T) -> Result<Item, ItemError> {
    serde_dynamo::to_item(value).map_err(|_| ItemError::Write { entity })
}

/// The driver in an item.
pub(super) fn driver(item: DriverItem) -> Result<Driver, ItemError> {
    Ok(Driver {
        id: id(DRIVER, "PK", DriverId::parse(item.pk))?,
        phone: item.phone,
        created_at: item.created_at,
        vehicle_info: item.vehicle_info,
        current_status: current_status(item.current_status),
        preferences: item.preferences,
        completed_rides: item.completed_rides,
    })
}

/// The user in an item.
pub(super) fn user(item: UserItem) -> Result<User, ItemError> {
    Ok(User {
        id: id(USER, "PK", UserId::parse(item.pk))?,
        phone: item.phone,
        created_at: item.created_at,
        current_status: current_status(item.current_status),
        payment_methods: item.payment_methods,
        preferences: item.preferences,
    })
}

fn current_status(item: entity::CurrentStatus) -> CurrentStatus {
    CurrentStatus {
        status: item.status,
        location: item.current_location,
        located_at: item.last_location_update,
        dispatch: item.current_dispatch_id.and_then(|id| DispatchId::parse(id).ok()),
    }
}

/// Converts for one city: its local time, its policy, its number of shards. Cheap to clone.
#[derive(Clone)]
pub struct Codec {
    pub(super) city: City,
    pub(super) shards: Shards,
}

impl Codec {
    /// A codec for `city` with GSI1 spread over `shards`.
    pub fn new(city: City, shards: Shards) -> Self {
        Self { city, shards }
    }

    /// How long data of rides is kept.
    pub(super) fn retention(&self) -> Retention {
        self.city.settings().privacy.retention
    }

    /// A dispatch item with its state.
    pub fn stored(&self, item: DispatchItem) -> Result<StoredDispatch, ItemError> {
        let state = self.state(&item)?;
        let details = DispatchDetails {
            created_at: item.created_at,
            updated_at: item.updated_at,
            pickup: item.pickup_location,
            destination: item.destination,
            offer_timeout_at: item.matching.timeout_at,
            actual_fare: item.actual_fare,
            metered_fare: item.metered_fare,
            is_far: item.is_far,
            distance_m: item.distance_m,
            duration_s: item.duration_s,
            route: item.route,
            events: item.events,
        };
        Ok(StoredDispatch { state, details })
    }

    /// Reads a dispatch item with its state.
    pub(crate) fn read_dispatch(&self, item: impl Into<serde_dynamo::Item>) -> Result<StoredDispatch, ItemError> {
        self.stored(read_item(DISPATCH, item)?)
    }

    /// The part of a dispatch that decisions need.
    ///
    /// `created_at` and `trip_started_at` have whole seconds, as specified; the times of offers have milliseconds.
    pub fn state(&self, item: &DispatchItem) -> Result<Dispatch, ItemError> {
        let created_at = time("createdAt", &item.created_at)?;
        let mut last_trip_event = None;
        let mut trip_started_at = None;
        for entry in &item.events {
            let known = entry.event_type.known();
            if let Some(event) = known.and_then(EventType::trip_event) {
                last_trip_event = last_trip_event.max(Some(event));
            }
            if known == Some(EventType::PassengerPickedUp) {
                trip_started_at = Some(time("events.timestamp", &entry.timestamp)?);
            }
        }
        Ok(Dispatch {
            id: id(DISPATCH, "PK", DispatchId::parse(&item.pk))?,
            user: id(DISPATCH, "userId", item.user_id.parse())?,
            driver: item.driver_id.as_ref().map(|driver| id(DISPATCH, "driverId", driver.parse())).transpose()?,
            status: item.status,
            offer_seq: item.offer_seq,
            ver: item.ver,
            created_at,
            pickup: place("pickupLocation", item.pickup_location.lat, item.pickup_location.lng)?,
            estimated_fare: item.estimated_fare,
            matching: self.matching(&item.matching, created_at)?,
            last_trip_event,
            trip_started_at,
            // A reason of a later release is not known here; the entry of the list names it.
            review: item.review.as_deref().and_then(ReviewReason::parse),
        })
    }

    fn matching(&self, item: &MatchingItem, created_at: EpochMs) -> Result<Matching, ItemError> {
        let policy = &self.city.settings().policy;
        let moment = |attribute, text: &Option<String>| text.as_ref().map(|text| time(attribute, text)).transpose();
        let candidates = item.candidate_drivers.iter().map(|driver| {
            let auto_accept = item.auto_accept_drivers.contains(driver);
            Ok(CandidateRef { driver_id: id(DISPATCH, "matching.candidateDrivers", driver.parse())?, auto_accept })
        });
        let asked = item.asked_drivers.iter().map(|driver| id(DISPATCH, "matching.askedDrivers", driver.parse()));
        Ok(Matching {
            candidates: candidates.collect::<Result<_, ItemError>>()?,
            searched_at: moment("matching.searchedAt", &item.searched_at)?,
            asked: asked.collect::<Result<_, ItemError>>()?,
            current_attempt: item.current_attempt,
            max_attempts: if item.max_attempts == 0 { policy.max_attempts } else { item.max_attempts },
            offered_at: moment("matching.offeredAt", &item.offered_at)?,
            timeout_at: moment("matching.timeoutAt", &item.timeout_at)?,
            search_until: moment("matching.searchUntil", &item.search_until)?
                .unwrap_or_else(|| created_at.plus_ms(policy.search_budget_ms)),
        })
    }

    /// The stored form of a search.
    pub(super) fn matching_item(&self, matching: &Matching) -> MatchingItem {
        let moment = |at: Option<EpochMs>| at.map(|at| self.city.timestamp_ms(at));
        let names = |drivers: &mut dyn Iterator<Item = &DriverId>| drivers.map(ToString::to_string).collect();
        let auto = matching.candidates.iter().filter(|candidate| candidate.auto_accept);
        MatchingItem {
            candidate_drivers: names(&mut matching.candidates.iter().map(|candidate| &candidate.driver_id)),
            auto_accept_drivers: names(&mut auto.map(|candidate| &candidate.driver_id)),
            searched_at: moment(matching.searched_at),
            asked_drivers: names(&mut matching.asked.iter()),
            current_attempt: matching.current_attempt,
            max_attempts: matching.max_attempts,
            offered_at: moment(matching.offered_at),
            timeout_at: moment(matching.timeout_at),
            search_until: Some(self.city.timestamp_ms(matching.search_until)),
        }
    }

    /// The item of a new request (spec §7.1).
    pub fn new_dispatch(&self, new: &NewDispatch) -> DispatchItem {
        let now = self.city.timestamp(new.now);
        let created = self.city.sort_time(new.now);
        let matching =
            Matching { max_attempts: new.max_attempts, search_until: new.search_until, ..Matching::default() };
        DispatchItem {
            pk: new.id.to_string(),
            sk: keys::DISPATCH_SK.to_owned(),
            entity_type: DISPATCH.to_owned(),
            user_id: new.user.to_string(),
            driver_id: None,
            status: DispatchStatus::Requested,
            created_at: now.clone(),
            updated_at: now.clone(),
            pickup_location: new.pickup.clone(),
            destination: new.destination.clone(),
            estimated_fare: new.estimated_fare,
            actual_fare: 0,
            metered_fare: None,
            is_far: false,
            review: None,
            route: Vec::new(),
            events: vec![EventEntry {
                event_type: EventName::Known(EventType::Created),
                timestamp: now,
                details: "배차 요청 생성".to_owned(),
            }],
            offer_seq: 0,
            ver: 1,
            matching: self.matching_item(&matching),
            distance_m: 0,
            duration_s: 0,
            gsi1pk: Some(keys::gsi1_dispatch_pk(DispatchStatus::Requested, &new.id, self.shards)),
            gsi1sk: Some(keys::gsi1_dispatch_sk(&created, &new.id)),
            gsi2pk: Some(keys::gsi2_user_pk(&new.user)),
            gsi2sk: Some(keys::gsi2_dispatch_sk(&created)),
        }
    }

    /// The stored form of a record.
    pub(super) fn event(&self, record: &Record) -> EventEntry {
        EventEntry {
            event_type: EventName::Known(record.record_type),
            timestamp: self.city.timestamp(record.at),
            details: record.details.clone().into_owned(),
        }
    }

    /// The stored form of a travelled route: times in whole seconds, each entry with its distance from the previous
    /// one.
    pub(super) fn route(&self, points: &[RoutePoint]) -> Vec<RouteEntry> {
        entries(points, |at| self.city.timestamp(at))
    }

    /// A chunk of a live route. Its times have milliseconds, because pings can be less than a second apart.
    pub(super) fn route_chunk(&self, dispatch: &DispatchId, number: u32, points: &[RoutePoint]) -> RouteChunkItem {
        RouteChunkItem {
            pk: dispatch.to_string(),
            sk: keys::route_chunk_sk(number),
            entity_type: DISPATCH_ROUTE.to_owned(),
            route: entries(points, |at| self.city.timestamp_ms(at)),
            expires_at: points.last().map(|point| expiry(point.at, self.retention().routes_s)),
        }
    }
}

/// The table's time to live of an item that is kept for a time after `at`, Unix seconds.
pub(super) fn expiry(at: EpochMs, kept_s: u64) -> i64 {
    at.plus_ms(kept_s.saturating_mul(1000)).0.div_euclid(1000)
}

fn entries(points: &[RoutePoint], timestamp: impl Fn(EpochMs) -> String) -> Vec<RouteEntry> {
    let before = std::iter::once(None).chain(points.iter().map(Some));
    points
        .iter()
        .zip(before)
        .map(|(point, before)| RouteEntry {
            lat: point.position.lat(),
            lng: point.position.lng(),
            timestamp: timestamp(point.at),
            distance_from_previous: Some(
                before.map_or(0, |before| before.position.distance_to(point.position).rounded()),
            ),
        })
        .collect()
}

/// The points of a chunk, each for itself.
pub(super) fn route_points(chunk: &RouteChunkItem) -> impl Iterator<Item = Result<RoutePoint, ItemError>> {
    let invalid = ItemError::Value { entity: DISPATCH_ROUTE, attribute: "route", expected: "a place and a time" };
    chunk.route.iter().map(move |entry| route_point(entry).ok_or_else(|| invalid.clone()))
}

fn time(attribute: &'static str, text: &str) -> Result<EpochMs, ItemError> {
    let expected = "an ISO 8601 time with its offset";
    parse_timestamp(text).ok_or(ItemError::Value { entity: DISPATCH, attribute, expected })
}

fn id<T>(entity: &'static str, attribute: &'static str, parsed: Result<T, IdError>) -> Result<T, ItemError> {
    parsed.map_err(|_| ItemError::Value { entity, attribute, expected: "an id of its kind" })
}

fn place(attribute: &'static str, lat: f64, lng: f64) -> Result<Coordinate, ItemError> {
    let expected = "a latitude and a longitude in degrees";
    Coordinate::new(lat, lng).map_err(|_| ItemError::Value { entity: DISPATCH, attribute, expected })
}
