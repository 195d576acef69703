//! Another service writes the city's table, as the specification describes it.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::json;

use super::*;
use crate::roles::Algorithm;
use crate::stream::{DispatchHandler, StreamChange};

fn value(json: serde_json::Value) -> AttributeValue {
    serde_dynamo::to_attribute_value(json).unwrap()
}

fn set(item: &mut HashMap<String, AttributeValue>, name: &str, json: serde_json::Value) {
    item.insert(name.to_owned(), value(json));
}

async fn deliver(world: &World, change: StreamChange) {
    Algorithm(Arc::clone(&world.engine)).handle(change).await.unwrap();
}

#[tokio::test]
async fn a_driver_that_another_service_changes_counts_at_once() {
    let world = World::with_drivers(1).await;
    let status = |name: &'static str| {
        move |item: &mut HashMap<String, AttributeValue>| {
            let Some(AttributeValue::M(status)) = item.get_mut("currentStatus") else { panic!("a status") };
            set(status, "status", json!(name));
        }
    };
    world.store.alter("driver#00001", status("INACTIVE"));
    deliver(&world, StreamChange::Driver(driver_id(1))).await;
    assert_eq!(world.fleet.entry(&driver_id(1)).unwrap().status, PersonStatus::Inactive);
    world.request().await;
    world.stream().await;
    assert_eq!(world.offered().await, None);

    world.store.alter("driver#00001", status("ACTIVE"));
    deliver(&world, StreamChange::Driver(driver_id(1))).await;
    world.clock.advance_ms(2_000);
    world.stream().await;
    assert_eq!(world.offered().await, Some(1));

    world.store.delete("driver#00001");
    deliver(&world, StreamChange::Driver(driver_id(1))).await;
    assert_eq!(world.fleet.entry(&driver_id(1)).unwrap().status, PersonStatus::Inactive);
}

#[tokio::test]
async fn a_dispatch_that_another_service_accepts_occupies_its_driver_in_the_cache() {
    let world = World::with_drivers(1).await;
    let dispatch = DispatchId::parse("dispatch#00009").unwrap();
    deliver(&world, StreamChange::Taken { driver: driver_id(1), dispatch: dispatch.clone() }).await;
    let entry = world.fleet.entry(&driver_id(1)).unwrap();
    assert_eq!((entry.status, entry.dispatch), (PersonStatus::Dispatched, Some(dispatch)));
}

#[tokio::test]
async fn a_request_without_index_keys_gets_them_when_it_is_noticed() {
    let world = World::new();
    world.fleet.fill(&[]).await.unwrap();
    let id = world.request().await;
    world.store.alter(id.as_str(), |item| item.retain(|name, _| !name.starts_with("GSI")));
    world.clock.advance_ms(10_000);
    let none = std::collections::HashSet::new();
    assert!(world.store.open_since_before(world.clock.now(), 10, &none).await.unwrap().is_empty());
    let stored = Box::new(world.stored().await);
    deliver(&world, StreamChange::Waiting { stored, indexed: false }).await;
    assert_eq!(world.store.open_since_before(world.clock.now(), 10, &none).await.unwrap(), [id]);
    let own = crate::ports::Owner::User(user_id());
    assert_eq!(world.store.list(&own, 10, None).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn route_points_of_another_service_count() {
    let world = World::with_drivers(1).await;
    let id = world.request().await;
    world.stream().await;
    world.answer(accept).await.unwrap();
    let event = Event::Trip { driver: driver_id(1), event: TripEvent::PassengerPickedUp };
    world.engine.apply(&id, event).await.unwrap();
    world.store.alter(id.as_str(), |item| {
        let point = |step: u32| {
            let timestamp = format!("2025-05-25T15:3{step}:00+09:00");
            json!({ "lat": 37.5662 + f64::from(step) * 0.002, "lng": 126.9784, "timestamp": timestamp })
        };
        let mut points: Vec<_> = (1..=5).map(point).collect();
        points.push(json!({ "lat": 137.0, "lng": 0, "timestamp": "later" }));
        set(item, "route", json!(points));
    });
    world.clock.advance_ms(600_000);
    let done = world.engine.complete_trip(&id, &driver_id(1)).await.unwrap();
    let details = &done.stored.details;
    // Four steps of 0.002 degrees, about 222 m each.
    assert!((850..930).contains(&details.distance_m), "{}", details.distance_m);
    assert!(details.route.len() >= 2);
}
