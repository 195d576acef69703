//! Repeated, early, late and concurrent triggers: timers, wake-ups, stream records, local wake-ups.

use super::*;

/// Waits until a driver has the open offer.
async fn until_offered(world: &World, number: u32) {
    let offered = async {
        while world.offered().await != Some(number) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), offered).await.expect("an offer");
}

#[tokio::test]
async fn a_local_wake_up_does_not_wait_for_the_stream_which_then_has_nothing_to_do() {
    let world = World::with_drivers(2).await;
    let (wakeups, end) = (world.engine.local_wakeups().unwrap(), tokio_util::sync::CancellationToken::new());
    assert!(world.engine.local_wakeups().is_none());
    let running = tokio::spawn({
        let (engine, end) = (world.engine.clone(), end.clone());
        async move { wakeups.run(&engine, &end).await }
    });
    world.request().await;
    let requested = world.stored().await;
    until_offered(&world, 1).await;
    world.answer(reject).await.unwrap();
    let rejected = world.stored().await;
    until_offered(&world, 2).await;
    end.cancel();
    running.await.unwrap();
    let ver = world.stored().await.state.ver;
    for image in [requested, rejected] {
        world.engine.advance(image, Trigger::Event).await.unwrap();
    }
    assert_eq!((world.stored().await.state.ver, world.offered().await), (ver, Some(2)));
}

#[tokio::test]
async fn a_late_stream_record_starts_no_search_while_an_offer_is_being_answered() {
    let world = World::with_drivers(2).await;
    world.request().await;
    let requested = world.stored().await;
    world.stream().await;
    world.table.set_down(true);
    assert!(world.answer(accept).await.is_err());
    world.table.set_down(false);
    let calls = world.table.calls();
    world.engine.advance(requested, Trigger::Event).await.unwrap();
    assert_eq!(world.table.calls(), calls, "nothing is decided again");
    assert!(world.answer(accept).await.unwrap().changed);
}

#[tokio::test]
async fn a_timer_of_an_offer_known_to_have_ended_reads_nothing() {
    let world = World::with_drivers(1).await;
    let id = world.request().await;
    world.stream().await;
    world.answer(accept).await.unwrap();
    world.clock.advance_ms(200_000);
    world.table.set_down(true);
    assert_eq!(world.engine.time_out(&id, 1).await.unwrap(), None);
}

#[tokio::test]
async fn an_early_timer_waits_and_a_due_one_ends_the_offer_once() {
    let world = World::with_drivers(2).await;
    let id = world.request().await;
    world.stream().await;
    assert_eq!(world.engine.time_out(&id, 1).await.unwrap(), Some(120_000));
    world.clock.advance_ms(120_000);
    assert_eq!(world.engine.time_out(&id, 1).await.unwrap(), None);
    assert_eq!(world.engine.time_out(&id, 1).await.unwrap(), None);
    assert_eq!(world.events().await.iter().filter(|kind| **kind == EventType::DriverRejected).count(), 1);
    assert_eq!(world.responses.sent.take()[0].response, OfferOutcome::TimedOut);
    // No driver has sent a ping for two minutes, so none is eligible until they do.
    for number in 1..=2 {
        world.driver(number, false).await;
    }
    world.stream().await;
    assert_eq!(world.offered().await, Some(2));
}

#[tokio::test]
async fn a_request_without_drivers_is_searched_again_and_fails_after_its_budget() {
    let world = World::with_drivers(0).await;
    let id = world.request().await;
    world.stream().await;
    world.stream().await;
    let wakes = world.timers.started.take();
    assert_eq!(wakes.len(), 1, "a repeated record must not start a second chain of searches");
    assert_eq!((wakes[0].0.driver_id.as_deref(), wakes[0].0.offer_seq, wakes[0].1), (None, None, 2_000));
    world.clock.advance_ms(2_000);
    world.engine.advance_by_id(&id, Trigger::Event).await.unwrap();
    assert_eq!(world.timers.started.take().len(), 1);
    world.clock.advance_ms(58_000);
    world.engine.advance_by_id(&id, Trigger::Event).await.unwrap();
    assert_eq!(world.stored().await.state.status, DispatchStatus::Cancelled);
    assert_eq!(world.events().await.last(), Some(&EventType::CancelledBySystem));
    assert_eq!(world.notified(), [(NotificationKind::DispatchFailed, "user#00001".to_owned())]);
    let user = world.store.user(&user_id()).await.unwrap().unwrap();
    assert_eq!(user.current_status.status, PersonStatus::Active);
}

#[tokio::test]
async fn old_and_repeated_stream_records_change_nothing() {
    let world = World::with_drivers(3).await;
    world.request().await;
    let first = world.stored().await;
    world.stream().await;
    let offered = world.stored().await;
    for _ in 0..3 {
        world.engine.advance(first.clone(), Trigger::Event).await.unwrap();
    }
    assert_eq!(world.stored().await.state, offered.state);
    assert!(world.fleet.holder(&driver_id(1)).is_some(), "the open offer keeps its hold");
    assert_eq!(world.fleet.holder(&driver_id(2)), None, "a hold for an offer that was not made is released");
    world.answer(accept).await.unwrap();
    let again = world.answer(accept).await.unwrap();
    assert!(!again.changed);
    world.engine.advance(first, Trigger::Event).await.unwrap();
    assert_eq!(world.stored().await.state.ver, again.stored.state.ver);
    assert_eq!(world.responses.sent.all().len(), 1);
}

#[tokio::test]
async fn a_wake_up_of_a_dispatch_known_to_have_advanced_reads_nothing() {
    let world = World::with_drivers(0).await;
    let id = world.request().await;
    world.stream().await;
    let wakes = world.timers.started.take();
    assert_eq!((wakes.len(), wakes[0].0.ver), (1, Some(world.stored().await.state.ver)));
    let fire = async |body: String| {
        let before = world.table.calls();
        world.deliver_timer(body).await;
        world.table.calls() - before
    };
    let wake = serde_json::to_string(&wakes[0].0).unwrap();
    assert!(fire(wake.clone()).await > 0, "nothing has happened yet");
    let other = || world.timers.started.take().into_iter().filter(|(timer, _)| timer.ver.is_some());
    other().for_each(drop);

    world.driver(1, false).await;
    world.stream().await;
    assert_eq!(world.offered().await, Some(1));
    assert_eq!(fire(wake.clone()).await, 0);
    // No driver is left. The new version has its own chain, although the first wake-up has not fired in this process.
    world.answer(reject).await.unwrap();
    world.stream().await;
    assert_eq!(other().map(|(timer, _)| timer.ver).collect::<Vec<_>>(), [Some(world.stored().await.state.ver)]);
    assert_eq!(fire(wake).await, 0);
    // A redriven dead letter has no version.
    assert!(
        fire(serde_json::json!({ "dispatchId": id.as_str(), "requestTime": "", "timeoutAt": "" }).to_string()).await
            > 0
    );
}
