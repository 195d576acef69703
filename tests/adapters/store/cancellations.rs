//! Users who request and cancel.

use dispatch_core::cancellation::{Limit, Pause};
use dispatch_core::dispatch::Event;
use dispatch_core::ids::UserId;
use dispatch_core::time::EpochMs;
use dispatch_runtime::ports::CreateOutcome;
use serde_json::{Value, json};

use super::table::{Table, decide, new_dispatch, start};

/// Requests a ride and cancels it a second later.
async fn cancelled(table: &Table, id: &str, user: &UserId, now: EpochMs) {
    let requested = table.request(id, user, now).await;
    let cancel = decide(&requested, Event::CancelByUser { user: user.clone() }, now.plus_ms(1000));
    table.apply(&requested, &cancel, None).await;
}

/// The pause of a user who requests another ride; `None` if the request is stored.
async fn paused(table: &Table, id: &str, user: &UserId, now: EpochMs) -> Option<Pause> {
    match table.dispatches().create(new_dispatch(id, user, now)).await.unwrap() {
        CreateOutcome::Paused(pause) => Some(pause),
        CreateOutcome::Stored(_) => None,
        _ => panic!("{id} was refused for another reason"),
    }
}

pub(super) async fn a_user_who_cancels_often_has_to_wait(table: &Table) {
    let user = table.add_user("user#1").await;
    for minute in 0..3 {
        cancelled(table, &format!("dispatch#{minute}"), &user, start().plus_ms(minute * 60_000)).await;
    }
    let profile = table.item("user#1", "PROFILE").await;
    let times = ["2025-05-25T15:30:01.000+09:00", "2025-05-25T15:31:01.000+09:00", "2025-05-25T15:32:01.000+09:00"];
    assert_eq!(profile["recentCancellations"], json!(times));
    let until = start().plus_ms(121_000 + 300_000);
    assert_eq!(profile["requestsPausedUntil"], until.0);
    assert_eq!(profile["currentStatus"]["status"], "ACTIVE");

    let pause = Some(Pause { until, limit: Limit::CoolDown });
    assert_eq!(paused(table, "dispatch#4", &user, start().plus_ms(122_000)).await, pause);
    assert_eq!(paused(table, "dispatch#4", &user, EpochMs(until.0 - 1)).await, pause);
    assert!(table.partition("dispatch#4").await.is_empty(), "nothing is stored");
    let again = table.dispatches().create(new_dispatch("dispatch#2", &user, start().plus_ms(122_000))).await.unwrap();
    assert!(matches!(again, CreateOutcome::Existed(_)), "a repeated request still finds its dispatch");
    let other = table.add_user("user#2").await;
    assert_eq!(paused(table, "dispatch#5", &other, start().plus_ms(122_000)).await, None);
    assert_eq!(paused(table, "dispatch#6", &user, until).await, None);
}

pub(super) async fn cancellations_of_others_do_not_count(table: &Table) {
    let (user, driver) = (table.add_user("user#1").await, table.add_driver("driver#1").await);
    for minute in 0..4 {
        let now = start().plus_ms(minute * 60_000);
        let requested = table.request(&format!("dispatch#{minute}"), &user, now).await;
        let offered = table.offer(&requested, &driver, now.plus_ms(1)).await;
        let accepted = table.accept(&offered, &driver, now.plus_ms(2)).await;
        let cancel = decide(&accepted, Event::CancelByDriver { driver: driver.clone() }, now.plus_ms(3));
        table.apply(&accepted, &cancel, None).await;
    }
    // After half a minute without any offer, and without a driver at all.
    for minute in 10..14 {
        let now = start().plus_ms(minute * 60_000);
        let requested = table.request(&format!("dispatch#{minute}"), &user, now).await;
        let event = match minute % 2 {
            0 => Event::CancelByUser { user: user.clone() },
            _ => Event::CandidatesFound(Vec::new()),
        };
        let ended = decide(&requested, event, now.plus_ms(if minute % 2 == 0 { 30_000 } else { 60_000 }));
        table.apply(&requested, &ended, None).await;
    }
    let profile = table.item("user#1", "PROFILE").await;
    assert_eq!((&profile["recentCancellations"], &profile["requestsPausedUntil"]), (&Value::Null, &Value::Null));
    assert_eq!(paused(table, "dispatch#20", &user, start().plus_ms(900_000)).await, None);
}

/// The attributes are additions of this service: whatever another one stores there costs at most the count.
pub(super) async fn an_unreadable_count_of_cancellations_stops_no_request(table: &Table) {
    let now = start().plus_ms(60_000);
    let values = [json!("soon"), json!(now.0 + 1), json!(1e15), json!(-3.5), json!({ "at": 1 }), json!(null)];
    for (number, value) in values.into_iter().enumerate() {
        let user = table.add_user(&format!("user#{number}")).await;
        table.set(user.as_str(), "requestsPausedUntil", value.clone()).await;
        let (list, text) = (json!([1, "2025-05-25T15:29:59+09:00", "never", { "at": 1 }]), json!("often"));
        table.set(user.as_str(), "recentCancellations", [list, text][number % 2].clone()).await;
        let id = format!("dispatch#{number}");
        assert_eq!(paused(table, &id, &user, now).await, None, "{value}");
        let requested = table.dispatches().load(&new_dispatch(&id, &user, now).id).await.unwrap().unwrap();
        let cancel = decide(&requested, Event::CancelByUser { user: user.clone() }, now.plus_ms(1));
        table.apply(&requested, &cancel, None).await;
        let profile = table.item(user.as_str(), "PROFILE").await;
        assert_eq!(profile["requestsPausedUntil"], 0, "{value}");
        let times = profile["recentCancellations"].as_array().unwrap();
        assert_eq!(times.last().unwrap(), "2025-05-25T15:31:00.001+09:00", "{value}");
    }
}
