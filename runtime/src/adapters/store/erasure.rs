//! What remains of a stored item after the data of a person was erased from it: pure functions over items as stored, so
//! that an item that cannot be read is erased too.
//!
//! Each function keeps the attributes that accounting needs and drops every other one, those of other services
//! included. An item without any use left expires at once (time to live).

use aws_sdk_dynamodb::types::AttributeValue;
use dispatch_core::dispatch::DispatchStatus;
use dispatch_core::person::PersonStatus;

use crate::adapters::store::convert::Item;
use crate::adapters::store::entity::{ERASED_AT, EXPIRES_AT};
use crate::adapters::store::expression::{number, string, text};

/// Attributes of a dispatch that stay: ids, status, money, times and counters.
const DISPATCH_KEPT: &[&str] = &[
    "PK",
    "SK",
    "EntityType",
    "userId",
    "driverId",
    "status",
    "createdAt",
    "updatedAt",
    "estimatedFare",
    "actualFare",
    "distanceMeters",
    "durationSeconds",
    "offerSeq",
    "ver",
    "matching",
    "GSI1PK",
    "GSI1SK",
    "GSI2PK",
    "GSI2SK",
    EXPIRES_AT,
];

/// Attributes of a dispatch that are replaced by empty values.
#[cfg(test)]
const DISPATCH_EMPTIED: [&str; 4] = ["pickupLocation", "destination", "route", "events"];

/// Address of an erased place ("erased"), for the other person of the dispatch. An address is never empty.
const ERASED_ADDRESS: &str = "삭제됨";

/// When an erasure took place.
pub(super) struct Moment {
    /// ISO 8601.
    pub(super) stamp: String,
    /// Unix seconds.
    pub(super) seconds: i64,
}

/// Whether a profile was erased.
pub(super) fn is_erased(item: &Item) -> bool {
    item.contains_key(ERASED_AT)
}

/// The profile without the person. It is `INACTIVE`, in no index, and expires.
pub(super) fn profile(item: &Item, at: &Moment) -> Item {
    let mut after = only(item, &["PK", "SK", "EntityType", "createdAt"]);
    let status = [
        ("status", text(PersonStatus::Inactive.as_str())),
        ("currentLocation", nowhere()),
        ("lastLocationUpdate", text(&at.stamp)),
        ("currentDispatchId", AttributeValue::Null(true)),
    ];
    after.insert("phone".to_owned(), text(""));
    after.insert("currentStatus".to_owned(), map(status));
    if let Some(ver) = item.get("ver") {
        after.insert("ver".to_owned(), raised(ver));
    }
    mark(after, at, true)
}

/// A dispatch without the person who requested it. The driver's part goes with it: a route is the way of both.
pub(super) fn dispatch(item: &Item, at: &Moment) -> Item {
    let mut after = only(item, DISPATCH_KEPT);
    after.insert("pickupLocation".to_owned(), nowhere());
    after.insert("destination".to_owned(), nowhere());
    after.insert("route".to_owned(), AttributeValue::L(Vec::new()));
    after.insert("events".to_owned(), AttributeValue::L(events(item)));
    if let Some(ver) = item.get("ver") {
        after.insert("ver".to_owned(), raised(ver));
    }
    mark(after, at, false)
}

/// A dispatch without the way that its driver drove. The addresses are the user's.
pub(super) fn driven_dispatch(item: &Item) -> Item {
    let mut after = item.clone();
    after.insert("route".to_owned(), AttributeValue::L(Vec::new()));
    if let Some(ver) = item.get("ver") {
        after.insert("ver".to_owned(), raised(ver));
    }
    after
}

/// Recorded positions: nothing of them stays.
pub(super) fn route(item: &Item, at: &Moment) -> Item {
    let mut after = only(item, &["PK", "SK", "EntityType"]);
    after.insert("route".to_owned(), AttributeValue::L(Vec::new()));
    mark(after, at, true)
}

/// An entry of a user's history: the fare and the time stay.
pub(super) fn user_history(item: &Item, at: &Moment) -> Item {
    let mut after = only(item, &["PK", "SK", "EntityType", "dispatchId", "date", "fare", "status", EXPIRES_AT]);
    after.insert("from".to_owned(), text(ERASED_ADDRESS));
    after.insert("to".to_owned(), text(ERASED_ADDRESS));
    mark(after, at, false)
}

/// An entry of a driver's status history, without the place; nothing needs it any more.
pub(super) fn driver_history(item: &Item, at: &Moment) -> Item {
    let kept = ["PK", "SK", "EntityType", "status", "timestamp", "dispatchId", "GSI2PK", "GSI2SK"];
    let mut after = only(item, &kept);
    after.insert("location".to_owned(), nowhere());
    mark(after, at, true)
}

/// Whether a dispatch has ended. One whose status cannot be read has not.
pub(super) fn has_ended(item: &Item) -> bool {
    let ended = [DispatchStatus::Completed.as_str(), DispatchStatus::Cancelled.as_str()];
    string(item, "status").is_some_and(|status| ended.contains(&status))
}

fn only(item: &Item, kept: &[&str]) -> Item {
    item.iter().filter(|(name, _)| kept.contains(&name.as_str())).map(|(n, v)| (n.clone(), v.clone())).collect()
}

/// The kinds and times of events, without their texts, which may name anyone.
fn events(item: &Item) -> Vec<AttributeValue> {
    let entries = item.get("events").and_then(|events| events.as_l().ok());
    let without_text = |entry: &AttributeValue| {
        let entry = entry.as_m().ok()?;
        let mut after = only(entry, &["type", "timestamp"]);
        after.insert("details".to_owned(), text(""));
        Some(AttributeValue::M(after))
    };
    entries.into_iter().flatten().filter_map(without_text).collect()
}

/// A place that is none.
fn nowhere() -> AttributeValue {
    map([("lat", number(0)), ("lng", number(0)), ("address", text(ERASED_ADDRESS))])
}

fn map<const N: usize>(members: [(&str, AttributeValue); N]) -> AttributeValue {
    AttributeValue::M(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// The next version; each change by this service raises it.
fn raised(ver: &AttributeValue) -> AttributeValue {
    let ver = ver.as_n().ok().and_then(|ver| ver.parse::<f64>().ok()).unwrap_or_default();
    #[expect(clippy::cast_possible_truncation, reason = "a version is far below the limit")]
    let next = ver as i64 + 1;
    number(next)
}

fn mark(mut item: Item, at: &Moment, expires: bool) -> Item {
    item.insert(ERASED_AT.to_owned(), text(&at.stamp));
    if expires {
        item.insert(EXPIRES_AT.to_owned(), number(at.seconds));
    }
    item
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::adapters::store::codec_for_tests;
    use crate::adapters::store::convert::{DISPATCH, read_item, write_item};
    use crate::adapters::store::entity::DispatchItem;

    const SECRETS: [&str; 6] = ["01012341234", "명동", "37.5", "126.9", "arn:", "김"];

    fn at() -> Moment {
        Moment { stamp: "2025-05-25T16:00:00+09:00".to_owned(), seconds: 1_748_156_400 }
    }

    fn place() -> Value {
        json!({ "lat": 37.5662, "lng": 126.9784, "address": "서울시 중구 명동" })
    }

    fn item(value: Value) -> Item {
        serde_dynamo::to_item(value).unwrap()
    }

    fn json_of(item: Item) -> Value {
        serde_dynamo::from_item(item).unwrap()
    }

    fn assert_erased(after: &Item) {
        let shown = json_of(after.clone()).to_string();
        for secret in SECRETS {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }

    fn dispatch_item() -> Value {
        json!({
            "PK": "dispatch#1", "SK": "METADATA", "EntityType": "DISPATCH", "userId": "user#1", "driverId": "driver#1",
            "status": "COMPLETED", "createdAt": "2025-05-25T15:30:00+09:00", "updatedAt": "2025-05-25T15:45:00+09:00",
            "pickupLocation": place(), "destination": place(), "estimatedFare": 12000, "actualFare": 12500,
            "route": [{ "lat": 37.5, "lng": 126.9, "timestamp": "2025-05-25T15:35:00+09:00" }],
            "events": [{ "type": "CREATED", "timestamp": "2025-05-25T15:30:00+09:00", "details": "김 01012341234" }, 7],
            "offerSeq": 1, "ver": 6.0, "distanceMeters": 2500, "durationSeconds": 900, "expiresAt": 1_800_000_000,
            "passengerName": "김", "note": { "phone": "01012341234" }
        })
    }

    #[test]
    fn an_erased_dispatch_keeps_fares_and_times_and_can_be_read() {
        let after = dispatch(&item(dispatch_item()), &at());
        assert_erased(&after);
        let shown = json_of(after.clone());
        for (name, value) in [
            ("actualFare", json!(12500)),
            ("durationSeconds", json!(900)),
            ("createdAt", json!("2025-05-25T15:30:00+09:00")),
            ("ver", json!(7)),
            ("expiresAt", json!(1_800_000_000)),
            ("erasedAt", json!("2025-05-25T16:00:00+09:00")),
        ] {
            assert_eq!(shown[name], value, "{name}");
        }
        let read = codec_for_tests().read_dispatch(after.clone()).unwrap();
        assert_eq!((read.details.actual_fare, read.details.route.len(), read.details.events.len()), (12_500, 0, 1));
        let again = dispatch(&after, &at());
        assert_erased(&again);
    }

    #[test]
    fn every_attribute_of_a_dispatch_is_either_kept_or_emptied() {
        let mut full = dispatch_item();
        full["events"].as_array_mut().unwrap().pop();
        let mut full: DispatchItem = read_item(DISPATCH, item(full)).unwrap();
        for key in [&mut full.gsi1pk, &mut full.gsi1sk, &mut full.gsi2pk, &mut full.gsi2sk] {
            *key = Some("key".to_owned());
        }
        for name in write_item(DISPATCH, &full).unwrap().keys() {
            let name = name.as_str();
            assert!(DISPATCH_KEPT.contains(&name) != DISPATCH_EMPTIED.contains(&name), "decide about {name}");
        }
    }

    #[test]
    fn an_erased_profile_counts_as_missing() {
        let common = json!({
            "PK": "driver#1", "SK": "PROFILE", "EntityType": "DRIVER", "phone": "01012341234", "ver": 3,
            "createdAt": "2025-05-25T15:00:00+09:00", "deviceEndpointArn": "arn:aws:sns:endpoint",
            "currentStatus": { "status": "ACTIVE", "currentLocation": place(), "currentDispatchId": null,
                "lastLocationUpdate": "2025-05-25T15:00:00+09:00" },
            "GSI1PK": "DRIVER#ACTIVE", "GSI1SK": "REGION#중구#driver#1", "name": "김", "completedRides": ["dispatch#1"]
        });
        let after = profile(&item(common), &at());
        assert_erased(&after);
        assert!(is_erased(&after));
        let shown = json_of(after.clone());
        assert_eq!((&shown["ver"], &shown["GSI1PK"], &shown["phone"]), (&json!(4), &Value::Null, &json!("")));
    }

    #[test]
    fn histories_and_routes_lose_their_places() {
        let history = item(json!({
            "PK": "user#1", "SK": "DISPATCH#1", "EntityType": "USER_DISPATCH_HISTORY", "dispatchId": "dispatch#1",
            "date": "2025-05-25T15:45:00+09:00", "from": "서울시 중구 명동", "to": "서울시 중구 명동", "fare": 12500,
            "status": "COMPLETED", "expiresAt": 1_800_000_000, "name": "김"
        }));
        let after = user_history(&history, &at());
        assert_erased(&after);
        assert_eq!(json_of(after.clone())["fare"], 12500);
        assert_eq!(json_of(after)["expiresAt"], 1_800_000_000);
        let history = item(json!({
            "PK": "driver#1", "SK": "ACTIVE#1", "EntityType": "DRIVER_STATUS_HISTORY", "status": "ACTIVE",
            "timestamp": "2025-05-25T15:45:00+09:00", "location": place()
        }));
        let after = driver_history(&history, &at());
        assert_erased(&after);
        assert_eq!(json_of(after)["expiresAt"], 1_748_156_400);
        let chunk = item(json!({
            "PK": "dispatch#1", "SK": "ROUTE#000001", "EntityType": "DISPATCH_ROUTE",
            "route": [{ "lat": 37.5, "lng": 126.9, "timestamp": "2025-05-25T15:35:00+09:00" }]
        }));
        assert_erased(&route(&chunk, &at()));
    }

    #[test]
    fn only_an_ended_dispatch_may_be_erased() {
        for (status, ended) in [("COMPLETED", true), ("CANCELLED", true), ("REQUESTED", false), ("LOST", false)] {
            assert_eq!(has_ended(&item(json!({ "status": status }))), ended, "{status}");
        }
        assert!(!has_ended(&item(json!({ "status": 7 }))));
    }
}
