//! Dispatches in stream records.

use std::collections::HashMap;

use aws_sdk_dynamodbstreams::types::AttributeValue;

use crate::adapters::store::convert::{Codec, DISPATCH, ItemError};
use crate::adapters::store::keys;
use crate::ports::StoredDispatch;

/// The `NewImage` or `OldImage` of a stream record.
pub type StreamImage = HashMap<String, AttributeValue>;

/// The dispatch in the image of a stream record; `None` for other kinds of items. A dispatch that cannot be read is an
/// error: the caller should report and skip the record, because it will never become readable.
pub fn from_stream_image(codec: &Codec, image: StreamImage) -> Result<Option<StoredDispatch>, ItemError> {
    let is = |name: &str, value: &str| matches!(image.get(name), Some(AttributeValue::S(text)) if text == value);
    if !is("EntityType", DISPATCH) || !is("SK", keys::DISPATCH_SK) {
        return Ok(None);
    }
    codec.read_dispatch(image).map(Some)
}

/// A codec for Seoul.
#[cfg(test)]
pub(crate) fn codec_for_tests() -> Codec {
    use std::sync::Arc;

    use dispatch_core::fare::FareTable;
    use dispatch_core::policy::DispatchPolicy;

    use crate::city::{City, Settings};

    let fare = FareTable { night_surcharges: Vec::new(), ..FareTable::default() };
    let (_, settings) = tokio::sync::watch::channel(Arc::new(Settings::new(DispatchPolicy::default(), fare)));
    let zone = jiff::tz::TimeZone::get("Asia/Seoul").unwrap();
    Codec::new(City::new("seoul", "KRW", zone, settings), keys::Shards::new(1))
}

#[cfg(test)]
mod tests {
    use dispatch_core::dispatch::{DispatchStatus, EventName, EventType};
    use serde_json::{Value, json};

    use super::*;

    fn dispatch() -> Value {
        json!({
            "PK": "dispatch#00001", "SK": "METADATA", "EntityType": "DISPATCH", "userId": "user#00001",
            "driverId": "driver#00001", "status": "IN_PROGRESS",
            "createdAt": "2025-05-25T15:30:00+09:00", "updatedAt": "2025-05-25T15:35:00+09:00",
            "pickupLocation": { "lat": 37.5662, "lng": 126.9784, "address": "서울시 중구 명동" },
            "destination": { "lat": 37.573, "lng": 126.9768, "address": "서울시 종로구 종로" },
            "estimatedFare": 12000, "actualFare": 0, "route": [],
            "events": [
                { "type": "CREATED", "timestamp": "2025-05-25T15:30:00+09:00", "details": "" },
                { "type": "PASSENGER_PICKED_UP", "timestamp": "2025-05-25T15:35:00+09:00", "details": "" }
            ]
        })
    }

    fn read(item: Value) -> Result<Option<StoredDispatch>, ItemError> {
        from_stream_image(&codec_for_tests(), serde_dynamo::to_item(item).unwrap())
    }

    #[test]
    fn a_dispatch_without_our_additions_gets_the_citys_policy() {
        let state = read(dispatch()).unwrap().expect("a dispatch").state;
        assert_eq!((state.status, state.ver, state.matching.max_attempts), (DispatchStatus::InProgress, 0, 5));
        assert_eq!(state.matching.search_until, state.created_at.plus_ms(60_000));
        assert_eq!(state.trip_started_at, Some(state.created_at.plus_ms(300_000)));
    }

    #[test]
    fn other_items_are_none() {
        for (name, value) in [("EntityType", "DRIVER"), ("SK", "ROUTE#000001")] {
            let mut item = dispatch();
            item[name] = json!(value);
            assert!(read(item).unwrap().is_none(), "{name}");
        }
        assert!(from_stream_image(&codec_for_tests(), StreamImage::new()).unwrap().is_none());
    }

    #[test]
    fn a_broken_dispatch_is_named_by_attribute_and_never_by_value() {
        for (path, value, shown) in [
            ("/userId", json!("driver#00001"), "userId"),
            ("/createdAt", json!("어제"), "createdAt"),
            ("/pickupLocation/lat", json!(137.0), "pickupLocation"),
            ("/status", json!("LOST"), "status"),
            ("/estimatedFare", json!(-5), "estimatedFare"),
            ("/estimatedFare", json!("12000"), "estimatedFare"),
            ("/events/1/type", json!(7), "events[1].type"),
            ("/driverId", json!(7), "driverId"),
        ] {
            let mut item = dispatch();
            *item.pointer_mut(path).unwrap() = value.clone();
            let text = read(item).map(|_| ()).expect_err("an error").to_string();
            assert!(text.contains(shown), "{path}: {text}");
            assert!(!text.contains(value.to_string().trim_matches('"')), "{path}: {text}");
        }
    }

    #[test]
    fn what_another_service_writes_is_read() {
        let mut item = dispatch();
        let fields = item.as_object_mut().unwrap();
        for optional in ["route", "actualFare", "updatedAt"] {
            fields.remove(optional);
        }
        fields.insert("estimatedFare".to_owned(), json!(12_000.4));
        fields.insert("ver".to_owned(), json!(3.0));
        fields.insert("promotion".to_owned(), json!({ "code": "여름" }));
        item["events"][0]["type"] = json!("PRICE_QUOTED");
        item["events"][1].as_object_mut().unwrap().remove("details");
        let read = read(item).unwrap().expect("a dispatch");
        assert_eq!((read.state.estimated_fare, read.state.ver, read.details.actual_fare), (12_000, 3, 0));
        assert!(read.details.route.is_empty());
        let events: Vec<&EventName> = read.details.events.iter().map(|entry| &entry.event_type).collect();
        let ours = EventName::Known(EventType::PassengerPickedUp);
        assert_eq!(events, [&EventName::Other("PRICE_QUOTED".to_owned()), &ours]);
        assert!(read.state.trip_started_at.is_some());

        let mut item = dispatch();
        item.as_object_mut().unwrap().remove("events");
        let read = self::read(item).unwrap().expect("a dispatch");
        assert!(read.details.events.is_empty());
    }

    #[test]
    fn a_missing_attribute_is_named() {
        let mut item = dispatch();
        item.as_object_mut().unwrap().remove("userId");
        let error = read(item).map(|_| ()).expect_err("an error");
        assert_eq!(error.to_string(), "a stored DISPATCH cannot be read at userId: missing");
        let mut item = dispatch();
        item["pickupLocation"].as_object_mut().unwrap().remove("lng");
        let error = read(item).map(|_| ()).expect_err("an error");
        assert_eq!(error.to_string(), "a stored DISPATCH cannot be read at pickupLocation.lng: missing");
    }
}
