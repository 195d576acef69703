//! The filter of stream records, like the filter of an event source mapping.

use aws_sdk_dynamodbstreams::types::{AttributeValue, OperationType, Record};
use dispatch_core::dispatch::DispatchStatus;
use dispatch_core::ids::{DispatchId, DriverId};

use crate::adapters::store::convert::DISPATCH;
use crate::adapters::store::{Codec, DRIVER, ItemError, StreamImage, from_stream_image, keys};
use crate::stream::handler::StreamChange;

/// What a record of the stream asks for; `None` for most records: other items, other states, and this service's own
/// changes, which took their effect when they were made.
pub(crate) fn relevant_change(codec: &Codec, record: &Record) -> Result<Option<StreamChange>, ItemError> {
    let Some(change) = record.dynamodb() else { return Ok(None) };
    let written = matches!(record.event_name(), Some(OperationType::Insert | OperationType::Modify));
    let (old, new) = (change.old_image(), change.new_image().filter(|_| written));
    let Some(image) = new.or(old) else { return Ok(None) };
    match (text(image, "EntityType"), text(image, "SK")) {
        (Some(DISPATCH), Some(keys::DISPATCH_SK)) => match new {
            Some(new) => dispatch_change(codec, old, new),
            None => Ok(None),
        },
        (Some(DRIVER), Some(keys::PROFILE_SK)) => Ok(driver_change(old, new)),
        _ => Ok(None),
    }
}

/// A dispatch that waits for a driver, or that another service gave to one. Checked before the whole image is
/// converted.
fn dispatch_change(
    codec: &Codec,
    old: Option<&StreamImage>,
    new: &StreamImage,
) -> Result<Option<StreamChange>, ItemError> {
    let status = text(new, "status");
    if status == Some(DispatchStatus::Requested.as_str()) {
        let indexed = text(new, "GSI1PK").is_some();
        let stored = from_stream_image(codec, new.clone())?.filter(|stored| !stored.state.has_live_offer());
        return Ok(stored.map(|stored| StreamChange::Waiting { stored: Box::new(stored), indexed }));
    }
    let taken = [DispatchStatus::Accepted, DispatchStatus::InProgress].iter().any(|it| status == Some(it.as_str()));
    let same =
        old.is_some_and(|old| old.get("status") == new.get("status") && old.get("driverId") == new.get("driverId"));
    if !taken || same || is_own(old, new) {
        return Ok(None);
    }
    let ids = text(new, "PK").zip(text(new, "driverId"));
    Ok(ids.and_then(|(dispatch, driver)| {
        let (dispatch, driver) = (DispatchId::parse(dispatch).ok()?, DriverId::parse(driver).ok()?);
        Some(StreamChange::Taken { driver, dispatch })
    }))
}

/// A driver whom another service created, changed or deleted.
fn driver_change(old: Option<&StreamImage>, new: Option<&StreamImage>) -> Option<StreamChange> {
    let image = new.or(old)?;
    let is_seen = |name: &&str| old.and_then(|old| old.get(*name)) == new.and_then(|new| new.get(*name));
    if new.is_some_and(|new| is_own(old, new)) || ["currentStatus", "preferences"].iter().all(is_seen) {
        return None;
    }
    let driver = DriverId::parse(text(image, "PK")?).ok()?;
    Some(StreamChange::Driver(driver))
}

/// Whether this service made the change: it raises the version with each of its changes, and another service does not
/// know the version.
fn is_own(old: Option<&StreamImage>, new: &StreamImage) -> bool {
    let ver = |image: &StreamImage| image.get("ver").cloned();
    ver(new).is_some() && ver(new) != old.and_then(ver)
}

fn text<'a>(image: &'a StreamImage, name: &str) -> Option<&'a str> {
    match image.get(name) {
        Some(AttributeValue::S(text)) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodbstreams::types::{Identity, StreamRecord};
    use serde_json::{Value, json};

    use super::*;
    use crate::adapters::store::codec_for_tests;

    fn changed(old: Option<Value>, new: Option<Value>) -> Option<StreamChange> {
        let image = |item: Option<Value>| item.map(|item| serde_dynamo::to_item(item).unwrap());
        let kind = match (&old, &new) {
            (None, _) => OperationType::Insert,
            (_, None) => OperationType::Remove,
            _ => OperationType::Modify,
        };
        let change = StreamRecord::builder().set_old_image(image(old)).set_new_image(image(new)).build();
        let record = Record::builder().event_name(kind).dynamodb(change).build();
        relevant_change(&codec_for_tests(), &record).unwrap()
    }

    fn driver(ver: Option<u32>, status: &str) -> Value {
        let mut item = json!({
            "PK": "driver#1", "SK": "PROFILE", "EntityType": "DRIVER",
            "currentStatus": { "status": status }, "preferences": {}, "phone": "01012341234"
        });
        if let Some(ver) = ver {
            item["ver"] = json!(ver);
        }
        item
    }

    fn is_driver(change: Option<StreamChange>) -> bool {
        matches!(change, Some(StreamChange::Driver(id)) if id.as_str() == "driver#1")
    }

    #[test]
    fn drivers_of_other_services_are_noticed() {
        assert!(is_driver(changed(None, Some(driver(None, "ACTIVE")))), "created");
        assert!(is_driver(changed(Some(driver(Some(3), "ACTIVE")), Some(driver(Some(3), "INACTIVE")))), "changed");
        assert!(is_driver(changed(Some(driver(Some(3), "ACTIVE")), Some(driver(None, "INACTIVE")))), "replaced");
        assert!(is_driver(changed(Some(driver(Some(3), "ACTIVE")), None)), "deleted");
    }

    #[test]
    fn own_changes_and_irrelevant_ones_are_skipped() {
        assert!(changed(None, Some(driver(Some(1), "INACTIVE"))).is_none(), "created here");
        assert!(changed(Some(driver(Some(3), "ACTIVE")), Some(driver(Some(4), "INACTIVE"))).is_none(), "changed here");
        let mut phone = driver(Some(3), "ACTIVE");
        phone["phone"] = json!("01000000000");
        assert!(changed(Some(driver(Some(3), "ACTIVE")), Some(phone)).is_none(), "nothing that a search needs");
    }

    #[test]
    fn items_that_expire_disturb_nothing() {
        let expired = |item: Value| {
            let image = serde_dynamo::to_item(item).unwrap();
            let change = StreamRecord::builder().set_old_image(Some(image)).build();
            // How the stream marks what the time to live deletes.
            let service = Identity::builder().r#type("Service").principal_id("dynamodb.amazonaws.com").build();
            let record = Record::builder().event_name(OperationType::Remove).user_identity(service).dynamodb(change);
            relevant_change(&codec_for_tests(), &record.build()).unwrap()
        };
        let item = |entity: &str, pk: &str, sk: &str| json!({ "PK": pk, "SK": sk, "EntityType": entity });
        for item in [
            json!({ "PK": "dispatch#1", "SK": "METADATA", "EntityType": "DISPATCH", "status": "COMPLETED" }),
            json!({ "PK": "dispatch#1", "SK": "METADATA", "EntityType": "DISPATCH", "status": "REQUESTED" }),
            item("DISPATCH_ROUTE", "dispatch#1", "ROUTE#000001"),
            item("USER_DISPATCH_HISTORY", "user#1", "DISPATCH#2025-05-25T15:45:00.000#dispatch#1"),
            item("DRIVER_STATUS_HISTORY", "driver#1", "ACTIVE#2025-05-25T15:45:00.000"),
            item("DRIVER_COMPLETED_RIDE", "driver#1", "COMPLETED#2025-05-25T15:45:00.000#dispatch#1"),
            item("USER", "user#1", "PROFILE"),
            item("ANSWER", "ANSWER#1", "ANSWER"),
            json!({ "PK": "something", "SK": "else" }),
        ] {
            assert!(expired(item.clone()).is_none(), "{item}");
        }
        let mut erased = driver(Some(3), "INACTIVE");
        erased["erasedAt"] = json!("2025-05-25T16:00:00+09:00");
        assert!(is_driver(expired(erased)), "a driver who is gone leaves the cache");
    }

    #[test]
    fn a_dispatch_that_another_service_accepted_is_noticed() {
        let item = |ver: u32, status: &str| {
            json!({
                "PK": "dispatch#1", "SK": "METADATA", "EntityType": "DISPATCH", "status": status,
                "driverId": "driver#1", "ver": ver
            })
        };
        let change = changed(Some(item(2, "REQUESTED")), Some(item(2, "ACCEPTED")));
        assert!(matches!(change, Some(StreamChange::Taken { driver, .. }) if driver.as_str() == "driver#1"));
        assert!(changed(Some(item(2, "REQUESTED")), Some(item(3, "ACCEPTED"))).is_none(), "accepted here");
        assert!(changed(Some(item(2, "ACCEPTED")), Some(item(2, "ACCEPTED"))).is_none(), "the same as before");
    }
}
