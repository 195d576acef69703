use clap::Parser;

use super::*;

use TripEvent as T;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn habits(words: &str) -> Habits {
    let line = format!("simulate --api http://127.0.0.1:1 --signing-key key.json {words}");
    Habits::from_args(&Cli::parse_from(line.split_whitespace()).args, 0)
}

fn always(answer: &str) -> Habits {
    let shares = match answer {
        "accept" => "--accept-share 1 --reject-share 0 --driver-cancel-share 0",
        "reject" => "--accept-share 0 --reject-share 1 --driver-cancel-share 0",
        "cancel" => "--accept-share 1 --reject-share 0 --driver-cancel-share 1",
        _ => "--accept-share 0 --reject-share 0 --driver-cancel-share 0",
    };
    habits(shares)
}

fn offer(dispatch: &str, offer_seq: u32) -> Offer {
    Offer { dispatch: dispatch.to_owned(), offer_seq }
}

fn facts(dispatch: &str, last: Option<T>) -> RideFacts {
    let place = Coordinate::new(37.5, 127.0).unwrap();
    RideFacts { dispatch: dispatch.to_owned(), last, pickup: place, destination: place }
}

/// A driver who has accepted and is on the ride of `d1`.
fn riding(habits: &mut Habits) -> Driver {
    let mut driver = Driver::new(0);
    assert_eq!(driver.next_action(Input::Offered(offer("d1", 1)), 10, habits), None);
    let at = driver.due();
    assert_eq!(driver.next_action(Input::Time, at - 1, habits), None, "too early");
    let expected = Action::Answer(offer("d1", 1), Answer::Accept);
    assert_eq!(driver.next_action(Input::Time, at, habits), Some(expected));
    assert_eq!(driver.next_action(Input::Taken(Some(facts("d1", None))), at, habits), None);
    driver
}

#[test]
fn a_ride_goes_from_the_offer_to_the_payment() {
    let mut habits = always("accept");
    let mut driver = riding(&mut habits);
    for event in [
        T::PickupStarted,
        T::DriverArrived,
        T::PassengerPickedUp,
        T::TripStarted,
        T::TripCompleted,
        T::PaymentCompleted,
    ] {
        let now = driver.due();
        let expected = Action::Report("d1".to_owned(), event);
        assert_eq!(driver.next_action(Input::Time, now, &mut habits), Some(expected));
        driver.next_action(Input::Taken(Some(facts("d1", Some(event)))), now, &mut habits);
    }
    assert_eq!(driver.state(), &State::Free);
}

#[test]
fn a_rejection_is_sent_and_an_ignored_offer_is_not() {
    let mut habits = always("reject");
    let mut driver = Driver::new(0);
    driver.next_action(Input::Offered(offer("d1", 3)), 0, &mut habits);
    let expected = Action::Answer(offer("d1", 3), Answer::Reject);
    assert_eq!(driver.next_action(Input::Time, driver.due(), &mut habits), Some(expected));
    driver.next_action(Input::Taken(None), 5_000, &mut habits);
    assert_eq!(driver.state(), &State::Free);

    let mut driver = Driver::new(0);
    driver.next_action(Input::Offered(offer("d1", 1)), 0, &mut always("ignore"));
    assert_eq!(driver.state(), &State::Free);
}

#[test]
fn repeated_deliveries_change_nothing() {
    let mut habits = always("accept");
    let mut driver = Driver::new(0);
    driver.next_action(Input::Offered(offer("d1", 1)), 0, &mut habits);
    let before = driver.clone();
    driver.next_action(Input::Offered(offer("d1", 1)), 1, &mut habits);
    assert_eq!(driver, before);

    let mut driver = riding(&mut habits);
    let before = driver.clone();
    assert_eq!(driver.next_action(Input::Confirmed("d1".to_owned()), 9, &mut habits), None);
    driver.next_action(Input::Offered(offer("d1", 1)), 9, &mut habits);
    driver.next_action(Input::Found(Some(facts("d1", None))), 9, &mut habits);
    assert_eq!(driver, before);
}

#[test]
fn a_driver_with_automatic_acceptance_learns_of_the_ride_from_the_confirmation() {
    let mut habits = always("ignore");
    let mut driver = Driver::new(0);
    let open = driver.next_action(Input::Confirmed("d1".to_owned()), 5, &mut habits);
    assert_eq!(open, Some(Action::Open("d1".to_owned())));
    driver.next_action(Input::Found(Some(facts("d1", None))), 6, &mut habits);
    assert!(matches!(driver.state(), State::Riding(ride) if ride.next == T::PickupStarted));
}

#[test]
fn an_offer_that_has_ended_is_dropped() {
    let mut habits = always("accept");
    let mut driver = Driver::new(0);
    driver.next_action(Input::Offered(offer("d1", 1)), 0, &mut habits);
    driver.next_action(Input::Over("d2".to_owned()), 1, &mut habits);
    assert!(matches!(driver.state(), State::Deciding { .. }), "another offer ended");
    driver.next_action(Input::Over("d1".to_owned()), 1, &mut habits);
    assert_eq!(driver.state(), &State::Free);

    driver.next_action(Input::Offered(offer("d1", 2)), 2, &mut habits);
    assert_eq!(driver.next_action(Input::Refused, 9_000, &mut habits), None);
    assert_eq!(driver.state(), &State::Free);
}

#[test]
fn a_ride_that_the_user_cancelled_ends_once_the_service_confirms_it() {
    let mut habits = always("accept");
    let mut driver = riding(&mut habits);
    let look = driver.next_action(Input::Over("d1".to_owned()), 50, &mut habits);
    assert_eq!(look, Some(Action::LookUp));
    driver.next_action(Input::Found(None), 60, &mut habits);
    assert_eq!(driver.state(), &State::Free);
}

#[test]
fn a_ride_is_resumed_from_the_state_at_the_service() {
    let mut habits = always("accept");
    for (last, next) in [
        (None, T::PickupStarted),
        (Some(T::DriverArrived), T::PassengerPickedUp),
        (Some(T::TripStarted), T::TripCompleted),
    ] {
        let mut driver = Driver::new(0);
        assert_eq!(driver.next_action(Input::Connected, 1, &mut habits), Some(Action::LookUp));
        driver.next_action(Input::Found(Some(facts("d9", last))), 2, &mut habits);
        assert!(matches!(driver.state(), State::Riding(ride) if ride.next == next), "{last:?}");
    }
}

#[test]
fn a_refused_report_leads_to_a_look_up_and_is_not_repeated_immediately() {
    let mut habits = always("accept");
    let mut driver = riding(&mut habits);
    let now = driver.due();
    driver.next_action(Input::Time, now, &mut habits);
    assert_eq!(driver.next_action(Input::Refused, now, &mut habits), Some(Action::LookUp));
    driver.next_action(Input::Found(Some(facts("d1", None))), now, &mut habits);
    assert!(driver.due() >= now + AGAIN_MS);
}

#[test]
fn a_failed_call_is_retried_later() {
    let mut habits = always("accept");
    let mut driver = riding(&mut habits);
    let now = driver.due();
    let first = driver.next_action(Input::Time, now, &mut habits);
    driver.next_action(Input::Unreachable, now, &mut habits);
    assert_eq!(driver.due(), now + AGAIN_MS);
    assert_eq!(driver.next_action(Input::Time, now + AGAIN_MS, &mut habits), first);

    let mut driver = Driver::new(0);
    driver.next_action(Input::Offered(offer("d1", 1)), 0, &mut habits);
    driver.next_action(Input::Unreachable, 20, &mut habits);
    let look = driver.next_action(Input::Time, 20 + AGAIN_MS, &mut habits);
    assert_eq!(look, Some(Action::LookUp), "the answer may have taken effect");
}

#[test]
fn the_payment_is_reported_although_the_driver_is_already_free() {
    let mut habits = always("accept");
    let mut driver = riding(&mut habits);
    driver.next_action(Input::Taken(Some(facts("d1", Some(T::TripCompleted)))), 100, &mut habits);
    driver.next_action(Input::Found(None), 100, &mut habits);
    let pay = driver.next_action(Input::Time, 100, &mut habits);
    assert_eq!(pay, Some(Action::Report("d1".to_owned(), T::PaymentCompleted)));
}

#[test]
fn a_driver_may_cancel_on_the_way_to_the_pickup() {
    let mut habits = always("cancel");
    let mut driver = riding(&mut habits);
    let now = driver.due();
    assert_eq!(
        driver.next_action(Input::Time, now, &mut habits),
        Some(Action::Report("d1".to_owned(), T::PickupStarted))
    );
    driver.next_action(Input::Taken(Some(facts("d1", Some(T::PickupStarted)))), now, &mut habits);
    let later = driver.due();
    assert_eq!(driver.next_action(Input::Time, later, &mut habits), Some(Action::Cancel("d1".to_owned())));
    driver.next_action(Input::Taken(None), later, &mut habits);
    assert_eq!(driver.state(), &State::Free);
}

#[test]
fn a_driver_without_notifications_looks_up_its_state_regularly() {
    let mut habits = always("accept");
    let mut driver = Driver::new(0);
    assert_eq!(driver.next_action(Input::Time, LOOK_UP_MS - 1, &mut habits), None);
    assert_eq!(driver.next_action(Input::Time, LOOK_UP_MS, &mut habits), Some(Action::LookUp));
    assert_eq!(driver.due(), 2 * LOOK_UP_MS);
}

#[test]
fn answers_have_the_configured_shares() {
    let mut habits = habits("--accept-share 0.6 --reject-share 0.3");
    let answers: Vec<_> = (0..10_000).map(|_| habits.answer().map(|(answer, _)| answer)).collect();
    let count = |wanted| answers.iter().filter(|answer| **answer == wanted).count();
    assert!((5_800..6_200).contains(&count(Some(Answer::Accept))));
    assert!((2_800..3_200).contains(&count(Some(Answer::Reject))));
    assert!((800..1_200).contains(&count(None)));
}
