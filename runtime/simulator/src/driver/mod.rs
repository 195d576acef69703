//! What a driver does next: a state machine without clock or network.
//!
//! The service is the truth about a ride, and a driver can be told of it late, twice or not at all: whenever it was out of
//! touch ([`Input::Connected`]), and now and then anyway, it looks up what the service says and goes on from there.

use std::time::Duration;

use dispatch_core::dispatch::TripEvent;
use dispatch_core::geo::Coordinate;
use dispatch_http_types::Answer;

use crate::args::Args;
use crate::random::{Actor, Dice, millis};

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
    fn time_to(&mut self, event: TripEvent) -> u64 {
        let part = match event {
            // The fare is paid at once: the driver is free already, and the next offer waits.
            TripEvent::PaymentCompleted => return 0,
            TripEvent::PickupStarted | TripEvent::TripStarted => 0.05,
            TripEvent::DriverArrived => 0.5,
            TripEvent::PassengerPickedUp => 0.1,
            TripEvent::TripCompleted => 1.0,
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
    pub last: Option<TripEvent>,
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
    pub next: TripEvent,
    /// When.
    pub at: u64,
    /// Whether the driver will cancel instead of arriving.
    pub cancels: bool,
}

impl Ride {
    /// Where the car goes now, if it goes anywhere.
    pub fn heading(&self) -> Option<Coordinate> {
        match self.next {
            TripEvent::DriverArrived => Some(self.facts.pickup),
            TripEvent::TripCompleted => Some(self.facts.destination),
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
    Report(String, TripEvent),
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
                let drops_out = ride.cancels && ride.next == TripEvent::DriverArrived;
                Some(if drops_out { Action::Cancel(dispatch) } else { Action::Report(dispatch, ride.next) })
            }
            _ => None,
        }
    }

    /// The service did what it was asked for. Its word on the ride counts more than what was asked.
    fn taken(&mut self, facts: Option<RideFacts>, now: u64, habits: &mut Habits) {
        let after_payment = matches!(&self.state, State::Riding(ride) if ride.next == TripEvent::PaymentCompleted);
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
            (None, State::Riding(ride)) if ride.next != TripEvent::PaymentCompleted => self.rest(now),
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
pub fn next_event(last: Option<TripEvent>) -> Option<TripEvent> {
    match last {
        None => Some(TripEvent::PickupStarted),
        Some(TripEvent::PickupStarted) => Some(TripEvent::DriverArrived),
        Some(TripEvent::DriverArrived) => Some(TripEvent::PassengerPickedUp),
        Some(TripEvent::PassengerPickedUp) => Some(TripEvent::TripStarted),
        Some(TripEvent::TripStarted) => Some(TripEvent::TripCompleted),
        Some(TripEvent::TripCompleted) => Some(TripEvent::PaymentCompleted),
        Some(TripEvent::PaymentCompleted) => None,
    }
}

#[cfg(test)]
mod tests;
