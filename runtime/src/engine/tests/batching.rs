//! Searches in batch windows. Time is paused: it advances when every task waits.

use std::time::Duration;

use dispatch_core::policy::{MatchingMode, MatchingPolicy};
use tokio::time::Instant;

use super::*;
use crate::ports::Reservations as _;

const WINDOW: Duration = Duration::from_secs(2);

impl World {
    fn match_in(&self, mode: MatchingMode) {
        let mut changed = settings();
        changed.policy.matching = MatchingPolicy { mode, window_ms: 2_000 };
        self.settings.send_replace(Arc::new(changed));
    }

    /// A city with batched matching and a warm cache.
    async fn batched() -> Self {
        let world = Self::with_drivers(0).await;
        world.match_in(MatchingMode::Batched);
        world
    }

    async fn stream_of(&self, id: &DispatchId) {
        let stored = self.store.load(id).await.unwrap().unwrap();
        self.engine.advance(stored, Trigger::Event).await.unwrap();
    }

    /// The number of the driver who has the open offer of a dispatch.
    async fn offered_of(&self, id: &DispatchId) -> Option<u32> {
        let state = self.store.load(id).await.unwrap().unwrap().state;
        state.driver.as_ref().filter(|_| state.has_live_offer())?.suffix().parse().ok()
    }

    /// Two riders a kilometre apart. Driver 1 is between them and nearest to both; driver 2 is behind the first.
    async fn two_riders(&self) -> [DispatchId; 2] {
        self.driver_at(1, false, 37.5702).await;
        self.driver_at(2, false, 37.5602).await;
        [self.request_at(1, 37.5662).await, self.request_at(2, 37.5752).await]
    }

    fn counted(&self, line: &str) -> bool {
        self.engine.metrics.encode().unwrap().lines().any(|found| found == line)
    }
}

#[tokio::test(start_paused = true)]
async fn batching_gives_the_driver_between_two_riders_to_the_one_without_another() {
    for (mode, expected, waits) in [
        (MatchingMode::Sequential, [Some(1), Some(2)], Duration::ZERO),
        (MatchingMode::Batched, [Some(2), Some(1)], WINDOW),
    ] {
        let world = World::batched().await;
        world.match_in(mode);
        let [first, second] = world.two_riders().await;
        let started = Instant::now();
        futures::join!(world.stream_of(&first), world.stream_of(&second));
        assert_eq!([world.offered_of(&first).await, world.offered_of(&second).await], expected, "{mode:?}");
        assert_eq!(started.elapsed().as_secs(), waits.as_secs(), "{mode:?}");
        let batches = u32::from(mode == MatchingMode::Batched);
        assert!(world.counted(&format!("dispatch_matching_batches_total {batches}")), "{mode:?}");
        assert!(world.counted(&format!("dispatch_matching_batch_size_count {batches}")), "{mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_driver_reserved_meanwhile_is_skipped_as_in_any_search() {
    let world = World::batched().await;
    let [first, second] = world.two_riders().await;
    world.driver_at(3, false, 37.5862).await;
    let elsewhere = async {
        tokio::time::sleep(WINDOW / 2).await;
        let token = crate::ports::HoldToken::for_offer(&DispatchId::parse("dispatch#other").unwrap(), 1);
        assert!(world.fleet.hold(&driver_id(1), &token, 60_000).await.unwrap());
    };
    futures::join!(world.stream_of(&first), world.stream_of(&second), elsewhere);
    assert_eq!([world.offered_of(&first).await, world.offered_of(&second).await], [Some(2), Some(3)]);
}

#[tokio::test(start_paused = true)]
async fn a_search_whose_candidates_are_all_reserved_is_repeated_at_once() {
    let world = World::batched().await;
    let mut changed = settings();
    changed.policy.max_candidates = 1;
    changed.policy.matching = MatchingPolicy { mode: MatchingMode::Batched, window_ms: 2_000 };
    world.settings.send_replace(Arc::new(changed));
    world.driver(1, false).await;
    let id = world.request().await;
    // Another dispatch reserves the only candidate of each search, four times.
    let elsewhere = async {
        for number in 1..=4 {
            tokio::time::sleep(if number == 1 { WINDOW / 2 } else { WINDOW }).await;
            let token = crate::ports::HoldToken::for_offer(&DispatchId::parse("dispatch#other").unwrap(), number);
            assert!(world.fleet.hold(&driver_id(number), &token, 60_000).await.unwrap());
            world.driver(number + 1, false).await;
            let wakes = world.timers.started.take().len();
            assert_eq!(wakes, 0, "before candidate {number} was searched");
        }
    };
    let started = Instant::now();
    futures::join!(world.stream_of(&id), elsewhere);
    assert_eq!((world.offered_of(&id).await, started.elapsed()), (None, WINDOW * 4));
    assert_eq!(world.timers.started.take().len(), 1, "after the last consecutive search it waits");
    world.stream_of(&id).await;
    assert_eq!(world.offered_of(&id).await, Some(5));
}

#[tokio::test(start_paused = true)]
async fn a_single_request_in_a_window_keeps_its_order() {
    let world = World::batched().await;
    world.driver(1, false).await;
    world.driver(2, false).await;
    let id = world.request().await;
    world.stream_of(&id).await;
    assert_eq!(world.offered_of(&id).await, Some(1));
    assert!(world.counted("dispatch_matching_fallbacks_total{reason=\"single\"} 1"));
}

#[tokio::test(start_paused = true)]
async fn windows_are_skipped_for_a_while_when_drivers_are_plentiful() {
    let world = World::batched().await;
    for number in 1..=20 {
        world.driver(number, false).await;
    }
    let mut waited = Vec::new();
    for number in 1..=4 {
        let id = world.request_at(number, 37.5662).await;
        let started = Instant::now();
        world.stream_of(&id).await;
        waited.push(started.elapsed().as_secs());
        assert_eq!(world.offered_of(&id).await, Some(number));
        if number == 3 {
            tokio::time::sleep(WINDOW * 5).await;
        }
    }
    assert_eq!(waited, [2, 0, 0, 2]);
    assert!(world.counted("dispatch_matching_fallbacks_total{reason=\"plentiful\"} 2"));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_behind_does_not_wait_for_windows() {
    let world = World::batched().await;
    let [first, second] = world.two_riders().await;
    world.clock.advance_ms(6_001);
    let started = Instant::now();
    futures::join!(world.stream_of(&first), world.stream_of(&second));
    assert_eq!([world.offered_of(&first).await, world.offered_of(&second).await], [Some(1), Some(2)]);
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert!(world.counted("dispatch_matching_fallbacks_total{reason=\"overload\"} 2"));
}

#[tokio::test(start_paused = true)]
async fn a_changed_mode_applies_from_the_next_search() {
    let world = World::batched().await;
    for number in 1..=3 {
        world.driver(number, false).await;
    }
    let mut waited = Vec::new();
    for (number, mode) in [(1, MatchingMode::Sequential), (2, MatchingMode::Batched), (3, MatchingMode::Sequential)] {
        world.match_in(mode);
        let id = world.request_at(number, 37.5662).await;
        let started = Instant::now();
        world.stream_of(&id).await;
        assert_eq!(world.offered_of(&id).await, Some(number));
        waited.push(started.elapsed().as_secs());
    }
    assert_eq!(waited, [0, 2, 0]);

    // An open window ends as usual.
    let world = World::batched().await;
    let [first, second] = world.two_riders().await;
    let back = async {
        tokio::time::sleep(WINDOW / 2).await;
        world.match_in(MatchingMode::Sequential);
    };
    futures::join!(world.stream_of(&first), world.stream_of(&second), back);
    assert_eq!([world.offered_of(&first).await, world.offered_of(&second).await], [Some(2), Some(1)]);
}

#[tokio::test(start_paused = true)]
async fn an_unserved_request_joins_a_later_window_and_precedes_newer_ones() {
    let world = World::batched().await;
    world.driver_at(1, false, 37.5662).await;
    let (near, far) = (world.request_at(1, 37.5672).await, world.request_at(2, 37.5692).await);
    futures::join!(world.stream_of(&near), world.stream_of(&far));
    assert_eq!([world.offered_of(&near).await, world.offered_of(&far).await], [Some(1), None]);
    assert!(world.counted("dispatch_matching_left_over_total 1"));
    let wakes: Vec<_> =
        world.timers.started.take().into_iter().filter(|(timer, _)| timer.offer_seq.is_none()).collect();
    assert_eq!((wakes.len(), wakes[0].0.dispatch_id.as_str(), wakes[0].1), (1, "dispatch#00002", 2_000));

    world.clock.advance_ms(20_000);
    world.driver_at(2, false, 37.5662).await;
    let newer = world.request_at(3, 37.5672).await;
    let again = async {
        let body = serde_json::to_string(&wakes[0].0).unwrap();
        let started = Instant::now();
        world.deliver_timer(body).await;
        assert_eq!(started.elapsed(), Duration::ZERO, "the queue does not wait for the window");
        world.engine.background_done().await;
    };
    futures::join!(world.stream_of(&newer), again);
    assert_eq!([world.offered_of(&far).await, world.offered_of(&newer).await], [Some(2), None]);
}

#[tokio::test(start_paused = true)]
async fn a_dispatch_processed_by_several_triggers_is_one_request_of_a_window() {
    let world = World::batched().await;
    let [first, second] = world.two_riders().await;
    let sweep_too = async {
        world.clock.advance_ms(3_000);
        sweep(&world.engine).await;
        world.engine.background_done().await;
    };
    futures::join!(world.stream_of(&first), world.stream_of(&second), sweep_too);
    assert_eq!([world.offered_of(&first).await, world.offered_of(&second).await], [Some(2), Some(1)]);
    for id in [first, second] {
        assert_eq!(world.store.load(&id).await.unwrap().unwrap().state.offer_seq, 1);
    }
    assert!(world.counted("dispatch_matching_batch_size_sum 2.0"));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_shuts_down_does_not_wait_for_windows() {
    let world = World::batched().await;
    let [first, second] = world.two_riders().await;
    let started = Instant::now();
    let end = async {
        tokio::task::yield_now().await;
        world.engine.stop_batching();
    };
    futures::join!(world.stream_of(&first), world.stream_of(&second), end);
    assert_eq!([world.offered_of(&first).await, world.offered_of(&second).await], [Some(2), Some(1)]);
    let late = world.request_at(3, 37.5662).await;
    world.driver_at(3, false, 37.5662).await;
    world.stream_of(&late).await;
    assert_eq!(world.offered_of(&late).await, Some(3));
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_search_cancelled_while_waiting_does_not_delay_the_others() {
    let world = World::batched().await;
    let [first, second] = world.two_riders().await;
    let dropped = tokio::time::timeout(WINDOW / 2, world.stream_of(&first));
    let (dropped, ()) = futures::join!(dropped, world.stream_of(&second));
    assert!(dropped.is_err());
    assert_eq!([world.offered_of(&first).await, world.offered_of(&second).await], [None, Some(1)]);
    // Its record was not done and is delivered again.
    world.stream_of(&first).await;
    assert_eq!(world.offered_of(&first).await, Some(2));
}
