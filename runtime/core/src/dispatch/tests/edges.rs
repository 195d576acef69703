//! Decisions one by one, at the edges of times, counts and states.

use super::*;

const NOW: EpochMs = EpochMs(100_000);

/// The decision under the default policy at a time.
fn decide_at(dispatch: &Dispatch, event: Event, now: EpochMs) -> Result<Step, Refusal> {
    step(dispatch, event, Rules { policy: &DispatchPolicy::default(), now })
}

fn decide(dispatch: &Dispatch, event: Event) -> Result<Step, Refusal> {
    decide_at(dispatch, event, NOW)
}

fn candidate(number: u8, auto_accept: bool) -> CandidateRef {
    CandidateRef { driver_id: driver(number), auto_accept }
}

/// A request whose candidates 1, 2 and 3 were found at [`NOW`].
fn searched() -> Dispatch {
    let mut dispatch = requested();
    dispatch.matching.candidates = vec![candidate(1, false), candidate(2, true), candidate(3, false)];
    dispatch.matching.searched_at = Some(NOW);
    dispatch
}

/// A request with an offer to driver 2, made at [`NOW`]; driver 1 was asked before.
fn offered() -> Dispatch {
    let mut dispatch = searched();
    dispatch.driver = Some(driver(2));
    (dispatch.offer_seq, dispatch.ver) = (2, 5);
    dispatch.matching.candidates = vec![candidate(3, false)];
    dispatch.matching.asked = vec![driver(1), driver(2)];
    dispatch.matching.current_attempt = 2;
    dispatch.matching.offered_at = Some(NOW);
    dispatch.matching.timeout_at = Some(NOW.plus_ms(120_000));
    dispatch
}

/// A dispatch that driver 2 accepted, in a later status.
fn ride(status: DispatchStatus, last: Option<TripEvent>) -> Dispatch {
    let mut dispatch = offered();
    dispatch.status = status;
    dispatch.matching.candidates.clear();
    (dispatch.matching.offered_at, dispatch.matching.timeout_at) = (None, None);
    dispatch.last_trip_event = last;
    dispatch
}

const STATUSES: [DispatchStatus; 5] = [
    DispatchStatus::Requested,
    DispatchStatus::Accepted,
    DispatchStatus::InProgress,
    DispatchStatus::Completed,
    DispatchStatus::Cancelled,
];

/// Nothing is stored, and these actions follow.
fn only(dispatch: &Dispatch, follow_ups: Vec<FollowUp>) -> Step {
    Step { state: dispatch.clone(), records: Vec::new(), changed: false, companions: Vec::new(), follow_ups }
}

fn text(step: &Step) -> (EventType, &str) {
    assert_eq!(step.records.len(), 1);
    assert!(step.changed);
    (step.records[0].record_type, &step.records[0].details)
}

#[test]
fn a_wake_up_of_a_dispatch_that_waits_for_no_driver_does_nothing() {
    for status in STATUSES.into_iter().skip(1) {
        let dispatch = ride(status, None);
        assert_eq!(decide(&dispatch, Event::Wake), Ok(only(&dispatch, Vec::new())));
    }
}

#[test]
fn an_offer_ends_exactly_when_its_time_is_over() {
    let dispatch = offered();
    let early = decide_at(&dispatch, Event::Wake, NOW.plus_ms(119_999));
    assert_eq!(early, Ok(only(&dispatch, Vec::new())));
    let ended = decide_at(&dispatch, Event::Wake, NOW.plus_ms(120_000)).unwrap();
    assert_eq!(text(&ended), (EventType::DriverRejected, "응답 시간 초과 - 다음 드라이버 검색 중"));
    assert_eq!((ended.state.driver, ended.state.ver, ended.state.offer_seq), (None, 6, 2));
    assert_eq!((ended.state.matching.offered_at, ended.state.matching.timeout_at), (None, None));
    let ended_offer = FollowUp::OfferEnded { driver: driver(2), offer_seq: 2, outcome: OfferOutcome::TimedOut };
    assert_eq!(ended.follow_ups, [ended_offer]);
}

#[test]
fn candidates_are_fresh_for_exactly_twenty_seconds() {
    let dispatch = searched();
    let woken = |after_ms| decide_at(&dispatch, Event::Wake, NOW.plus_ms(after_ms));
    assert_eq!(woken(20_000), Ok(only(&dispatch, vec![FollowUp::Hold(driver(1))])));
    assert_eq!(woken(20_001), Ok(only(&dispatch, vec![FollowUp::Search])));
    let mut none = searched();
    none.matching.candidates.clear();
    assert_eq!(decide(&none, Event::Wake), Ok(only(&none, vec![FollowUp::Search])));
    assert_eq!(decide(&requested(), Event::Wake), Ok(only(&requested(), vec![FollowUp::Search])));
}

#[test]
fn after_the_last_attempt_the_dispatch_fails() {
    let mut dispatch = searched();
    dispatch.matching.current_attempt = 4;
    assert_eq!(decide(&dispatch, Event::Wake), Ok(only(&dispatch, vec![FollowUp::Hold(driver(1))])));
    dispatch.matching.current_attempt = 5;
    let failed = decide(&dispatch, Event::Wake).unwrap();
    assert_eq!(text(&failed), (EventType::CancelledBySystem, "배차 실패: 이용 가능한 드라이버가 없습니다"));
    assert_eq!(failed.state.status, DispatchStatus::Cancelled);
    assert!(failed.state.matching.candidates.is_empty());
    assert_eq!(failed.companions, [Companion::FreeUser(user()), Companion::UserHistory(user())]);
    assert_eq!(failed.follow_ups, [FollowUp::Notify(Notice::DispatchFailed(user()))]);
    // Late results of a search or a reservation change nothing.
    let found = Event::CandidatesFound(vec![candidate(3, false)]);
    assert_eq!(decide(&dispatch, found), Ok(only(&dispatch, Vec::new())));
    assert_eq!(decide(&dispatch, Event::DriverBusy(driver(1))), Ok(only(&dispatch, Vec::new())));
    let release = vec![FollowUp::ReleaseHold(driver(1))];
    assert_eq!(decide(&dispatch, Event::DriverHeld(driver(1))), Ok(only(&dispatch, release)));
}

#[test]
fn drivers_who_were_asked_are_not_candidates_again() {
    let mut dispatch = requested();
    dispatch.matching.asked = vec![driver(1), driver(3)];
    let found = vec![candidate(1, false), candidate(2, true), candidate(3, false), candidate(4, false)];
    let decided = decide(&dispatch, Event::CandidatesFound(found)).unwrap();
    assert_eq!(decided.state.matching.candidates, [candidate(2, true), candidate(4, false)]);
    assert_eq!(decided.state.matching.searched_at, Some(NOW));
    assert_eq!(decided.follow_ups, [FollowUp::Hold(driver(2))]);
    assert!(!decided.changed);
    let no_new = decide(&dispatch, Event::CandidatesFound(vec![candidate(3, false)])).unwrap();
    assert_eq!(no_new, only(&dispatch, vec![FollowUp::WakeAfter { delay_ms: 2_000 }]));
}

#[test]
fn a_search_without_drivers_is_repeated_until_its_budget_ends() {
    let dispatch = requested();
    let at = |ms| decide_at(&dispatch, Event::CandidatesFound(Vec::new()), EpochMs(ms)).unwrap();
    let again = only(&dispatch, vec![FollowUp::WakeAfter { delay_ms: 2_000 }]);
    assert_eq!((at(0), at(SEARCH_UNTIL_MS - 1)), (again.clone(), again));
    for over in [SEARCH_UNTIL_MS, SEARCH_UNTIL_MS + 1] {
        assert_eq!(at(over).state.status, DispatchStatus::Cancelled);
    }
}

#[test]
fn the_candidate_after_a_busy_driver_is_next() {
    let mut rest = searched();
    rest.matching.candidates = vec![candidate(1, false), candidate(3, false)];
    let decided = decide(&searched(), Event::DriverBusy(driver(2)));
    assert_eq!(decided, Ok(only(&rest, vec![FollowUp::Hold(driver(1))])));
    let mut last = searched();
    last.matching.candidates = vec![candidate(1, false)];
    let decided = decide(&last, Event::DriverBusy(driver(1))).unwrap();
    assert!(decided.state.matching.candidates.is_empty() && !decided.changed);
    assert_eq!(decided.follow_ups, [FollowUp::WakeAfter { delay_ms: 2_000 }]);
}

#[test]
fn results_that_come_during_an_offer_change_nothing() {
    let dispatch = offered();
    let found = Event::CandidatesFound(vec![candidate(3, false)]);
    assert_eq!(decide(&dispatch, found), Ok(only(&dispatch, Vec::new())));
    assert_eq!(decide(&dispatch, Event::DriverBusy(driver(3))), Ok(only(&dispatch, Vec::new())));
    for held in [driver(3), driver(9)] {
        let release = vec![FollowUp::ReleaseHold(held.clone())];
        assert_eq!(decide(&dispatch, Event::DriverHeld(held)), Ok(only(&dispatch, release)));
    }
    let accepted = ride(DispatchStatus::Accepted, None);
    let found = Event::CandidatesFound(vec![candidate(3, false)]);
    assert_eq!(decide(&accepted, found), Ok(only(&accepted, Vec::new())));
}

#[test]
fn a_reserved_candidate_gets_the_offer() {
    let decided = decide(&searched(), Event::DriverHeld(driver(1))).unwrap();
    assert_eq!(text(&decided), (EventType::DriverAssigned, "드라이버 배정 완료"));
    let timeout_at = NOW.plus_ms(120_000);
    let mut expected = searched();
    expected.driver = Some(driver(1));
    (expected.offer_seq, expected.ver) = (1, 2);
    expected.matching.candidates.remove(0);
    expected.matching.asked = vec![driver(1)];
    expected.matching.current_attempt = 1;
    expected.matching.offered_at = Some(NOW);
    expected.matching.timeout_at = Some(timeout_at);
    assert_eq!(decided.state, expected);
    let offer = FollowUp::Offer { driver: driver(1), offer_seq: 1, offered_at: NOW, timeout_at };
    assert_eq!(decided.follow_ups, [offer]);
    let unlisted = decide(&searched(), Event::DriverHeld(driver(9)));
    assert_eq!(unlisted, Ok(only(&searched(), vec![FollowUp::ReleaseHold(driver(9))])));
}

#[test]
fn only_drivers_who_accept_automatically_do_and_only_if_the_city_allows_it() {
    let accepts = |number, allowed| {
        let policy = DispatchPolicy { auto_accept: allowed, ..DispatchPolicy::default() };
        let decided =
            step(&searched(), Event::DriverHeld(driver(number)), Rules { policy: &policy, now: NOW }).unwrap();
        decided.follow_ups.contains(&FollowUp::AcceptAtOnce { driver: driver(number), offer_seq: 1 })
    };
    assert_eq!([accepts(2, true), accepts(2, false), accepts(1, true), accepts(1, false)], [true, false, false, false]);
}

/// Accepts, rejects, or finds that the driver is not free.
fn answers(by: u8, offer_seq: u32) -> [Event; 3] {
    let driver = driver(by);
    [
        Event::Accept { driver: driver.clone(), offer_seq },
        Event::Reject { driver: driver.clone(), offer_seq },
        Event::AcceptImpossible { driver, offer_seq },
    ]
}

#[test]
fn an_answer_must_come_from_the_driver_of_the_open_offer() {
    for (by, offer_seq, refusal) in [
        (2, 1, Refusal::OfferOver),
        (2, 3, Refusal::OfferOver),
        (1, 2, Refusal::OfferOver),
        (1, 1, Refusal::OfferOver),
        (3, 2, Refusal::NotYours),
    ] {
        for answer in answers(by, offer_seq) {
            assert_eq!(decide(&offered(), answer.clone()), Err(refusal.clone()), "{answer:?}");
        }
    }
    for status in STATUSES.into_iter().skip(1) {
        for answer in answers(2, 2).into_iter().skip(1) {
            assert_eq!(decide(&ride(status, None), answer.clone()), Err(Refusal::OfferOver), "{status:?} {answer:?}");
        }
    }
    // Between two offers nothing is open, although the number is that of the latest.
    let mut between = offered();
    between.driver = None;
    for answer in answers(2, 2) {
        assert_eq!(decide(&between, answer), Err(Refusal::OfferOver));
    }
}

#[test]
fn accepting_occupies_the_driver_and_a_repetition_changes_nothing() {
    let accept = |by, offer_seq| Event::Accept { driver: driver(by), offer_seq };
    let accepted = decide(&offered(), accept(2, 2)).unwrap();
    assert_eq!(text(&accepted), (EventType::DriverAccepted, "드라이버 수락"));
    assert_eq!((accepted.state.status, &accepted.state.driver), (DispatchStatus::Accepted, &Some(driver(2))));
    assert_eq!((accepted.state.matching.offered_at, accepted.state.matching.timeout_at), (None, None));
    assert!(accepted.state.matching.candidates.is_empty());
    assert_eq!(accepted.companions, [Companion::OccupyDriver(driver(2))]);
    let ended = FollowUp::OfferEnded { driver: driver(2), offer_seq: 2, outcome: OfferOutcome::Accepted };
    assert_eq!(accepted.follow_ups, [ended]);
    for status in [DispatchStatus::Accepted, DispatchStatus::InProgress, DispatchStatus::Completed] {
        let dispatch = ride(status, None);
        assert_eq!(decide(&dispatch, accept(2, 2)), Ok(only(&dispatch, Vec::new())));
        for (by, offer_seq) in [(2, 1), (1, 2)] {
            assert_eq!(decide(&dispatch, accept(by, offer_seq)), Err(Refusal::OfferOver), "{status:?}");
        }
    }
    assert_eq!(decide(&ride(DispatchStatus::Cancelled, None), accept(2, 2)), Err(Refusal::OfferOver));
}

#[test]
fn a_rejection_counts_and_a_driver_who_is_not_free_does_not() {
    let rejected = decide(&offered(), Event::Reject { driver: driver(2), offer_seq: 2 }).unwrap();
    assert_eq!(text(&rejected), (EventType::DriverRejected, "드라이버 거절 - 다음 드라이버 검색 중"));
    let ended = FollowUp::OfferEnded { driver: driver(2), offer_seq: 2, outcome: OfferOutcome::Rejected };
    assert_eq!(rejected.follow_ups, [ended]);
    let void = decide(&offered(), Event::AcceptImpossible { driver: driver(2), offer_seq: 2 }).unwrap();
    assert_eq!(text(&void), (EventType::DriverRejected, "드라이버 배정 불가 - 다음 드라이버 검색 중"));
    assert_eq!(void.follow_ups, [FollowUp::ReleaseHold(driver(2))]);
    for ended in [rejected, void] {
        let mut expected = offered();
        expected.driver = None;
        expected.ver = 6;
        (expected.matching.offered_at, expected.matching.timeout_at) = (None, None);
        assert_eq!(ended.state, expected);
        assert!(ended.companions.is_empty());
    }
}

#[test]
fn a_timer_ends_only_its_own_open_offer() {
    let timed_out = |dispatch: &Dispatch, offer_seq| decide(dispatch, Event::OfferTimedOut { offer_seq });
    let ended = timed_out(&offered(), 2).unwrap();
    assert_eq!(text(&ended).1, "응답 시간 초과 - 다음 드라이버 검색 중");
    assert_eq!(ended.state.driver, None);
    for offer_seq in [0, 1, 3] {
        assert_eq!(timed_out(&offered(), offer_seq), Err(Refusal::OfferOver));
    }
    for status in STATUSES.into_iter().skip(1) {
        assert_eq!(timed_out(&ride(status, None), 2), Err(Refusal::OfferOver), "{status:?}");
    }
    assert_eq!(timed_out(&searched(), 0), Err(Refusal::OfferOver), "there is no offer");
}

#[test]
fn a_user_cancels_until_the_ride_begins() {
    let cancel = |dispatch: &Dispatch| decide(dispatch, Event::CancelByUser { user: user() });
    let other = Event::CancelByUser { user: UserId::from_suffix("2").unwrap() };
    assert_eq!(decide(&offered(), other), Err(Refusal::NotYours));
    for status in [DispatchStatus::InProgress, DispatchStatus::Completed] {
        assert_eq!(cancel(&ride(status, None)), Err(Refusal::WrongStatus(status)));
    }
    let cancelled = ride(DispatchStatus::Cancelled, None);
    assert_eq!(cancel(&cancelled), Ok(only(&cancelled, Vec::new())));

    let freed = [Companion::FreeUser(user()), Companion::UserHistory(user())];
    let alone = cancel(&searched()).unwrap();
    assert_eq!(text(&alone), (EventType::CancelledByUser, "사용자 취소"));
    assert_eq!((&alone.companions[..], &alone.follow_ups[..]), (&freed[..], &[][..]));

    let notice = FollowUp::Notify(Notice::UserCancelled(driver(2)));
    let offer = cancel(&offered()).unwrap();
    assert_eq!((offer.state.status, &offer.state.driver), (DispatchStatus::Cancelled, &None));
    assert_eq!(offer.state.matching.timeout_at, None);
    assert_eq!(offer.companions, freed);
    assert_eq!(offer.follow_ups, [FollowUp::ReleaseHold(driver(2)), notice.clone()]);

    let accepted = cancel(&ride(DispatchStatus::Accepted, None)).unwrap();
    assert_eq!(accepted.state.driver, Some(driver(2)), "the history names the driver");
    assert_eq!(accepted.companions, [&freed[..], &[Companion::FreeDriver(driver(2))]].concat());
    assert_eq!(accepted.follow_ups, [notice]);
}

#[test]
fn a_driver_cancels_only_an_accepted_dispatch() {
    let cancel = |dispatch: &Dispatch, by| decide(dispatch, Event::CancelByDriver { driver: driver(by) });
    let cancelled = cancel(&ride(DispatchStatus::Accepted, None), 2).unwrap();
    assert_eq!(text(&cancelled), (EventType::CancelledByDriver, "드라이버 취소"));
    assert_eq!(cancelled.state.status, DispatchStatus::Cancelled);
    let companions = [Companion::FreeUser(user()), Companion::UserHistory(user()), Companion::FreeDriver(driver(2))];
    assert_eq!(cancelled.companions, companions);
    assert_eq!(cancelled.follow_ups, [FollowUp::Notify(Notice::DriverCancelled(user()))]);
    assert_eq!(cancel(&ride(DispatchStatus::Accepted, None), 1), Err(Refusal::NotYours));
    assert_eq!(cancel(&searched(), 1), Err(Refusal::NotYours));
    for status in [DispatchStatus::Requested, DispatchStatus::InProgress, DispatchStatus::Completed] {
        assert_eq!(cancel(&ride(status, None), 2), Err(Refusal::WrongStatus(status)));
    }
    let again = ride(DispatchStatus::Cancelled, None);
    assert_eq!(cancel(&again, 2), Ok(only(&again, Vec::new())));
}

/// The status in which each event is reported, and what its record says. The end of a trip comes with totals.
const TRIP_EVENTS: [(TripEvent, DispatchStatus, EventType, &str); 5] = [
    (TripEvent::PickupStarted, DispatchStatus::Accepted, EventType::PickupStarted, "픽업 이동 시작"),
    (TripEvent::DriverArrived, DispatchStatus::Accepted, EventType::DriverArrived, "드라이버 도착"),
    (TripEvent::PassengerPickedUp, DispatchStatus::Accepted, EventType::PassengerPickedUp, "승객 탑승"),
    (TripEvent::TripStarted, DispatchStatus::InProgress, EventType::TripStarted, "운행 시작"),
    (TripEvent::PaymentCompleted, DispatchStatus::Completed, EventType::PaymentCompleted, "결제 완료"),
];

fn report(dispatch: &Dispatch, event: TripEvent) -> Result<Step, Refusal> {
    decide(dispatch, Event::Trip { driver: driver(2), event })
}

#[test]
fn each_trip_event_has_its_status_and_its_record() {
    for (event, needed, record_type, details) in TRIP_EVENTS {
        for status in STATUSES {
            let reported = report(&ride(status, None), event);
            if status != needed {
                assert_eq!(reported, Err(Refusal::WrongStatus(status)), "{event:?}");
                continue;
            }
            let reported = reported.unwrap();
            assert_eq!(text(&reported), (record_type, details));
            assert_eq!(reported.state.last_trip_event, Some(event));
            let picked_up = event == TripEvent::PassengerPickedUp;
            let expected = if picked_up { DispatchStatus::InProgress } else { status };
            assert_eq!((reported.state.status, reported.state.trip_started_at), (expected, picked_up.then_some(NOW)));
            assert_eq!(reported.follow_ups, [FollowUp::Notify(Notice::TripProgress(user(), event))]);
            assert!(reported.companions.is_empty());
        }
        let by_another = Event::Trip { driver: driver(1), event };
        assert_eq!(decide(&ride(needed, None), by_another), Err(Refusal::NotYours));
    }
    let accepted = ride(DispatchStatus::InProgress, Some(TripEvent::TripStarted));
    assert_eq!(
        report(&accepted, TripEvent::TripCompleted),
        Err(Refusal::OutOfOrder(Some(TripEvent::TripStarted))),
        "the end of a trip has totals"
    );
}

#[test]
fn trip_events_may_be_skipped_and_repeated_but_never_go_back() {
    for (last, ..) in TRIP_EVENTS {
        for status in [DispatchStatus::Accepted, DispatchStatus::InProgress, DispatchStatus::Completed] {
            let repeated = ride(status, Some(last));
            assert_eq!(report(&repeated, last), Ok(only(&repeated, Vec::new())), "{status:?} {last:?}");
        }
        let over = ride(DispatchStatus::Cancelled, Some(last));
        assert_eq!(report(&over, last), Err(Refusal::WrongStatus(DispatchStatus::Cancelled)));
    }
    let arrived = ride(DispatchStatus::Accepted, Some(TripEvent::DriverArrived));
    assert_eq!(report(&arrived, TripEvent::PickupStarted), Err(Refusal::OutOfOrder(Some(TripEvent::DriverArrived))));
    assert!(report(&arrived, TripEvent::PassengerPickedUp).unwrap().changed);
    let skipped = ride(DispatchStatus::Accepted, Some(TripEvent::PickupStarted));
    assert!(report(&skipped, TripEvent::PassengerPickedUp).unwrap().changed);
}

#[test]
fn the_end_of_a_trip_frees_both_and_is_recorded_for_both() {
    let totals = TripTotals { fare: 12_000, distance_m: 2500, duration_s: 900 };
    let complete =
        |dispatch: &Dispatch, by| decide(dispatch, Event::TripCompleted { driver: driver(by), bill: totals.into() });
    let completed = complete(&ride(DispatchStatus::InProgress, Some(TripEvent::TripStarted)), 2).unwrap();
    assert_eq!(text(&completed), (EventType::TripCompleted, "운행 완료"));
    assert_eq!(completed.state.status, DispatchStatus::Completed);
    assert_eq!(completed.state.last_trip_event, Some(TripEvent::TripCompleted));
    let companions = [
        Companion::FreeUser(user()),
        Companion::FreeDriver(driver(2)),
        Companion::UserHistory(user()),
        Companion::CompletedRide(driver(2), totals.into()),
    ];
    assert_eq!(completed.companions, companions);
    assert_eq!(completed.follow_ups, [FollowUp::Notify(Notice::TripProgress(user(), TripEvent::TripCompleted))]);
    for status in STATUSES {
        assert_eq!(complete(&ride(status, None), 1), Err(Refusal::NotYours));
        match status {
            DispatchStatus::InProgress => {}
            DispatchStatus::Completed => {
                assert_eq!(complete(&ride(status, None), 2), Ok(only(&ride(status, None), Vec::new())));
            }
            other => assert_eq!(complete(&ride(status, None), 2), Err(Refusal::WrongStatus(other))),
        }
    }
}

#[test]
fn statuses_are_spelled_as_in_the_specification_and_two_are_final() {
    let spelled = STATUSES.map(DispatchStatus::as_str);
    assert_eq!(spelled, ["REQUESTED", "ACCEPTED", "IN_PROGRESS", "COMPLETED", "CANCELLED"]);
    assert_eq!(STATUSES.map(DispatchStatus::is_terminal), [false, false, false, true, true]);
    let live = |status, has_driver: bool| {
        Dispatch { driver: has_driver.then(|| driver(2)), status, ..requested() }.has_live_offer()
    };
    assert_eq!(STATUSES.map(|status| live(status, true)), [true, false, false, false, false]);
    assert!(!live(DispatchStatus::Requested, false));
}

#[test]
fn trip_events_are_found_among_the_events_by_their_name() {
    for (event, _, record_type, _) in TRIP_EVENTS {
        assert_eq!(record_type.trip_event(), Some(event));
    }
    assert_eq!(EventType::TripCompleted.trip_event(), Some(TripEvent::TripCompleted));
    for other in [
        EventType::Created,
        EventType::DriverAssigned,
        EventType::DriverAccepted,
        EventType::DriverRejected,
        EventType::CancelledByUser,
        EventType::CancelledByDriver,
        EventType::CancelledBySystem,
    ] {
        assert_eq!(other.trip_event(), None);
        assert_eq!(EventName::Known(other).known(), Some(other));
    }
    assert_eq!(EventName::Other("TIP_GIVEN".to_owned()).known(), None);
}

#[test]
fn a_cancellation_counts_if_the_user_made_it_before_the_search_was_in_vain() {
    let counts = |dispatch: &Dispatch, event: Event, at: i64| {
        let step = decide_at(dispatch, event, EpochMs(at)).unwrap();
        crate::cancellation::counts(dispatch, &step)
    };
    let by_user = || Event::CancelByUser { user: user() };
    assert!(counts(&requested(), by_user(), 29_999));
    assert!(!counts(&requested(), by_user(), 30_000), "no driver was asked for half a minute");
    assert!(counts(&offered(), by_user(), 30_000), "a driver was asked");
    let accepted = ride(DispatchStatus::Accepted, None);
    assert!(!counts(&accepted, Event::CancelByDriver { driver: driver(2) }, 1000));
    assert!(counts(&accepted, by_user(), 200_000));
    assert!(!counts(&requested(), Event::Wake, 1000));
}

#[test]
fn a_stored_time_beyond_the_longest_wait_is_over_at_once() {
    let latest = NOW.plus_ms(960_000);
    for (until, waits) in [(latest, true), (latest.plus_ms(1), false)] {
        let mut offered = offered();
        offered.matching.timeout_at = Some(until);
        assert_eq!(
            decide(&offered, Event::Wake).unwrap() == only(&offered, Vec::new()),
            waits,
            "an offer until {until:?}"
        );
        let mut searched = requested();
        searched.matching.search_until = until;
        assert_eq!(searched.matching.is_search_repeated(NOW), waits, "a search until {until:?}");
    }
}
