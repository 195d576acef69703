//! Each example deserializes into the type of the code and serializes unchanged, as JSON and as a DynamoDB item.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use dispatch_core::dispatch::EventEntry;
use dispatch_core::person::DriverPreferences;
use dispatch_core::route::RouteEntry;
use dispatch_http_types::NotificationBody;
use dispatch_runtime::adapters::store::entity::{
    DispatchItem, DriverCompletedRideItem, DriverItem, DriverStatusHistoryItem, UserDispatchHistoryItem, UserItem,
};
use dispatch_runtime::ports::TimerMessage;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{fixture, merged, without_additions};

/// Deserializes `example` as `T` and serializes it again, through JSON and through a DynamoDB item.
fn round_trips<T: Serialize + DeserializeOwned>(example: &Value) {
    let expected = without_additions(example.clone());
    let read: T = serde_json::from_value(example.clone()).unwrap_or_else(|error| panic!("{error}: {example:#}"));
    assert_eq!(without_additions(serde_json::to_value(&read).unwrap()), expected);

    let item: HashMap<String, AttributeValue> = serde_dynamo::to_item(example).unwrap();
    let read: T = serde_dynamo::from_item(item).unwrap_or_else(|error| panic!("{error}: {example:#}"));
    let item: HashMap<String, AttributeValue> = serde_dynamo::to_item(&read).unwrap();
    let written: Value = serde_dynamo::from_item(item).unwrap();
    assert_eq!(without_additions(written), expected);
}

#[test]
fn the_entities_of_section_6_round_trip() {
    round_trips::<DriverItem>(&fixture("6-driver"));
    round_trips::<UserItem>(&fixture("6-user"));
    round_trips::<DispatchItem>(&fixture("6-dispatch"));
    round_trips::<DriverStatusHistoryItem>(&fixture("6-driver-status-history"));
    round_trips::<UserDispatchHistoryItem>(&fixture("6-user-dispatch-history"));
    round_trips::<DriverCompletedRideItem>(&fixture("6-driver-completed-ride"));
}

#[test]
fn every_status_of_section_6_is_a_status() {
    for status in ["REQUESTED", "ACCEPTED", "IN_PROGRESS", "COMPLETED", "CANCELLED"] {
        round_trips::<DispatchItem>(&merged(fixture("6-dispatch"), &json!({ "status": status })));
    }
    for status in ["ACTIVE", "DISPATCHED", "INACTIVE"] {
        let change = json!({ "currentStatus": { "status": status } });
        round_trips::<DriverItem>(&merged(fixture("6-driver"), &change));
        round_trips::<UserItem>(&merged(fixture("6-user"), &change));
    }
    for ride in ["STANDARD", "PREMIUM", "ECONOMY"] {
        let change = json!({ "preferences": { "defaultRideType": ride } });
        round_trips::<DriverItem>(&merged(fixture("6-driver"), &change));
        round_trips::<UserItem>(&merged(fixture("6-user"), &change));
    }
}

#[test]
fn the_items_of_section_7_round_trip() {
    round_trips::<DispatchItem>(&fixture("7.1-dispatch-requested"));
    round_trips::<EventEntry>(&fixture("7.5-event-rejected"));
    round_trips::<RouteEntry>(&fixture("7.6-route-entry"));
    round_trips::<UserDispatchHistoryItem>(&fixture("7.6-user-dispatch-history"));
    round_trips::<DriverCompletedRideItem>(&fixture("7.6-driver-completed-ride"));
    round_trips::<DriverPreferences>(&fixture("7.3-driver-preferences")["preferences"]);
}

#[test]
fn the_changes_of_section_7_fit_the_items_they_change() {
    round_trips::<UserItem>(&merged(fixture("6-user"), &fixture("7.1-user-dispatched")));
    round_trips::<DriverItem>(&merged(fixture("6-driver"), &fixture("7.3-driver-preferences")));
    round_trips::<DriverItem>(&merged(fixture("6-driver"), &fixture("7.5-driver-dispatched")));
    let assigned = merged(fixture("7.1-dispatch-requested"), &fixture("7.4-dispatch-assigned"));
    round_trips::<DispatchItem>(&assigned);
    let rejected = merged(assigned.clone(), &json!({ "events": [fixture("7.5-event-rejected")] }));
    round_trips::<DispatchItem>(&rejected);
    let accepted = merged(assigned, &fixture("7.5-dispatch-accepted"));
    let dispatch: DispatchItem = serde_json::from_value(accepted.clone()).unwrap();
    assert_eq!(dispatch.events.len(), 3);
    round_trips::<DispatchItem>(&accepted);
    let on_the_way = merged(accepted, &json!({ "route": [fixture("7.6-route-entry")] }));
    round_trips::<DispatchItem>(&on_the_way);
}

#[test]
fn the_messages_of_section_7_4_round_trip() {
    for (example, written) in [
        ("7.4-sns-message", round_trip::<NotificationBody>("7.4-sns-message")),
        ("7.4-sqs-message", round_trip::<TimerMessage>("7.4-sqs-message")),
    ] {
        assert_eq!(written, fixture(example));
    }
}

fn round_trip<T: Serialize + DeserializeOwned>(example: &str) -> Value {
    serde_json::to_value(serde_json::from_value::<T>(fixture(example)).unwrap()).unwrap()
}

#[test]
fn a_line_of_an_export_is_an_item_in_dynamodb_json() {
    let line = fixture("7.7-export-line");
    // `serde_dynamo::Item` serializes as DynamoDB JSON: {"S": …}, {"N": …}, {"L": …}, {"M": …}.
    let item: serde_dynamo::Item = serde_json::from_value(line["Item"].clone()).unwrap();
    assert_eq!(json!({ "Item": serde_json::to_value(&item).unwrap() }), line);
    let exported: Value = serde_dynamo::from_item(item).unwrap();
    let whole = merged(fixture("7.1-dispatch-requested"), &exported);
    round_trips::<DispatchItem>(&whole);
    let dispatch: DispatchItem = serde_json::from_value(whole).unwrap();
    assert_eq!((dispatch.actual_fare, dispatch.route.len()), (12_000, 1));
    assert_eq!(dispatch.route[0].distance_from_previous, None);
}

#[test]
fn every_example_is_tested() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/specification");
    let sources = [include_str!("examples.rs"), include_str!("ride.rs")].concat();
    let mut examples = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(name) = name.strip_suffix(".json") {
            assert!(sources.contains(&format!("\"{name}\"")), "{name} is in no test");
            examples += 1;
        }
    }
    assert_eq!(examples, 21);
}
