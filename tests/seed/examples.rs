//! Each example is read as the type of the code and written back unchanged, as JSON and as a DynamoDB item.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use dispatch_core::person::DriverPreferences;
use dispatch_http_types::NotificationBody;
use dispatch_runtime::ports::TimerMessage;
use dispatch_runtime::store::entity::{
    DispatchItem, DriverCompletedRideItem, DriverItem, DriverStatusHistoryItem, EventEntry, RouteEntry,
    UserDispatchHistoryItem, UserItem,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{fixture, merged, without_additions};

/// Reads `example` as `T` and writes it back, through JSON and through a DynamoDB item.
fn comes_back<T: Serialize + DeserializeOwned>(example: &Value) {
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
fn the_entities_of_section_6_come_back_unchanged() {
    comes_back::<DriverItem>(&fixture("6-driver"));
    comes_back::<UserItem>(&fixture("6-user"));
    comes_back::<DispatchItem>(&fixture("6-dispatch"));
    comes_back::<DriverStatusHistoryItem>(&fixture("6-driver-status-history"));
    comes_back::<UserDispatchHistoryItem>(&fixture("6-user-dispatch-history"));
    comes_back::<DriverCompletedRideItem>(&fixture("6-driver-completed-ride"));
}

#[test]
fn every_status_of_section_6_is_a_status() {
    for status in ["REQUESTED", "ACCEPTED", "IN_PROGRESS", "COMPLETED", "CANCELLED"] {
        comes_back::<DispatchItem>(&merged(fixture("6-dispatch"), &json!({ "status": status })));
    }
    for status in ["ACTIVE", "DISPATCHED", "INACTIVE"] {
        let change = json!({ "currentStatus": { "status": status } });
        comes_back::<DriverItem>(&merged(fixture("6-driver"), &change));
        comes_back::<UserItem>(&merged(fixture("6-user"), &change));
    }
    for ride in ["STANDARD", "PREMIUM", "ECONOMY"] {
        let change = json!({ "preferences": { "defaultRideType": ride } });
        comes_back::<DriverItem>(&merged(fixture("6-driver"), &change));
        comes_back::<UserItem>(&merged(fixture("6-user"), &change));
    }
}

#[test]
fn the_items_of_section_7_come_back_unchanged() {
    comes_back::<DispatchItem>(&fixture("7.1-dispatch-requested"));
    comes_back::<EventEntry>(&fixture("7.5-event-rejected"));
    comes_back::<RouteEntry>(&fixture("7.6-route-entry"));
    comes_back::<UserDispatchHistoryItem>(&fixture("7.6-user-dispatch-history"));
    comes_back::<DriverCompletedRideItem>(&fixture("7.6-driver-completed-ride"));
    comes_back::<DriverPreferences>(&fixture("7.3-driver-preferences")["preferences"]);
}

#[test]
fn the_changes_of_section_7_fit_the_items_they_change() {
    comes_back::<UserItem>(&merged(fixture("6-user"), &fixture("7.1-user-dispatched")));
    comes_back::<DriverItem>(&merged(fixture("6-driver"), &fixture("7.3-driver-preferences")));
    comes_back::<DriverItem>(&merged(fixture("6-driver"), &fixture("7.5-driver-dispatched")));
    let assigned = merged(fixture("7.1-dispatch-requested"), &fixture("7.4-dispatch-assigned"));
    comes_back::<DispatchItem>(&assigned);
    let rejected = merged(assigned.clone(), &json!({ "events": [fixture("7.5-event-rejected")] }));
    comes_back::<DispatchItem>(&rejected);
    let accepted = merged(assigned, &fixture("7.5-dispatch-accepted"));
    let dispatch: DispatchItem = serde_json::from_value(accepted.clone()).unwrap();
    assert_eq!(dispatch.events.len(), 3);
    comes_back::<DispatchItem>(&accepted);
    let on_the_way = merged(accepted, &json!({ "route": [fixture("7.6-route-entry")] }));
    comes_back::<DispatchItem>(&on_the_way);
}

#[test]
fn the_messages_of_section_7_4_come_back_unchanged() {
    for (example, written) in [
        ("7.4-sns-message", again::<NotificationBody>("7.4-sns-message")),
        ("7.4-sqs-message", again::<TimerMessage>("7.4-sqs-message")),
    ] {
        assert_eq!(written, fixture(example));
    }
}

fn again<T: Serialize + DeserializeOwned>(example: &str) -> Value {
    serde_json::to_value(serde_json::from_value::<T>(fixture(example)).unwrap()).unwrap()
}

#[test]
fn a_line_of_an_export_is_an_item_in_dynamodb_json() {
    let line = fixture("7.7-export-line");
    // `serde_dynamo::Item` is the JSON of DynamoDB: {"S": …}, {"N": …}, {"L": …}, {"M": …}.
    let item: serde_dynamo::Item = serde_json::from_value(line["Item"].clone()).unwrap();
    assert_eq!(json!({ "Item": serde_json::to_value(&item).unwrap() }), line);
    let exported: Value = serde_dynamo::from_item(item).unwrap();
    let whole = merged(fixture("7.1-dispatch-requested"), &exported);
    comes_back::<DispatchItem>(&whole);
    let dispatch: DispatchItem = serde_json::from_value(whole).unwrap();
    assert_eq!((dispatch.actual_fare, dispatch.route.len()), (12_000, 1));
    assert_eq!(dispatch.route[0].distance_from_previous, None);
}

#[test]
fn no_example_is_left_out() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/seed");
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
