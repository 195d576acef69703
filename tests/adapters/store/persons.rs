//! Expiry of finished rides, and erasure and export of one person's data.

use std::collections::BTreeMap;

use dispatch_core::dispatch::Event;
use dispatch_core::geo::Coordinate;
use dispatch_core::ids::{DriverId, UserId};
use dispatch_core::person::PersonStatus;
use dispatch_core::route::RoutePoint;
use dispatch_runtime::ports::{
    AvailabilityChange, Counts, CreateOutcome, DataKind, Erasure, PageErasure, Person, ProfileErasure,
};
use serde_json::{Value, json};

use super::table::{Table, decide, myeongdong, new_dispatch, start, user_profile};

const DAY_S: i64 = 24 * 60 * 60;

/// What the profiles and rides of these tests hold about people.
const SECRETS: [&str; 4] = ["0101234", "명동", "37.5662", "126.9784"];

fn secrets_in(items: &[Value]) -> Vec<&'static str> {
    let text = items.iter().map(Value::to_string).collect::<String>();
    SECRETS.into_iter().filter(|secret| text.contains(secret)).collect()
}

fn seconds(item: &Value) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "whole seconds")]
    item["expiresAt"].as_f64().map(|seconds| seconds as i64)
}

pub(super) async fn only_what_has_ended_expires(table: &Table) {
    let (user, driver) = (table.add_user("user#1").await, table.add_driver("driver#1").await);
    let requested = table.request("dispatch#1", &user, start()).await;
    let offered = table.offer(&requested, &driver, start().plus_ms(1)).await;
    let accepted = table.accept(&offered, &driver, start().plus_ms(2)).await;
    assert_eq!(seconds(&table.item("dispatch#1", "METADATA").await), None, "an open dispatch stays");
    let point = RoutePoint { position: Coordinate::new(37.5662, 126.9784).unwrap(), at: start().plus_ms(3000) };
    table.dispatches().append_route(&accepted.state.id, 1, &[point]).await.unwrap();
    let began = start().0.div_euclid(1000);
    assert_eq!(seconds(&table.item("dispatch#1", "ROUTE#000001").await), Some(began + 3 + 30 * DAY_S));

    let cancel = decide(&accepted, Event::CancelByUser { user: user.clone() }, start().plus_ms(5000));
    table.apply(&accepted, &cancel, None).await;
    let year = Some(began + 5 + 365 * DAY_S);
    assert_eq!(seconds(&table.item("dispatch#1", "METADATA").await), year);
    assert_eq!(seconds(&table.item("user#1", "DISPATCH#2025-05-25T15:30:05.000#dispatch#1").await), year);
    assert_eq!(seconds(&table.item("driver#1", "ACTIVE#2025-05-25T15:30:05.000").await), year);
    for person in ["user#1", "driver#1"] {
        assert_eq!(seconds(&table.item(person, "PROFILE").await), None, "{person}");
    }

    let completed = table.ride("dispatch#2", &user, &driver, start().plus_ms(1_000_000)).await;
    let item = table.item("dispatch#2", "METADATA").await;
    assert!(seconds(&item).is_some_and(|at| at > began + 365 * DAY_S), "{item}");
    assert!(completed.state.ver > 1);
}

/// Erases everything of a person; returns the number of pages and what they found.
async fn erase(table: &Table, person: &Person) -> (usize, Counts) {
    let (store, now) = (table.persons(), start().plus_ms(90_000_000));
    let erased = store.erase_profile(person, now).await.unwrap();
    assert!(matches!(erased, ProfileErasure::Done { .. }), "{erased:?}");
    let (mut pages, mut found, mut after) = (0, Counts::new(), None);
    loop {
        // Each page twice: a process may end before the progress is stored.
        let first = store.erase_page(person, after.as_deref(), now).await.unwrap();
        assert!(matches!(first, PageErasure::Done(_)), "{first:?}");
        let PageErasure::Done(page) = store.erase_page(person, after.as_deref(), now).await.unwrap() else {
            panic!("the second time is refused")
        };
        pages += 1;
        for (kind, count) in page.found {
            *found.entry(kind).or_default() += count;
        }
        after = page.next;
        if after.is_none() {
            return (pages, found);
        }
        assert!(pages < 50, "no end");
    }
}

pub(super) async fn a_person_is_erased_page_by_page_and_fares_and_times_stay(table: &Table) {
    let (user, driver) = (table.add_user("user#1").await, table.add_driver("driver#1").await);
    let mut fares = BTreeMap::new();
    for n in 0..12_u64 {
        let id = format!("dispatch#{n:02}");
        let ride = table.ride(&id, &user, &driver, start().plus_ms(n * 1_000_000)).await;
        let point = RoutePoint { position: Coordinate::new(37.5662, 126.9784).unwrap(), at: start() };
        table.dispatches().append_route(&ride.state.id, 1, &[point]).await.unwrap();
        fares.insert(id, (ride.details.actual_fare, ride.details.created_at.clone()));
    }
    table.set("dispatch#03", "passengerName", "명동").await;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;

    let (_, found) = erase(table, &Person::User(user.clone())).await;
    assert_eq!((found.get(&DataKind::Dispatch), found.get(&DataKind::History)), (Some(&12), Some(&12)));
    for (id, (fare, created_at)) in &fares {
        let items = table.partition(id).await;
        assert_eq!(secrets_in(&items), [""; 0], "{id}");
        let item = table.item(id, "METADATA").await;
        assert_eq!(
            (item["actualFare"].as_f64(), item["createdAt"].as_str()),
            (Some((*fare).into()), Some(&**created_at))
        );
        assert_eq!((&item["driverId"], &item["userId"]), (&json!("driver#1"), &json!("user#1")));
    }
    assert_eq!(secrets_in(&table.partition("user#1").await), [""; 0]);
    assert!(!secrets_in(&table.partition("driver#1").await).is_empty(), "the driver's data stays");

    let (_, found) = erase(table, &Person::Driver(driver)).await;
    assert_eq!(found.get(&DataKind::Ride), Some(&12));
    assert_eq!(secrets_in(&table.partition("driver#1").await), [""; 0]);
    let ride = table.partition("driver#1").await.into_iter().find(|item| item["EntityType"] == "DRIVER_COMPLETED_RIDE");
    assert!(ride.unwrap()["fare"].as_f64().is_some());
}

pub(super) async fn an_erased_profile_counts_as_missing_until_the_person_comes_back(table: &Table) {
    let (user, driver) = (table.add_user("user#1").await, table.add_driver("driver#1").await);
    table.profiles().set_device(&Person::User(user.clone()), "arn:aws:sns:endpoint/1").await.unwrap();
    let now = start().plus_ms(1000);
    for person in [Person::User(user.clone()), Person::Driver(driver.clone())] {
        let erased = table.persons().erase_profile(&person, now).await.unwrap();
        assert_eq!(erased, ProfileErasure::Done { changed: true });
        let again = table.persons().erase_profile(&person, now).await.unwrap();
        assert_eq!(again, ProfileErasure::Done { changed: false });
        assert!(!table.profiles().set_device(&person, "arn:aws:sns:endpoint/2").await.unwrap());
        assert_eq!(table.profiles().device(&person).await.unwrap(), None);
        assert_eq!(
            secrets_in(&table.partition(person.as_str()).await),
            if person == Person::User(user.clone()) {
                vec![]
            } else {
                // The history of the driver is on a page.
                vec!["명동", "37.5662", "126.9784"]
            }
        );
    }
    assert!(table.profiles().user(&user).await.unwrap().is_none());
    assert!(table.profiles().drivers(std::slice::from_ref(&driver)).await.unwrap().is_empty());
    let asked = table.dispatches().create(new_dispatch("dispatch#1", &user, now)).await.unwrap();
    assert!(matches!(asked, CreateOutcome::UnknownUser));
    let change = table.profiles().set_availability(&driver, PersonStatus::Active, &myeongdong(), now).await.unwrap();
    assert!(matches!(change, AvailabilityChange::UnknownDriver));

    table.profiles().put_user(&user, user_profile(), now).await.unwrap();
    let profile = table.item("user#1", "PROFILE").await;
    assert_eq!((&profile["expiresAt"], &profile["erasedAt"]), (&Value::Null, &Value::Null));
    let asked = table.dispatches().create(new_dispatch("dispatch#1", &user, now)).await.unwrap();
    assert!(matches!(asked, CreateOutcome::Stored(_)));
}

pub(super) async fn a_person_on_an_open_dispatch_is_not_erased(table: &Table) {
    let (user, driver) = (table.add_user("user#1").await, table.add_driver("driver#1").await);
    let requested = table.request("dispatch#1", &user, start()).await;
    let offered = table.offer(&requested, &driver, start().plus_ms(1)).await;
    let accepted = table.accept(&offered, &driver, start().plus_ms(2)).await;
    for person in [Person::User(user.clone()), Person::Driver(driver.clone())] {
        let before = table.partition(person.as_str()).await;
        assert_eq!(table.persons().open_dispatch(&person).await.unwrap(), Some(accepted.state.id.clone()));
        let refused = table.persons().erase_profile(&person, start()).await.unwrap();
        assert_eq!(refused, ProfileErasure::OnDispatch(accepted.state.id.clone()));
        assert_eq!(table.partition(person.as_str()).await, before);
    }
    // A reference to a dispatch that is gone keeps no one.
    let other = table.add_user("user#2").await;
    table.set("user#2", "currentStatus.currentDispatchId", "dispatch#gone").await;
    let erased = table.persons().erase_profile(&Person::User(other), start()).await.unwrap();
    assert_eq!(erased, ProfileErasure::Done { changed: true });
}

pub(super) async fn the_record_of_an_erasure_is_kept(table: &Table) {
    let person = Person::User(UserId::parse("user#1").unwrap());
    assert_eq!(table.persons().erasure(&person).await.unwrap(), None);
    let mut erasure = Erasure {
        key: "2025-05-25T15:30:00.000".to_owned(),
        started_at: "2025-05-25T15:30:00+09:00".to_owned(),
        completed_at: None,
        found: Counts::from([(DataKind::Dispatch, 5)]),
        next: Some("dispatches".to_owned()),
    };
    table.persons().keep_erasure(&person, &erasure).await.unwrap();
    assert_eq!(table.persons().erasure(&person).await.unwrap().as_ref(), Some(&erasure));
    erasure.key = "2025-06-25T15:30:00.000".to_owned();
    table.persons().keep_erasure(&person, &erasure).await.unwrap();
    assert_eq!(table.persons().erasure(&person).await.unwrap(), Some(erasure), "the latest");
}

pub(super) async fn an_export_has_everything_of_a_person_page_by_page(table: &Table) {
    let (user, driver) = (table.add_user("user#1").await, table.add_driver("driver#1").await);
    for n in 0..12_u64 {
        table.ride(&format!("dispatch#{n:02}"), &user, &driver, start().plus_ms(n * 1_000_000)).await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    for (person, kinds) in [
        (Person::User(user), [(DataKind::Profile, 1), (DataKind::Dispatch, 12), (DataKind::History, 12)]),
        (Person::Driver(driver), [(DataKind::Profile, 1), (DataKind::Dispatch, 12), (DataKind::Ride, 12)]),
    ] {
        let (mut found, mut after) = (Counts::new(), None::<String>);
        loop {
            let page = table.persons().export_page(&person, after.as_deref()).await.unwrap();
            for (kind, data) in page.items {
                *found.entry(kind).or_default() += 1;
                assert!(data.get("GSI1PK").is_none() && data.get("matching").is_none(), "{data}");
            }
            after = page.next;
            let Some(after) = &after else { break };
            assert!(table.persons().is_continuation(after), "{after}");
        }
        for (kind, count) in kinds {
            assert_eq!(found.get(&kind), Some(&count), "{kind:?} of {}", person.as_str());
        }
    }
    let unknown = Person::Driver(DriverId::parse("driver#9").unwrap());
    assert!(table.persons().export_page(&unknown, None).await.unwrap().items.is_empty());
}
