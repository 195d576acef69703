//! The contract of every adapter. Nothing here requires a paused clock.

use std::time::Duration;

use dispatch_core::dispatch::OfferOutcome;
use dispatch_core::geo::{Coordinate, Metres};
use dispatch_core::person::PersonStatus;
use dispatch_core::route::RoutePoint;
use dispatch_core::time::EpochMs;
use dispatch_runtime::adapters::fleet::ROUTE_CHUNK_POINTS;
use dispatch_runtime::ports::{FleetEntry, FleetPorts, HoldToken, Ping, PingOutcome};

use super::{ago, dispatch, driver, found, free, north, now, ping};
use crate::support::until;

const RINGS_M: [u32; 3] = [700, 1500, 20_000];

pub(super) async fn a_cold_cache_has_no_answer_until_it_is_filled(fleet: &FleetPorts) {
    assert_eq!(fleet.search.nearby(north(0.0), &RINGS_M, 5, now()).await.unwrap(), None);
    fleet.positions.put(&[free(1, 100.0)]).await.unwrap();
    assert_eq!(fleet.search.nearby(north(0.0), &RINGS_M, 5, now()).await.unwrap(), None, "one driver is not the city");
    fleet.positions.fill(&[free(2, 200.0)]).await.unwrap();
    assert_eq!(found(fleet, &RINGS_M, 5).await, [1, 2]);
}

pub(super) async fn drivers_come_ring_by_ring_and_nearest_first(fleet: &FleetPorts) {
    let entries = [free(3, 1200.0), free(1, 100.0), free(4, 9000.0), free(2, 600.0)];
    fleet.positions.fill(&entries).await.unwrap();
    assert_eq!(found(fleet, &RINGS_M, 1).await, [1]);
    assert_eq!(found(fleet, &RINGS_M, 3).await, [1, 2, 3]);
    assert_eq!(found(fleet, &RINGS_M, 9).await, [1, 2, 3, 4]);
    assert_eq!(found(fleet, &[700], 9).await, [1, 2]);
    let all = fleet.search.nearby(north(0.0), &RINGS_M, 1, now()).await.unwrap().unwrap();
    let first = &all[0];
    assert_eq!((first.availability, first.minimum_fare, first.auto_accept), (PersonStatus::Active, 8000, true));
    assert_eq!(first.max_distance, Metres(20_000.0));
    assert!(first.position.distance_to(north(100.0)).0 < 0.01, "positions are kept exactly");
    assert!(!first.resting);
}

pub(super) async fn only_free_drivers_are_found(fleet: &FleetPorts) {
    let away = FleetEntry { status: PersonStatus::Inactive, ..free(3, 300.0) };
    fleet.positions.fill(&[free(1, 100.0), free(2, 200.0), away]).await.unwrap();
    fleet.reservations.set_status(&driver(1), PersonStatus::Dispatched, Some(&dispatch(1))).await.unwrap();
    assert_eq!(found(fleet, &RINGS_M, 9).await, [2]);
    fleet.reservations.set_status(&driver(1), PersonStatus::Active, None).await.unwrap();
    assert_eq!(found(fleet, &RINGS_M, 9).await, [1, 2]);
    fleet.positions.put(&[FleetEntry { status: PersonStatus::Inactive, ..free(1, 100.0) }]).await.unwrap();
    assert_eq!(found(fleet, &RINGS_M, 9).await, [2]);
    fleet.reservations.set_status(&driver(9), PersonStatus::Active, None).await.unwrap();
    assert_eq!(found(fleet, &RINGS_M, 9).await, [2], "a status alone adds no driver");
}

pub(super) async fn pings_are_recorded_once_and_in_order(fleet: &FleetPorts) {
    let at = now();
    let riding = FleetEntry { status: PersonStatus::Dispatched, dispatch: Some(dispatch(7)), ..free(2, 200.0) };
    let before = |entry: FleetEntry| FleetEntry { seen_at: EpochMs(at.0 - 1000), ..entry };
    fleet.positions.fill(&[before(free(1, 150.0)), before(riding)]).await.unwrap();
    let pings = [ping(1, 100.0, at), ping(2, 300.0, at), ping(1, 900.0, EpochMs(at.0 - 1)), ping(3, 100.0, at)];
    let answers = fleet.positions.record(&pings).await.unwrap();
    let expected =
        [PingOutcome::Seen, PingOutcome::OnDispatch(dispatch(7)), PingOutcome::Outdated, PingOutcome::Unknown];
    assert_eq!(answers, expected);
    let near = fleet.search.nearby(north(0.0), &[700], 9, now()).await.unwrap().unwrap();
    assert_eq!(near.len(), 1);
    assert_eq!((near[0].id.clone(), near[0].seen_at), (driver(1), at));
    assert_eq!(fleet.positions.record(&[]).await.unwrap(), []);
}

/// A ping with the phone's time.
fn stamped(metres: f64, at: EpochMs, phone_at: i64) -> Ping {
    Ping { phone_at: Some(EpochMs(phone_at)), ..ping(1, metres, at) }
}

pub(super) async fn signs_of_life_are_positions_and_becoming_active(fleet: &FleetPorts) {
    let signs = async |number| fleet.positions.last_signs(&[driver(number)]).await.unwrap()[0];
    assert_eq!(signs(1).await, None);
    let before = now();
    // The position of the table is old, and the cache sees the driver for the first time.
    let old = FleetEntry { seen_at: ago(3_600_000), ..free(1, 0.0) };
    fleet.positions.fill(std::slice::from_ref(&old)).await.unwrap();
    // The clock of the server and of this machine differ by less than this.
    let is_now = |at: Option<EpochMs>| at.is_some_and(|at| at.0.abs_diff(before.0) < 60_000);
    assert!(is_now(signs(1).await));
    assert_eq!(fleet.positions.last_pings(&[driver(1)]).await.unwrap(), [Some(old.seen_at)]);
    // Becoming active counts again, and being so does not.
    let gone = FleetEntry { status: PersonStatus::Inactive, ..old.clone() };
    fleet.positions.put(&[gone]).await.unwrap();
    fleet.reservations.set_status(&driver(1), PersonStatus::Active, None).await.unwrap();
    let active = signs(1).await;
    assert!(is_now(active));
    fleet.reservations.set_status(&driver(1), PersonStatus::Active, None).await.unwrap();
    fleet.positions.put(&[old]).await.unwrap();
    assert!(is_now(signs(1).await));
}

pub(super) async fn unanswered_offers_in_a_row_are_counted(fleet: &FleetPorts) {
    use OfferOutcome::{Accepted, Rejected, TimedOut};
    fleet.positions.fill(&[free(1, 0.0)]).await.unwrap();
    let mut counts = Vec::new();
    for outcome in [TimedOut, TimedOut, Rejected, TimedOut, Accepted, TimedOut, TimedOut] {
        counts.push(fleet.reservations.offer_ended(&driver(1), outcome, 0, now()).await.unwrap());
    }
    assert_eq!(counts, [1, 2, 0, 1, 0, 1, 2]);
}

pub(super) async fn a_phones_time_orders_its_pings(fleet: &FleetPorts) {
    let at = now();
    let later = |ms: u64| at.plus_ms(ms);
    fleet.positions.fill(&[FleetEntry { seen_at: ago(1000), ..free(1, 0.0) }]).await.unwrap();
    // The phone's times order the pings, whatever their order of arrival and whatever date the phone has.
    let pings = [stamped(10.0, at, 5000), stamped(50.0, later(1), 9000), stamped(20.0, later(2), 6000)];
    let expected = [PingOutcome::Seen, PingOutcome::Seen, PingOutcome::Outdated];
    assert_eq!(fleet.positions.record(&pings).await.unwrap(), expected);
    // The clock of another replica is behind: the phone's order counts, and `seen_at` does not go back.
    assert_eq!(
        fleet.positions.record(&[stamped(60.0, EpochMs(at.0 - 500), 12_000)]).await.unwrap(),
        [PingOutcome::Seen]
    );
    let near = fleet.search.nearby(north(60.0), &[5], 1, now()).await.unwrap().unwrap();
    assert_eq!(near.iter().map(|driver| driver.seen_at).collect::<Vec<_>>(), [later(1)]);
    assert_eq!(
        fleet.positions.record(&[ping(1, 70.0, EpochMs(at.0 - 500))]).await.unwrap(),
        [PingOutcome::Outdated],
        "without, by arrival"
    );
}

pub(super) async fn a_teleport_is_hidden_with_the_second_ping_and_believed_with_the_fifth(fleet: &FleetPorts) {
    let at = now();
    let before = FleetEntry { seen_at: EpochMs(at.0 - 4000), ..free(1, 0.0) };
    fleet.positions.fill(&[before, free(2, 50_000.0)]).await.unwrap();
    let jump = |number: u64| ping(1, 40_000.0 + number as f64, at.plus_ms(number * 100));
    for (number, answer, here) in [
        (1, PingOutcome::Implausible, vec![1]),
        (2, PingOutcome::Implausible, vec![]),
        (3, PingOutcome::Implausible, vec![]),
        (4, PingOutcome::Implausible, vec![]),
        (5, PingOutcome::Seen, vec![]),
    ] {
        assert_eq!(fleet.positions.record(&[jump(number)]).await.unwrap(), [answer], "{number}");
        assert_eq!(found(fleet, &[1000], 9).await, here, "{number}");
    }
    assert_eq!(found(fleet, &[45_000], 9).await, [1], "there, and free again");
    // A single implausible position costs nothing and leaves no doubt behind it.
    let pings = [ping(1, 0.0, at.plus_ms(600)), jump(7), ping(1, 0.0, at.plus_ms(800)), jump(9)];
    let expected = [PingOutcome::Implausible, PingOutcome::Seen, PingOutcome::Implausible, PingOutcome::Seen];
    assert_eq!(fleet.positions.record(&pings).await.unwrap(), expected);
    assert_eq!(found(fleet, &[45_000], 9).await, [1]);
}

pub(super) async fn a_hidden_driver_stays_hidden_whatever_the_table_holds(fleet: &FleetPorts) {
    fleet.positions.fill(&[free(1, 0.0)]).await.unwrap();
    let at = now();
    let jumps = [ping(1, 40_000.0, at), ping(1, -40_000.0, at), ping(1, 40_000.0, at)];
    assert_eq!(fleet.positions.record(&jumps).await.unwrap(), [(); 3].map(|()| PingOutcome::Implausible));
    fleet.reservations.set_status(&driver(1), PersonStatus::Active, None).await.unwrap();
    fleet.positions.put(&[free(1, 0.0)]).await.unwrap();
    assert_eq!(found(fleet, &[60_000], 9).await, [0_u32; 0]);
    let token = HoldToken::for_offer(&dispatch(1), 1);
    assert!(!fleet.reservations.hold(&driver(1), &token, 1000).await.unwrap());
    // All in one call: the last one counts.
    let pings: Vec<Ping> = (1..=5).map(|number| ping(1, 5.0, at.plus_ms(100 + number))).collect();
    assert_eq!(fleet.positions.record(&pings).await.unwrap()[4], PingOutcome::Seen);
    assert_eq!(found(fleet, &[60_000], 9).await, [1]);
    assert!(fleet.reservations.hold(&driver(1), &token, 1000).await.unwrap());
}

pub(super) async fn a_driver_without_pings_is_dropped(fleet: &FleetPorts) {
    let gone = FleetEntry { seen_at: ago(31_000), ..free(1, 100.0) };
    fleet.positions.fill(&[gone, free(2, 200.0)]).await.unwrap();
    // Pings of other drivers drop a driver who has stopped sending.
    fleet.positions.record(&[ping(2, 200.0, now())]).await.unwrap();
    assert_eq!(found(fleet, &RINGS_M, 9).await, [2]);
    assert_eq!(fleet.positions.record(&[ping(1, 150.0, now())]).await.unwrap(), [PingOutcome::Seen]);
    assert_eq!(found(fleet, &RINGS_M, 9).await, [1, 2]);
}

pub(super) async fn a_hold_belongs_to_one_offer_until_its_release(fleet: &FleetPorts) {
    fleet.positions.fill(&[free(1, 100.0)]).await.unwrap();
    let (ours, theirs) = (HoldToken::for_offer(&dispatch(1), 1), HoldToken::for_offer(&dispatch(2), 1));
    assert!(fleet.reservations.hold(&driver(1), &ours, 60_000).await.unwrap());
    assert!(fleet.reservations.hold(&driver(1), &ours, 60_000).await.unwrap(), "the same offer may hold again");
    assert!(!fleet.reservations.hold(&driver(1), &theirs, 60_000).await.unwrap());
    assert!(fleet.reservations.hold(&driver(1), &ours, 1).await.unwrap());
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert!(
        !fleet.reservations.hold(&driver(1), &theirs, 60_000).await.unwrap(),
        "holding again never shortens a hold"
    );
    assert!(fleet.search.nearby(north(0.0), &RINGS_M, 1, now()).await.unwrap().unwrap()[0].resting);
    fleet.reservations.release(&driver(1), &theirs).await.unwrap();
    assert!(!fleet.reservations.hold(&driver(1), &theirs, 60_000).await.unwrap(), "only the owner releases a hold");
    fleet.reservations.release(&driver(1), &ours).await.unwrap();
    assert!(fleet.reservations.hold(&driver(1), &theirs, 60_000).await.unwrap());
    fleet.reservations.release(&driver(1), &theirs).await.unwrap();
    fleet.reservations.set_status(&driver(1), PersonStatus::Dispatched, Some(&dispatch(3))).await.unwrap();
    assert!(!fleet.reservations.hold(&driver(1), &ours, 60_000).await.unwrap(), "a driver on a dispatch is not free");
    assert!(fleet.reservations.hold(&driver(9), &ours, 60_000).await.unwrap(), "an unknown driver can be held");
}

pub(super) async fn a_hold_expires(fleet: &FleetPorts) {
    fleet.positions.fill(&[free(1, 100.0)]).await.unwrap();
    assert!(fleet.reservations.hold(&driver(1), &HoldToken::for_offer(&dispatch(1), 1), 50).await.unwrap());
    let theirs = HoldToken::for_offer(&dispatch(2), 1);
    until("the end of a hold", async || {
        fleet.reservations.hold(&driver(1), &theirs, 60_000).await.unwrap().then_some(())
    })
    .await;
}

pub(super) async fn a_resting_driver_is_shown_and_not_held(fleet: &FleetPorts) {
    fleet.positions.fill(&[free(1, 100.0), free(2, 200.0)]).await.unwrap();
    fleet.reservations.offer_ended(&driver(1), OfferOutcome::Rejected, 60_000, now()).await.unwrap();
    fleet.reservations.offer_ended(&driver(2), OfferOutcome::Accepted, 0, now()).await.unwrap();
    let near = fleet.search.nearby(north(0.0), &RINGS_M, 9, now()).await.unwrap().unwrap();
    assert_eq!(near.iter().map(|driver| driver.resting).collect::<Vec<_>>(), [true, false]);
    assert!(!fleet.reservations.hold(&driver(1), &HoldToken::for_offer(&dispatch(1), 1), 1000).await.unwrap());
}

pub(super) async fn answers_are_counted_for_the_window(fleet: &FleetPorts) {
    const DAY_MS: i64 = 86_400_000;
    fleet.positions.fill(&[free(1, 100.0)]).await.unwrap();
    for (outcome, at) in [
        (OfferOutcome::Accepted, ago(0)),
        (OfferOutcome::TimedOut, ago(DAY_MS)),
        (OfferOutcome::Accepted, ago(8 * DAY_MS)),
    ] {
        fleet.reservations.offer_ended(&driver(1), outcome, 0, at).await.unwrap();
    }
    let near = fleet.search.nearby(north(0.0), &RINGS_M, 1, now()).await.unwrap().unwrap();
    assert_eq!((near[0].acceptance.offered, near[0].acceptance.accepted), (2, 1));
}

pub(super) async fn the_table_does_not_overwrite_fresher_pings(fleet: &FleetPorts) {
    fleet.positions.fill(&[free(1, 100.0)]).await.unwrap();
    let old = FleetEntry { seen_at: ago(60_000), status: PersonStatus::Inactive, ..free(1, 5000.0) };
    fleet.positions.put(&[old]).await.unwrap();
    assert_eq!(found(fleet, &[700], 9).await, [1]);
    fleet.positions.put(&[FleetEntry { status: PersonStatus::Inactive, ..free(1, 100.0) }]).await.unwrap();
    assert_eq!(found(fleet, &RINGS_M, 9).await, [0_u32; 0]);
}

fn point(number: usize) -> RoutePoint {
    RoutePoint { position: north(number as f64), at: EpochMs(1_748_154_600_000).plus_ms(number as u64 * 4000) }
}

pub(super) async fn a_route_is_returned_in_chunks(fleet: &FleetPorts) {
    let id = dispatch(1);
    let push = async |points: &[usize]| {
        let of_id = |number: &usize| (id.clone(), point(*number));
        fleet.routes.push(&points.iter().map(of_id).collect::<Vec<_>>()).await.unwrap()
    };
    let most: Vec<usize> = (1..ROUTE_CHUNK_POINTS).collect();
    assert_eq!(push(&most).await, []);
    let other = (dispatch(3), point(1));
    let whole = fleet.routes.push(&[other.clone(), (id.clone(), point(ROUTE_CHUNK_POINTS)), other]).await.unwrap();
    let [(of, tail)] = whole.as_slice() else { panic!("one whole chunk") };
    assert_eq!((of, tail.next_chunk, tail.points.len()), (&id, 1, ROUTE_CHUNK_POINTS));
    assert_eq!(tail.points[0], point(1));
    assert_eq!(push(&[99]).await, [], "one caller stores a chunk");
    fleet.routes.trim(&id, 1, tail.points.len()).await.unwrap();
    fleet.routes.trim(&id, 1, tail.points.len()).await.unwrap();
    let rest = fleet.routes.tail(&id).await.unwrap();
    assert_eq!((rest.next_chunk, rest.points), (2, vec![point(99)]));
    assert_eq!(fleet.routes.tail(&dispatch(2)).await.unwrap().points, []);
}

pub(super) async fn a_route_with_a_lost_counter_continues_above(fleet: &FleetPorts) {
    // The cache was wiped during the ride: the driver is loaded from the table, on its dispatch.
    let riding = FleetEntry { status: PersonStatus::Dispatched, dispatch: Some(dispatch(1)), ..free(1, 100.0) };
    fleet.positions.put(&[riding]).await.unwrap();
    assert!(fleet.routes.tail(&dispatch(1)).await.unwrap().next_chunk > 1_000_000);
}

pub(super) async fn a_place_beyond_the_projection_affects_no_other_driver(fleet: &FleetPorts) {
    let pole = Coordinate::new(89.0, 126.0).unwrap();
    fleet.positions.fill(&[FleetEntry { position: pole, ..free(1, 0.0) }, free(2, 200.0)]).await.unwrap();
    let at = now();
    let pings = [Ping { driver: driver(1), position: pole, at, phone_at: None }, ping(2, 100.0, at)];
    assert_eq!(fleet.positions.record(&pings).await.unwrap(), [PingOutcome::Seen, PingOutcome::Seen]);
    assert_eq!(found(fleet, &[700], 9).await, [2]);
}
