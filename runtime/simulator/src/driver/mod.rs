//! The behaviour of a driver: a state machine without clock or network.
//!
//! The service is the source of truth about a ride, and its notifications can be late, repeated or lost. A driver
//! therefore reads its state from the service after every reconnect ([`Input::Connected`]) and from time to time, and
//! continues from there.

use std::time::Duration;

use dispatch_core::dispatch::TripEvent;
use dispatch_core::geo::Coordinate;
use dispatch_http_types::Answer;

use crate::args::Args;
use crate::random::{Actor, Dice, millis};

/// Interval of look-ups by a driver who receives nothing. It limits how long a lost notification can delay a ride.
const LOOK_UP_MS: u64 = 30_000;

/// Pause before a driver retries an action that failed or was refused.
const AGAIN_MS: u64 = 1_000;

/// The probabilities and delays of a driver, and the random numbers for them.
#[derive(Debug, Clone)]
pub(crate) struct Habits {
    accept_share: f64,
    reject_share: f64,
    cancel_share: f64,
    answer_delay: Duration,
    trip_seconds: f64,
    dice: Dice,
}

impl Habits {
    pub(crate) fn from_args(args: &Args, number: u32) -> Self {
        Self {
            accept_share: args.accept_share,
            reject_share: args.reject_share,
            cancel_share: args.driver_cancel_share,
            answer_delay: args.answer_delay,
            trip_seconds: args.trip_seconds,
            dice: Dice::for_actor(args.seed, Actor::DriverHabits(number)),
        }
    }

    /// The answer to an offer and its delay, ms; `None` if the offer is ignored. Always draws the same number of random
    /// numbers, so that one answer does not change the following ones.
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
            // The fare is paid immediately: the driver is already free, and the next offer may be waiting.
            TripEvent::PaymentCompleted => return 0,
            TripEvent::PickupStarted | TripEvent::TripStarted => 0.05,
            TripEvent::DriverArrived => 0.5,
            TripEvent::PassengerPickedUp => 0.1,
            TripEvent::TripCompleted => 1.0,
        };
        millis(self.dice.log_normal(self.trip_seconds * part, 0.4))
    }
}

/// An offer from a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    pub dispatch: String,
    pub offer_seq: u32,
}

/// A ride of this driver, according to the service.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RideFacts {
    pub dispatch: String,
    /// The last event that was reported.
    pub last: Option<TripEvent>,
    pub pickup: Coordinate,
    pub destination: Coordinate,
}

/// The current ride of this driver.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ride {
    pub facts: RideFacts,
    /// The next event to report.
    pub next: TripEvent,
    /// When to report it, ms of the run.
    pub at: u64,
    /// Whether the driver will cancel instead of arriving.
    pub cancels: bool,
}

impl Ride {
    /// The place that the car is driving to, if it is driving.
    pub(crate) fn heading(&self) -> Option<Coordinate> {
        match self.next {
            TripEvent::DriverArrived => Some(self.facts.pickup),
            TripEvent::TripCompleted => Some(self.facts.destination),
            _ => None,
        }
    }
}

/// The state of a driver.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum State {
    /// Waiting for an offer.
    Free,
    /// Has an open offer, which is answered after a delay.
    Deciding {
        offer: Offer,
        answer: Answer,
        /// When the answer is sent, ms of the run.
        at: u64,
    },
    Riding(Ride),
}

/// The inputs of a driver's state machine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Input {
    /// The time of [`Driver::due`] has come.
    Time,
    /// The event stream was opened, so notifications may have been missed.
    Connected,
    /// An offer was received.
    Offered(Offer),
    /// A dispatch was assigned to this driver.
    Confirmed(String),
    /// An offer or a ride of this driver has ended.
    Over(String),
    /// The service accepted the last action; with the resulting ride, if any.
    Taken(Option<RideFacts>),
    /// The service refused the last action, so the driver's state is out of date.
    Refused,
    /// The service did not respond to the last action.
    Unreachable,
    /// The current ride of this driver according to the service, if any.
    Found(Option<RideFacts>),
}

/// An action of a driver. Each results in an [`Input`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Look up the current ride of this driver. Results in `Found` or `Unreachable`.
    LookUp,
    /// Read one dispatch. Results in `Found` or `Unreachable`.
    Open(String),
    /// Answer an offer. Results in `Taken`, `Refused` or `Unreachable`.
    Answer(Offer, Answer),
    /// Report progress on a ride. Results in `Taken`, `Refused` or `Unreachable`.
    Report(String, TripEvent),
    /// Cancel a ride. Results in `Taken`, `Refused` or `Unreachable`.
    Cancel(String),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Driver {
    state: State,
    look_up_at: u64,
}

impl Driver {
    /// A free driver at `now`, ms of the run.
    pub(crate) fn new(now: u64) -> Self {
        Self { state: State::Free, look_up_at: now + LOOK_UP_MS }
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// When [`Input::Time`] is due, ms of the run.
    pub(crate) fn due(&self) -> u64 {
        match &self.state {
            State::Free => self.look_up_at,
            State::Deciding { at, .. } => *at,
            State::Riding(ride) => ride.at,
        }
    }

    /// Processes an input and returns the action to perform.
    pub(crate) fn next_action(&mut self, input: Input, now: u64, habits: &mut Habits) -> Option<Action> {
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

    /// A driver on a ride ignores offers. An offer that arrives while another one is open replaces it, because it is
    /// newer; a repeated offer changes nothing.
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
            // The notification may be older than the ride, from an offer that was closed and made again, so it is
            // checked.
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

    /// The service accepted an action. The ride in its response takes precedence over the action.
    fn taken(&mut self, facts: Option<RideFacts>, now: u64, habits: &mut Habits) {
        let after_payment = matches!(&self.state, State::Riding(ride) if ride.next == TripEvent::PaymentCompleted);
        match facts {
            Some(facts) if !after_payment => self.take_up(facts, now, habits),
            _ => self.rest(now),
        }
    }

    fn refused(&mut self, now: u64) -> Option<Action> {
        match &mut self.state {
            // The offer had ended.
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
            // The answer may or may not have taken effect.
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
            // The service frees the driver at the end of the trip; the payment must still be reported.
            (None, State::Riding(ride)) if ride.next != TripEvent::PaymentCompleted => self.rest(now),
            (None, _) => {}
        }
    }

    /// Continues a ride from its current state.
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

/// The event that follows `last`; `None` after the payment.
pub(crate) fn next_event(last: Option<TripEvent>) -> Option<TripEvent> {
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
