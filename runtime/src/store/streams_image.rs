//! Dispatches in stream records.

use std::collections::HashMap;

use aws_sdk_dynamodbstreams::types::AttributeValue;

use super::convert::{Codec, DISPATCH, ItemError};
use super::keys;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dispatch_core::dispatch::DispatchStatus;
    use dispatch_core::fare::FareTable;
    use dispatch_core::policy::DispatchPolicy;
    use jiff::tz::TimeZone;
    use serde_json::{Value, json};
    use tokio::sync::watch;

    use super::*;
    use crate::city::{City, Settings};

    fn codec() -> Codec {
        let fare = FareTable { night_surcharges: Vec::new(), ..FareTable::default() };
        let (_, settings) = watch::channel(Arc::new(Settings::new(DispatchPolicy::default(), fare)));
        Codec::new(City::new("seoul", "KRW", TimeZone::get("Asia/Seoul").unwrap(), settings), keys::Shards::new(1))
    }

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
        from_stream_image(&codec(), serde_dynamo::to_item(item).unwrap())
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
        assert!(from_stream_image(&codec(), StreamImage::new()).unwrap().is_none());
    }

    #[test]
    fn a_broken_dispatch_is_named_by_attribute_and_never_by_value() {
        for (path, value, shown) in [
            ("/userId", json!("driver#00001"), "userId"),
            ("/createdAt", json!("어제"), "createdAt"),
            ("/pickupLocation/lat", json!(137.0), "pickupLocation"),
            ("/status", json!("LOST"), "status"),
            ("/estimatedFare", json!(-5), "estimatedFare"),
            ("/events/1/type", json!("SANG"), "events[1].type"),
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
