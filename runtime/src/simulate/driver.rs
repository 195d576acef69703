//! What a driver does next: a state machine without clock or network.
//!
//! The service is the truth about a ride, and a driver can be told of it late, twice or not at all: whenever it was out of
//! touch ([`Input::Connected`]), and now and then anyway, it looks up what the service says and goes on from there.

use std::time::Duration;

use dispatch_core::geo::Coordinate;

use super::args::Args;
use super::random::{Actor, Dice, millis};
use crate::http::dto::{Answer, TripEventType};

/// Time between two looks of a driver who hears nothing: bounds how long a lost notification can hold up a ride.
const LOOK_UP_MS: u64 = 30_000;

/// Pause before a driver tries again what failed or made no sense.
const AGAIN_MS: u64 = 1_000;

/// Shares and delays of a driver, and the dice that decide by them.
#[derive(Debug, Clone)]
pub struct Habits {
    accept_share: f64,
    reject_share: f64,
    cancel_share: f64,
    answer_delay: Duration,
    trip_seconds: f64,
    dice: Dice,
}

impl Habits {
    /// The habits of the driver of a number.
    pub fn of(args: &Args, number: u32) -> Self {
        Self {
            accept_share: args.accept_share,
            reject_share: args.reject_share,
            cancel_share: args.driver_cancel_share,
            answer_delay: args.answer_delay,
            trip_seconds: args.trip_seconds,
            dice: Dice::of(args.seed, Actor::DriverHabits(number)),
        }
    }

    /// How an offer is answered and how long that takes; `None` where it is ignored. Draws the same number of dice in each
    /// case, so that one answer does not shift those that follow.
    fn answer(&mut self) -> Option<(Answer, u64)> {
        let mood = self.dice.unit();
        let delay = millis(self.dice.log_normal(self.answer_delay.as_secs_f64(), 0.5));
        if mood < self.accept_share {
            Some((Answer::Accept, delay))
        } else if mood < self.accept_share + self.reject_share {
            Some((Answer::Reject, delay))
        } else {
            None
        }
    }

    fn cancels(&mut self) -> bool {
        self.dice.chance(self.cancel_share)
    }

    /// Time until a trip event can be reported, ms.
    fn time_to(&mut self, event: TripEventType) -> u64 {
        let part = match event {
            // The fare is paid at once: the driver is free already, and the next offer waits.
            TripEventType::PaymentCompleted => return 0,
            TripEventType::PickupStarted | TripEventType::TripStarted => 0.05,
            TripEventType::DriverArrived => 0.5,
            TripEventType::PassengerPickedUp => 0.1,
            TripEventType::TripCompleted => 1.0,
        };
        millis(self.dice.log_normal(self.trip_seconds * part, 0.4))
    }
}

/// An offer as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Which dispatch.
    pub dispatch: String,
    /// Its fence.
    pub offer_seq: u32,
}

/// A ride of this driver, as the service tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct RideFacts {
    /// Which.
    pub dispatch: String,
    /// The last thing reported of it.
    pub last: Option<TripEventType>,
    /// Where it begins.
    pub pickup: Coordinate,
    /// Where it ends.
    pub destination: Coordinate,
}

/// A ride this driver is on.
#[derive(Debug, Clone, PartialEq)]
pub struct Ride {
    /// What the service says of it.
    pub facts: RideFacts,
    /// What to report next.
    pub next: TripEventType,
    /// When.
    pub at: u64,
    /// Whether the driver will cancel instead of arriving.
    pub cancels: bool,
}

impl Ride {
    /// Where the car goes now, if it goes anywhere.
    pub fn heading(&self) -> Option<Coordinate> {
        match self.next {
            TripEventType::DriverArrived => Some(self.facts.pickup),
            TripEventType::TripCompleted => Some(self.facts.destination),
            _ => None,
        }
    }
}

/// What a driver is doing.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// Waiting for an offer.
    Free,
    /// Thinking about one.
    Deciding {
        /// Which.
        offer: Offer,
        /// What will be answered.
        answer: Answer,
        /// When.
        at: u64,
    },
    /// On a ride.
    Riding(Ride),
}

/// What can happen to a driver.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The time of [`Driver::due`] has come.
    Time,
    /// The event stream is open, perhaps again: anything may have been missed.
    Connected,
    /// A new offer.
    Offered(Offer),
    /// A dispatch was confirmed as this driver's.
    Confirmed(String),
    /// An offer or a ride is no longer this driver's.
    Over(String),
    /// The service took the last action; with the ride it is now about, if any.
    Taken(Option<RideFacts>),
    /// The service refused the last action: things are not as this driver believed.
    Refused,
    /// The service could not be reached for long.
    Unreachable,
    /// What the service says of this driver: the ride it is on, if any.
    Found(Option<RideFacts>),
}

/// What a driver wants done. Each is answered with an [`Input`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask the service which ride this driver is on: `Found` or `Unreachable`.
    LookUp,
    /// Read one dispatch: `Found` or `Unreachable`.
    Open(String),
    /// Answer an offer: `Taken`, `Refused` or `Unreachable`.
    Answer(Offer, Answer),
    /// Report of a ride: `Taken`, `Refused` or `Unreachable`.
    Report(String, TripEventType),
    /// Cancel a ride: `Taken`, `Refused` or `Unreachable`.
    Cancel(String),
}

/// A driver.
#[derive(Debug, Clone, PartialEq)]
pub struct Driver {
    state: State,
    look_up_at: u64,
}

impl Driver {
    /// A driver who begins at `now`.
    pub fn new(now: u64) -> Self {
        Self { state: State::Free, look_up_at: now + LOOK_UP_MS }
    }

    /// What the driver is doing.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// When [`Input::Time`] is to come.
    pub fn due(&self) -> u64 {
        match &self.state {
            State::Free => self.look_up_at,
            State::Deciding { at, .. } => *at,
            State::Riding(ride) => ride.at,
        }
    }

    /// Takes in what happened and says what to do.
    pub fn next_action(&mut self, input: Input, now: u64, habits: &mut Habits) -> Option<Action> {
        match input {
            Input::Connected => Some(Action::LookUp),
            Input::Offered(offer) => {
                self.consider(offer, now, habits);
                None
            }
            Input::Confirmed(dispatch) => (self.ride_dispatch() != Some(&dispatch)).then_some(Action::Open(dispatch)),
            Input::Over(dispatch) => self.over(&dispatch, now),
            Input::Time => self.time(now),
            Input::Taken(facts) => {
                self.taken(facts, now, habits);
                None
            }
            Input::Refused => self.refused(now),
            Input::Unreachable => {
                self.again(now);
                None
            }
            Input::Found(facts) => {
                self.found(facts, now, habits);
                None
            }
        }
    }

    fn ride_dispatch(&self) -> Option<&String> {
        match &self.state {
            State::Riding(ride) => Some(&ride.facts.dispatch),
            State::Free | State::Deciding { .. } => None,
        }
    }

    fn rest(&mut self, now: u64) {
        self.state = State::Free;
        self.look_up_at = now + LOOK_UP_MS;
    }

    /// A driver on a ride does not look at offers. One that comes while another is thought about is newer, so the other one is
    /// over; the same one again changes nothing.
    fn consider(&mut self, offer: Offer, now: u64, habits: &mut Habits) {
        let known = match &self.state {
            State::Riding(_) => true,
            State::Deciding { offer: current, .. } => *current == offer,
            State::Free => false,
        };
        if known {
            return;
        }
        match habits.answer() {
            Some((answer, delay)) => self.state = State::Deciding { offer, answer, at: now + delay },
            None => self.rest(now),
        }
    }

    fn over(&mut self, dispatch: &str, now: u64) -> Option<Action> {
        match &self.state {
            State::Deciding { offer, .. } if offer.dispatch == dispatch => {
                self.rest(now);
                None
            }
            // The word may be older than the ride (an offer that was closed and made again), so it is checked.
            State::Riding(ride) if ride.facts.dispatch == dispatch => Some(Action::LookUp),
            _ => None,
        }
    }

    fn time(&mut self, now: u64) -> Option<Action> {
        match &self.state {
            State::Free if now >= self.look_up_at => {
                self.look_up_at = now + LOOK_UP_MS;
                Some(Action::LookUp)
            }
            State::Deciding { offer, answer, at } if now >= *at => Some(Action::Answer(offer.clone(), *answer)),
            State::Riding(ride) if now >= ride.at => {
                let dispatch = ride.facts.dispatch.clone();
                let drops_out = ride.cancels && ride.next == TripEventType::DriverArrived;
                Some(if drops_out { Action::Cancel(dispatch) } else { Action::Report(dispatch, ride.next) })
            }
            _ => None,
        }
    }

    /// The service did what it was asked for. Its word on the ride counts more than what was asked.
    fn taken(&mut self, facts: Option<RideFacts>, now: u64, habits: &mut Habits) {
        let after_payment = matches!(&self.state, State::Riding(ride) if ride.next == TripEventType::PaymentCompleted);
        match facts {
            Some(facts) if !after_payment => self.take_up(facts, now, habits),
            _ => self.rest(now),
        }
    }

    fn refused(&mut self, now: u64) -> Option<Action> {
        match &mut self.state {
            // The offer was over.
            State::Free | State::Deciding { .. } => {
                self.rest(now);
                None
            }
            State::Riding(ride) => {
                ride.at = now + AGAIN_MS;
                Some(Action::LookUp)
            }
        }
    }

    fn again(&mut self, now: u64) {
        match &mut self.state {
            State::Free => self.look_up_at = now + AGAIN_MS,
            // Nobody knows whether the answer counted.
            State::Deciding { .. } => {
                self.rest(now);
                self.look_up_at = now + AGAIN_MS;
            }
            State::Riding(ride) => ride.at = ride.at.max(now + AGAIN_MS),
        }
    }

    fn found(&mut self, facts: Option<RideFacts>, now: u64, habits: &mut Habits) {
        match (facts, &self.state) {
            (Some(facts), State::Riding(ride)) if ride.facts == facts => {}
            (Some(facts), _) => self.take_up(facts, now, habits),
            // The service frees a driver with the trip's end; the payment is still to be reported.
            (None, State::Riding(ride)) if ride.next != TripEventType::PaymentCompleted => self.rest(now),
            (None, _) => {}
        }
    }

    /// Goes on with a ride from where it stands.
    fn take_up(&mut self, facts: RideFacts, now: u64, habits: &mut Habits) {
        let Some(next) = next_event(facts.last) else {
            self.rest(now);
            return;
        };
        let cancels = match &self.state {
            State::Riding(ride) if ride.facts.dispatch == facts.dispatch => ride.cancels,
            _ => habits.cancels(),
        };
        let at = now + habits.time_to(next);
        self.state = State::Riding(Ride { facts, next, at, cancels });
    }
}

/// What a driver reports after `last`; `None` after the payment.
pub fn next_event(last: Option<TripEventType>) -> Option<TripEventType> {
    match last {
        None => Some(TripEventType::PickupStarted),
        Some(TripEventType::PickupStarted) => Some(TripEventType::DriverArrived),
        Some(TripEventType::DriverArrived) => Some(TripEventType::PassengerPickedUp),
        Some(TripEventType::PassengerPickedUp) => Some(TripEventType::TripStarted),
        Some(TripEventType::TripStarted) => Some(TripEventType::TripCompleted),
        Some(TripEventType::TripCompleted) => Some(TripEventType::PaymentCompleted),
        Some(TripEventType::PaymentCompleted) => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    use TripEventType as T;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn habits(words: &str) -> Habits {
        let line = format!("simulate --api http://127.0.0.1:1 {words}");
        Habits::of(&Cli::parse_from(line.split_whitespace()).args, 0)
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
    fn a_driver_who_accepts_by_itself_learns_of_the_ride_by_the_confirmation() {
        let mut habits = always("ignore");
        let mut driver = Driver::new(0);
        let open = driver.next_action(Input::Confirmed("d1".to_owned()), 5, &mut habits);
        assert_eq!(open, Some(Action::Open("d1".to_owned())));
        driver.next_action(Input::Found(Some(facts("d1", None))), 6, &mut habits);
        assert!(matches!(driver.state(), State::Riding(ride) if ride.next == T::PickupStarted));
    }

    #[test]
    fn an_offer_that_is_over_is_forgotten() {
        let mut habits = always("accept");
        let mut driver = Driver::new(0);
        driver.next_action(Input::Offered(offer("d1", 1)), 0, &mut habits);
        driver.next_action(Input::Over("d2".to_owned()), 1, &mut habits);
        assert!(matches!(driver.state(), State::Deciding { .. }), "that was another one");
        driver.next_action(Input::Over("d1".to_owned()), 1, &mut habits);
        assert_eq!(driver.state(), &State::Free);

        driver.next_action(Input::Offered(offer("d1", 2)), 2, &mut habits);
        assert_eq!(driver.next_action(Input::Refused, 9_000, &mut habits), None);
        assert_eq!(driver.state(), &State::Free);
    }

    #[test]
    fn a_ride_the_user_cancelled_ends_once_the_service_says_so() {
        let mut habits = always("accept");
        let mut driver = riding(&mut habits);
        let look = driver.next_action(Input::Over("d1".to_owned()), 50, &mut habits);
        assert_eq!(look, Some(Action::LookUp));
        driver.next_action(Input::Found(None), 60, &mut habits);
        assert_eq!(driver.state(), &State::Free);
    }

    #[test]
    fn a_ride_is_taken_up_from_what_the_service_says() {
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
    fn a_refused_report_is_looked_into_and_not_repeated_at_once() {
        let mut habits = always("accept");
        let mut driver = riding(&mut habits);
        let now = driver.due();
        driver.next_action(Input::Time, now, &mut habits);
        assert_eq!(driver.next_action(Input::Refused, now, &mut habits), Some(Action::LookUp));
        driver.next_action(Input::Found(Some(facts("d1", None))), now, &mut habits);
        assert!(driver.due() >= now + AGAIN_MS);
    }

    #[test]
    fn what_cannot_be_sent_is_tried_again_later() {
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
        assert_eq!(look, Some(Action::LookUp), "the answer may have counted");
    }

    #[test]
    fn the_payment_is_reported_although_the_driver_is_free_already() {
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
    fn a_silent_driver_looks_up_now_and_then() {
        let mut habits = always("accept");
        let mut driver = Driver::new(0);
        assert_eq!(driver.next_action(Input::Time, LOOK_UP_MS - 1, &mut habits), None);
        assert_eq!(driver.next_action(Input::Time, LOOK_UP_MS, &mut habits), Some(Action::LookUp));
        assert_eq!(driver.due(), 2 * LOOK_UP_MS);
    }

    #[test]
    fn answers_come_in_the_shares_asked_for() {
        let mut habits = habits("--accept-share 0.6 --reject-share 0.3");
        let answers: Vec<_> = (0..10_000).map(|_| habits.answer().map(|(answer, _)| answer)).collect();
        let count = |wanted| answers.iter().filter(|answer| **answer == wanted).count();
        assert!((5_800..6_200).contains(&count(Some(Answer::Accept))));
        assert!((2_800..3_200).contains(&count(Some(Answer::Reject))));
        assert!((800..1_200).contains(&count(None)));
    }
}
