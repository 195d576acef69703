//! What another service breaks costs itself and nothing else.

use dispatch_core::dispatch::{DispatchStatus, Event};
use dispatch_core::ids::{DispatchId, DriverId};
use dispatch_core::person::PersonStatus;
use dispatch_runtime::ports::{CreateOutcome, Owner, Person, PortError};
use serde_json::{Value, json};

use super::table::{Table, decide, driver_profile, myeongdong, new_dispatch, start, user_profile};

/// Changes of a driver's profile after which it cannot be read.
fn broken_profiles() -> Vec<(&'static str, Value)> {
    vec![
        ("preferences.maxDistance", json!("20")),
        ("preferences.minimumFare", json!(-1)),
        ("preferences", json!([])),
        ("vehicleInfo", json!("현대")),
        ("currentStatus.status", json!("ON_A_BREAK")),
        ("currentStatus.currentLocation.lat", json!("37")),
        ("currentStatus", json!(1)),
        ("phone", json!(1_012_341_234)),
        ("createdAt", json!(1_748_154_600)),
        ("completedRides", json!("dispatch#1")),
        ("deviceEndpointArn", json!({})),
    ]
}

pub(super) async fn an_unreadable_profile_costs_its_driver_alone(table: &Table) {
    let profiles = table.profiles();
    for (n, (path, value)) in broken_profiles().into_iter().enumerate() {
        let driver = table.add_driver(&format!("driver#{n:02}")).await;
        table.set(driver.as_str(), path, value).await;
    }
    let good = table.add_driver("driver#good").await;
    let ids: Vec<DriverId> = (0..broken_profiles().len())
        .map(|n| DriverId::parse(format!("driver#{n:02}")).unwrap())
        .chain([good.clone()])
        .collect();
    let read = profiles.drivers(&ids).await.unwrap();
    assert_eq!(read.iter().map(|driver| &driver.id).collect::<Vec<_>>(), [&good]);
    let active = table.active_drivers(Some("중구")).await;
    assert_eq!(active.iter().map(|driver| &driver.id).collect::<Vec<_>>(), [&good]);
}

pub(super) async fn a_profile_is_repaired_by_its_person(table: &Table) {
    let profiles = table.profiles();
    for (n, (path, value)) in broken_profiles().into_iter().enumerate() {
        let driver = table.add_driver(&format!("driver#{n}")).await;
        table.set(driver.as_str(), "fleetContract", "A-7").await;
        table.set(driver.as_str(), path, value).await;
        let repaired = profiles.put_driver(&driver, driver_profile(), start().plus_ms(1)).await;
        let repaired = repaired.unwrap_or_else(|error| panic!("{path}: {error:?}"));
        // A status that can be read stays; another is lost, and the driver has to become ACTIVE again.
        let status = if path.starts_with("currentStatus") { PersonStatus::Inactive } else { PersonStatus::Active };
        assert_eq!(repaired.current_status.status, status, "{path}");
        let item = table.item(driver.as_str(), "PROFILE").await;
        assert_eq!(item["fleetContract"], "A-7", "{path}");
        assert_eq!(item["GSI1PK"], format!("DRIVER#{}", status.as_str()), "{path}");
        let moved = profiles.set_availability(&driver, PersonStatus::Active, &myeongdong(), start().plus_ms(2)).await;
        assert!(moved.is_ok(), "{path}");
    }
    let user = table.add_user("user#1").await;
    table.request("dispatch#1", &user, start()).await;
    table.set("user#1", "paymentMethods", "cash").await;
    assert!(profiles.user(&user).await.is_err());
    let repaired = profiles.put_user(&user, user_profile(), start().plus_ms(1)).await.unwrap();
    assert_eq!(repaired.current_status.status, PersonStatus::Dispatched, "the user is still on the dispatch");
}

pub(super) async fn an_unreadable_dispatch_is_left_out_of_lists(table: &Table) {
    let (user, driver) = (table.add_user("user#1").await, table.add_driver("driver#1").await);
    for n in 1..=3_u64 {
        table.ride(&format!("dispatch#{n}"), &user, &driver, start().plus_ms(n * 1_000_000)).await;
    }
    table.set("dispatch#2", "estimatedFare", "12000").await;
    let read = table.dispatches().load(&DispatchId::parse("dispatch#2").unwrap()).await;
    assert!(matches!(read, Err(PortError::Unreadable { .. })), "callers do not log it again");
    for owner in [Owner::User(user), Owner::Driver(driver)] {
        let page = table.dispatches().list(&owner, 10, None).await.unwrap();
        let ids: Vec<&str> = page.items.iter().map(|dispatch| dispatch.state.id.as_str()).collect();
        assert_eq!(ids, ["dispatch#3", "dispatch#1"], "{owner:?}");
    }
}

pub(super) async fn a_dispatch_ends_without_a_profile_that_cannot_be_read(table: &Table) {
    let (user, driver) = (table.add_user("user#1").await, table.add_driver("driver#1").await);
    let requested = table.request("dispatch#1", &user, start()).await;
    let offered = table.offer(&requested, &driver, start().plus_ms(1)).await;
    let accepted = table.accept(&offered, &driver, start().plus_ms(2)).await;
    table.set("driver#1", "preferences.maxDistance", "20").await;
    let cancel = decide(&accepted, Event::CancelByUser { user: user.clone() }, start().plus_ms(3));
    let cancelled = table.apply(&accepted, &cancel, None).await;
    assert_eq!(cancelled.state.status, DispatchStatus::Cancelled);
    assert_eq!(table.profiles().user(&user).await.unwrap().unwrap().current_status.status, PersonStatus::Active);
}

pub(super) async fn a_person_is_freed_from_the_dispatch_it_is_on(table: &Table) {
    let (user, driver) = (table.add_user("user#1").await, table.add_driver("driver#1").await);
    let requested = table.request("dispatch#1", &user, start()).await;
    let offered = table.offer(&requested, &driver, start().plus_ms(1)).await;
    let accepted = table.accept(&offered, &driver, start().plus_ms(2)).await;
    let (profiles, id, now) = (table.profiles(), &accepted.state.id, start().plus_ms(5000));
    let other = dispatch_core::ids::DispatchId::parse("dispatch#2").unwrap();
    for person in [Person::User(user.clone()), Person::Driver(driver.clone())] {
        assert!(!profiles.release(&person, &other, now).await.unwrap(), "not on that one");
        assert!(profiles.release(&person, id, now).await.unwrap());
        assert!(!profiles.release(&person, id, now).await.unwrap(), "no longer");
        let item = table.item(person.as_str(), "PROFILE").await;
        assert_eq!(
            (&item["currentStatus"]["status"], &item["currentStatus"]["currentDispatchId"]),
            (&json!("ACTIVE"), &Value::Null)
        );
    }
    table.item("driver#1", "ACTIVE#2025-05-25T15:30:05.000").await;
    let again = table.dispatches().create(new_dispatch("dispatch#2", &user, now)).await.unwrap();
    assert!(matches!(again, CreateOutcome::Stored(_)));
}
