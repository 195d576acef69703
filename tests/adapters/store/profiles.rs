//! The scenarios of the contract that concern profiles and the presence of drivers.

use dispatch_core::geo::Location;
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_core::person::PersonStatus;
use dispatch_runtime::ports::{AvailabilityChange, Person};
use serde_json::json;

use super::contract::eventually;
use super::table::{Table, driver_profile, jongno, myeongdong, start, user_profile};

pub(super) async fn availability_follows_the_driver_but_not_on_a_dispatch(table: &Table) {
    let (user, driver) = (table.add_user("user#1").await, DriverId::parse("driver#1").unwrap());
    let profiles = table.profiles();
    let change = |status, at: Location, after_ms| {
        let (profiles, driver) = (profiles.clone(), driver.clone());
        async move { profiles.set_availability(&driver, status, &at, start().plus_ms(after_ms)).await.unwrap() }
    };
    let unknown = change(PersonStatus::Active, myeongdong(), 0).await;
    assert!(matches!(unknown, AvailabilityChange::UnknownDriver));
    profiles.put_driver(&driver, driver_profile(), start()).await.unwrap();
    let AvailabilityChange::Done(active) = change(PersonStatus::Active, myeongdong(), 1).await else { panic!() };
    assert_eq!(active.current_status.status, PersonStatus::Active);
    let profile = table.item("driver#1", "PROFILE").await;
    assert_eq!((&profile["GSI1PK"], &profile["GSI1SK"]), (&json!("DRIVER#ACTIVE"), &json!("REGION#중구#driver#1")));
    // The same status at another place changes the place but adds no history entry.
    let AvailabilityChange::Done(moved) = change(PersonStatus::Active, jongno(), 2).await else { panic!() };
    assert_eq!(table.item("driver#1", "PROFILE").await["GSI1SK"], "REGION#종로구#driver#1");
    let stored = profiles.drivers(std::slice::from_ref(&driver)).await.unwrap();
    assert!(stored == [*moved]);
    let AvailabilityChange::Done(away) = change(PersonStatus::Inactive, jongno(), 3).await else { panic!() };
    assert_eq!(away.current_status.status, PersonStatus::Inactive);
    assert_eq!(table.item("driver#1", "PROFILE").await["GSI1PK"], "DRIVER#INACTIVE");
    change(PersonStatus::Active, jongno(), 4).await;
    let items = table.partition("driver#1").await;
    let keys: Vec<&str> = items.iter().map(|item| item["SK"].as_str().unwrap()).collect();
    let active = ["ACTIVE#2025-05-25T15:30:00.001", "ACTIVE#2025-05-25T15:30:00.004"];
    assert_eq!(keys, [active[0], active[1], "INACTIVE#2025-05-25T15:30:00.003", "PROFILE"]);
    let requested = table.request("dispatch#1", &user, start()).await;
    let offered = table.offer(&requested, &driver, start().plus_ms(5)).await;
    table.accept(&offered, &driver, start().plus_ms(6)).await;
    let AvailabilityChange::OnDispatch { current } = change(PersonStatus::Inactive, jongno(), 7).await else {
        panic!("a driver left its passenger")
    };
    assert_eq!(current, Some(requested.state.id));
    let forced = profiles.set_availability(&driver, PersonStatus::Dispatched, &jongno(), start()).await;
    assert!(forced.is_err(), "only a dispatch makes DISPATCHED");
}

pub(super) async fn profiles_keep_their_status_and_devices(table: &Table) {
    let (user, driver) = (table.add_user("user#1").await, table.add_driver("driver#1").await);
    let profiles = table.profiles();
    let (user_person, driver_person) = (Person::User(user.clone()), Person::Driver(driver.clone()));
    assert_eq!(profiles.device(&user_person).await.unwrap(), None);
    for person in [&user_person, &driver_person] {
        let arn = format!("arn:aws:sns:ap-northeast-2:000000000000:endpoint/{}", person.as_str());
        assert!(profiles.set_device(person, &arn).await.unwrap());
        assert_eq!(profiles.device(person).await.unwrap(), Some(arn));
    }
    let unknown = Person::User(UserId::parse("user#unknown").unwrap());
    assert!(!profiles.set_device(&unknown, "arn").await.unwrap());
    assert!(table.partition("user#unknown").await.is_empty());

    table.request("dispatch#1", &user, start()).await;
    let mut changed = user_profile();
    changed.phone = "01099998888".to_owned();
    changed.location = jongno();
    let later = start().plus_ms(60_000);
    let stored = profiles.put_user(&user, changed, later).await.unwrap();
    assert_eq!(stored.current_status.status, PersonStatus::Dispatched);
    assert_eq!(stored.current_status.dispatch.as_ref().map(DispatchId::as_str), Some("dispatch#1"));
    assert_eq!((stored.created_at.as_str(), stored.phone.as_str()), ("2025-05-25T15:30:00+09:00", "01099998888"));
    let profile = table.item("user#1", "PROFILE").await;
    assert_eq!(profile["GSI1SK"], "REGION#종로구#user#1");
    assert!(profile["deviceEndpointArn"].is_string());
    assert!(profiles.user(&user).await.unwrap().is_some_and(|read| read == stored));

    let mut preferences = driver_profile();
    preferences.preferences.auto_accept = true;
    let stored = profiles.put_driver(&driver, preferences, later).await.unwrap();
    assert_eq!(stored.current_status.status, PersonStatus::Active);
    assert!(stored.preferences.auto_accept);
    assert!(table.item("driver#1", "PROFILE").await["deviceEndpointArn"].is_string());
    let unknown = DriverId::parse("driver#unknown").unwrap();
    let read = profiles.drivers(&[driver.clone(), unknown, driver]).await.unwrap();
    assert!(read == [stored]);
    assert!(profiles.drivers(&[]).await.unwrap().is_empty());
}

pub(super) async fn active_drivers_are_listed_page_by_page(table: &Table) {
    let profiles = table.profiles();
    for n in 1..=6 {
        let driver = table.add_driver(&format!("driver#{n}")).await;
        let (status, place) = match n {
            1 | 2 => (PersonStatus::Active, myeongdong()),
            6 => (PersonStatus::Inactive, jongno()),
            _ => (PersonStatus::Active, jongno()),
        };
        profiles.set_availability(&driver, status, &place, start().plus_ms(1)).await.unwrap();
    }
    let ids = async |region| {
        let mut ids: Vec<String> =
            table.active_drivers(region).await.into_iter().map(|driver| driver.id.to_string()).collect();
        ids.sort();
        ids
    };
    let all = eventually(|| ids(None), |all| all.len() == 5).await;
    assert_eq!(all, ["driver#1", "driver#2", "driver#3", "driver#4", "driver#5"]);
    assert_eq!(ids(Some("종로구")).await, ["driver#3", "driver#4", "driver#5"]);
    assert!(ids(Some("강남구")).await.is_empty());
}

pub(super) async fn a_driver_who_is_gone_becomes_inactive_unless_it_has_reported(table: &Table) {
    let profiles = table.profiles();
    let id = table.add_driver("driver#1").await;
    let known = profiles.drivers(std::slice::from_ref(&id)).await.unwrap().remove(0);
    profiles.set_availability(&id, PersonStatus::Active, &jongno(), start().plus_ms(60_000)).await.unwrap();
    let later = start().plus_ms(600_000);
    assert!(!profiles.deactivate(&known, later).await.unwrap(), "it has reported since");

    let known = profiles.drivers(std::slice::from_ref(&id)).await.unwrap().remove(0);
    assert!(profiles.deactivate(&known, later).await.unwrap());
    let gone = profiles.drivers(std::slice::from_ref(&id)).await.unwrap().remove(0);
    assert_eq!(gone.current_status.status, PersonStatus::Inactive);
    assert_eq!(gone.current_status.located_at, known.current_status.located_at, "the last position stays");
    let items = table.partition("driver#1").await;
    let entry = items.iter().find(|item| item["SK"] == "INACTIVE#2025-05-25T15:40:00.000").expect("a history entry");
    assert_eq!(entry["EntityType"], "DRIVER_STATUS_HISTORY");
    assert!(!profiles.deactivate(&known, later).await.unwrap(), "once");

    let user = table.add_user("user#1").await;
    profiles.set_availability(&id, PersonStatus::Active, &jongno(), later).await.unwrap();
    let known = profiles.drivers(std::slice::from_ref(&id)).await.unwrap().remove(0);
    let requested = table.request("dispatch#1", &user, later).await;
    let offered = table.offer(&requested, &id, later.plus_ms(1)).await;
    table.accept(&offered, &id, later.plus_ms(2)).await;
    assert!(!profiles.deactivate(&known, later.plus_ms(3)).await.unwrap(), "it is on a dispatch");
}
