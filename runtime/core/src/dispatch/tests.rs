//! Properties of every dispatch under random events, in any order, late and repeated, with one dispatch and three
//! drivers, checked against a model that knows only what the drivers' own items would contain.

mod edges;

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// Placeholder for the driver and the offer the dispatch has at that time, so that most answers are valid.
const CURRENT: u8 = 0;

fn driver(number: u8) -> DriverId {
    DriverId::from_suffix(&number.to_string()).unwrap()
}

/// Long enough for whole rides, and short enough to end in some cases.
const SEARCH_UNTIL_MS: i64 = 300_000;

fn user() -> UserId {
    UserId::from_suffix("1").unwrap()
}

fn requested() -> Dispatch {
    Dispatch {
        id: DispatchId::from_suffix("1").unwrap(),
        user: user(),
        driver: None,
        status: DispatchStatus::Requested,
        offer_seq: 0,
        ver: 1,
        created_at: EpochMs(0),
        pickup: Coordinate::new(37.5662, 126.9784).unwrap(),
        estimated_fare: 12_000,
        matching: Matching { max_attempts: 5, search_until: EpochMs(SEARCH_UNTIL_MS), ..Matching::default() },
        last_trip_event: None,
        trip_started_at: None,
        review: None,
    }
}

/// A random event.
fn events() -> impl Strategy<Value = Event> {
    let who = || prop_oneof![3 => Just(CURRENT), 2 => 1..=3_u8].prop_map(driver);
    let offer = || prop_oneof![4 => Just(u32::from(CURRENT)), 1 => 1..=6_u32];
    prop_oneof![
        6 => Just(Event::Wake),
        8 => prop::collection::vec(((1..=3_u8).prop_map(driver), any::<bool>()), 0..=3).prop_map(|found| {
            let candidate = |(driver_id, auto_accept)| CandidateRef { driver_id, auto_accept };
            Event::CandidatesFound(found.into_iter().map(candidate).collect())
        }),
        10 => who().prop_map(Event::DriverHeld),
        2 => who().prop_map(Event::DriverBusy),
        10 => (who(), offer()).prop_map(|(driver, offer_seq)| Event::Accept { driver, offer_seq }),
        1 => (who(), offer()).prop_map(|(driver, offer_seq)| Event::AcceptImpossible { driver, offer_seq }),
        3 => (who(), offer()).prop_map(|(driver, offer_seq)| Event::Reject { driver, offer_seq }),
        2 => offer().prop_map(|offer_seq| Event::OfferTimedOut { offer_seq }),
        1 => Just(Event::CancelByUser { user: user() }),
        1 => Just(Event::CancelByUser { user: UserId::from_suffix("2").unwrap() }),
        1 => who().prop_map(|driver| Event::CancelByDriver { driver }),
        12 => (who(), 0..6_usize).prop_map(|(driver, event)| Event::Trip { driver, event: TRIP[event] }),
        6 => who().prop_map(|driver| Event::TripCompleted {
            driver,
            bill: TripTotals { fare: 12_000, distance_m: 2500, duration_s: 900 }.into(),
        }),
    ]
}

/// The event with [`CURRENT`] replaced.
fn aimed(mut event: Event, state: &Dispatch) -> Event {
    let first_candidate = state.matching.candidates.first().map(|candidate| &candidate.driver_id);
    let right = state.driver.as_ref().or(first_candidate).cloned();
    match &mut event {
        Event::DriverHeld(driver)
        | Event::DriverBusy(driver)
        | Event::Accept { driver, .. }
        | Event::AcceptImpossible { driver, .. }
        | Event::Reject { driver, .. }
        | Event::CancelByDriver { driver }
        | Event::Trip { driver, .. }
        | Event::TripCompleted { driver, .. }
            if *driver == self::driver(CURRENT) =>
        {
            *driver = right.unwrap_or_else(|| self::driver(1));
        }
        _ => {}
    }
    match &mut event {
        Event::Accept { offer_seq, .. }
        | Event::AcceptImpossible { offer_seq, .. }
        | Event::Reject { offer_seq, .. }
        | Event::OfferTimedOut { offer_seq }
            if *offer_seq == u32::from(CURRENT) =>
        {
            *offer_seq = state.offer_seq;
        }
        _ => {}
    }
    event
}

const TRIP: [TripEvent; 6] = [
    TripEvent::PickupStarted,
    TripEvent::DriverArrived,
    TripEvent::PassengerPickedUp,
    TripEvent::TripStarted,
    TripEvent::TripCompleted,
    TripEvent::PaymentCompleted,
];

/// Mostly short, sometimes longer than an offer lasts.
fn pauses_ms() -> impl Strategy<Value = u64> {
    prop_oneof![12 => 0..3_000_u64, 1 => 0..130_000_u64]
}

/// The edges of the diagram in `dispatch`.
fn is_an_edge(from: DispatchStatus, to: DispatchStatus) -> bool {
    from == to
        || matches!(
            (from, to),
            (DispatchStatus::Requested, DispatchStatus::Accepted | DispatchStatus::Cancelled)
                | (DispatchStatus::Accepted, DispatchStatus::InProgress | DispatchStatus::Cancelled)
                | (DispatchStatus::InProgress, DispatchStatus::Completed)
        )
}

/// What the drivers' and the user's items would contain.
#[derive(Default)]
struct Others {
    on_this_dispatch: HashMap<DriverId, bool>,
    accepted_by: Vec<DriverId>,
    user_freed: u32,
    histories: u32,
    completed_rides: u32,
}

impl Others {
    fn take_over(&mut self, step: &Step) {
        for companion in &step.companions {
            match companion {
                Companion::OccupyDriver(driver) => {
                    assert_eq!(self.on_this_dispatch.insert(driver.clone(), true), None, "no driver accepts twice");
                    self.accepted_by.push(driver.clone());
                }
                Companion::FreeDriver(driver) => {
                    assert_eq!(
                        self.on_this_dispatch.insert(driver.clone(), false),
                        Some(true),
                        "only an occupied driver is freed"
                    );
                }
                Companion::FreeUser(freed) => {
                    assert_eq!(*freed, user());
                    self.user_freed += 1;
                }
                Companion::UserHistory(_) => self.histories += 1,
                Companion::CompletedRide(driver, _) => {
                    assert!(self.accepted_by.contains(driver));
                    self.completed_rides += 1;
                }
                Companion::OpenReview(_) | Companion::CloseReview => {}
            }
        }
        assert!(self.accepted_by.len() <= 1, "the dispatch was given to two drivers: {:?}", self.accepted_by);
    }
}

/// Checks the invariants of a single decision.
fn check(before: &Dispatch, step: &Step, now: EpochMs) {
    let after = &step.state;
    assert_eq!(after.ver, before.ver + u32::from(step.changed), "the version counts the changes");
    assert_eq!(step.changed, !step.records.is_empty(), "each change has a record, and nothing else has");
    assert!(step.changed || step.companions.is_empty(), "other items change only with the dispatch");
    assert!(is_an_edge(before.status, after.status), "{:?} -> {:?}", before.status, after.status);
    let offers = step.follow_ups.iter().filter(|follow_up| matches!(follow_up, FollowUp::Offer { .. })).count();
    assert_eq!(after.offer_seq - before.offer_seq, u32::try_from(offers).unwrap(), "each offer has its own number");
    assert!(offers <= 1 && after.matching.current_attempt <= after.matching.max_attempts);
    assert_eq!(after.offer_seq, u32::from(after.matching.current_attempt));
    assert_eq!(after.has_live_offer(), after.matching.timeout_at.is_some(), "exactly an open offer has a time-out");
    if before.status.is_terminal() {
        let paid = after.last_trip_event == Some(TripEvent::PaymentCompleted);
        assert!(!step.changed || (before.status == DispatchStatus::Completed && paid), "a terminal dispatch changed");
        assert!(step.companions.is_empty());
    }
    if after.status.is_terminal() && !before.status.is_terminal() {
        let frees_user = step.companions.iter().any(|companion| matches!(companion, Companion::FreeUser(_)));
        assert!(frees_user, "the waiting user becomes free");
    }
    assert!(step.records.iter().all(|record| record.at == now));
    let kept = (&after.id, &after.user, after.created_at, after.estimated_fare);
    assert_eq!(kept, (&before.id, &before.user, before.created_at, before.estimated_fare));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn every_sequence_of_events_keeps_the_invariants(
        story in prop::collection::vec((events(), pauses_ms()), 1..80),
    ) {
        let policy = DispatchPolicy::default();
        let (mut state, mut others, mut now) = (requested(), Others::default(), EpochMs(0));
        for (event, pause_ms) in story {
            now = now.plus_ms(pause_ms);
            let event = aimed(event, &state);
            let Ok(decided) = step(&state, event.clone(), Rules { policy: &policy, now }) else { continue };
            check(&state, &decided, now);
            others.take_over(&decided);
            // A repeated event has no further effect: no person is occupied, freed or paid twice.
            if let Ok(again) = step(&decided.state, event, Rules { policy: &policy, now }) {
                check(&decided.state, &again, now);
                if decided.changed {
                    let offer_or_end = again.changed && !again.companions.is_empty();
                    prop_assert!(!offer_or_end || again.state.status == DispatchStatus::Cancelled);
                }
            }
            state = decided.state;
        }
        let ended = u32::from(state.status.is_terminal());
        prop_assert_eq!(others.user_freed, ended);
        prop_assert_eq!(others.histories, ended);
        prop_assert_eq!(others.completed_rides, u32::from(state.status == DispatchStatus::Completed));
        let taken = others.on_this_dispatch.values().filter(|on| **on).count();
        prop_assert_eq!(taken, usize::from(matches!(state.status, DispatchStatus::Accepted | DispatchStatus::InProgress)));
    }

    /// Without answers and without drivers, wake-ups alone end every request in bounded time.
    #[test]
    fn a_dispatch_that_is_woken_up_ends(drivers in 0..=3_u8, pause_ms in 1_000..200_000_u64) {
        let policy = DispatchPolicy::default();
        let (mut state, mut now) = (requested(), EpochMs(0));
        let mut event = Event::Wake;
        // Three offers and the longest search, one step a second, take about 1,400 steps.
        for _ in 0..2_000 {
            if state.status.is_terminal() {
                break;
            }
            let decided = step(&state, event, Rules { policy: &policy, now }).unwrap();
            let free = (1..=drivers).map(driver).filter(|driver| !decided.state.matching.asked.contains(driver));
            event = decided.follow_ups.iter().find_map(|follow_up| match follow_up {
                FollowUp::Search => Some(Event::CandidatesFound(
                    free.clone().map(|driver_id| CandidateRef { driver_id, auto_accept: false }).collect(),
                )),
                FollowUp::Hold(driver) => Some(Event::DriverHeld(driver.clone())),
                _ => None,
            }).unwrap_or(Event::Wake);
            if event == Event::Wake {
                now = now.plus_ms(pause_ms);
            }
            state = decided.state;
        }
        prop_assert_eq!(state.status, DispatchStatus::Cancelled);
        prop_assert_eq!(state.offer_seq, u32::from(drivers));
    }
}
