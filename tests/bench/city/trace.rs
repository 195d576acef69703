//! Traffic that is equal for all arms: the requests with their places and the riders' patience, and the drivers'
//! answers.

use dispatch_core::dispatch::{Dispatch, DispatchStatus, Matching};
use dispatch_core::fare::FareTable;
use dispatch_core::geo::Coordinate;
use dispatch_core::ids::{DispatchId, UserId};
use dispatch_core::policy::DispatchPolicy;
use dispatch_core::time::EpochMs;
use dispatch_simulator::random::{Actor, Dice, millis};

use crate::seoul::Seoul;

/// Noon: no night surcharge.
const LOCAL_MINUTE: u16 = 720;
/// Shortest ride, m.
const SHORTEST_M: f64 = 1_000.0;
/// Maximum draws of a destination until one is far enough; nearly always the first one is.
const DESTINATIONS_TRIED: u32 = 20;
/// Shares of drivers who accept and who reject an offer; the others do not answer.
const ACCEPT: f64 = 0.58;
const REJECT: f64 = 0.25;
/// Time to an answer, s: median and spread of a log-normal.
const ANSWER_S: (f64, f64) = (6.0, 0.5);
/// Mean time of a driver on the way to the pickup, s; for the rate of requests only.
const PICKUP_S: f64 = 200.0;

/// How long riders wait before they give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WaitTolerance {
    /// Kakao's figures: 9.8 % have given up after 15 s, 28.8 % after 18 s, and so on.
    Short,
    /// The same curve, four times slower.
    Long,
}

impl WaitTolerance {
    /// Draws when a rider gives up, ms after the request, from a hazard rate that is constant before and after the
    /// knee.
    fn draw(self, dice: &mut Dice) -> u64 {
        const KNEE_S: f64 = 15.0;
        let before = -(1.0_f64 - 0.098).ln() / KNEE_S;
        let behind = ((1.0_f64 - 0.098) / (1.0 - 0.288)).ln() / 3.0;
        let drawn = -(1.0 - dice.unit()).ln();
        let at_knee = before * KNEE_S;
        let seconds = if drawn < at_knee { drawn / before } else { KNEE_S + (drawn - at_knee) / behind };
        let slower = match self {
            Self::Short => 1.0,
            Self::Long => 4.0,
        };
        millis(seconds * slower)
    }
}

/// The parameters of a city and its traffic.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scenario {
    /// The name in tables.
    pub name: &'static str,
    /// Drivers on duty.
    pub drivers: u32,
    /// Requested rides as a share of those that the drivers can serve.
    pub demand: f64,
    pub patience: WaitTolerance,
    /// Time before requests are counted, s.
    pub warm_up_s: u32,
    /// Time in which requests are counted, s.
    pub counted_s: u32,
}

impl Scenario {
    /// Start of the counted time, ms.
    pub(super) fn counted_from(&self) -> u64 {
        u64::from(self.warm_up_s) * 1000
    }

    /// End of the counted time, ms.
    pub(super) fn counted_to(&self) -> u64 {
        self.counted_from() + u64::from(self.counted_s) * 1000
    }
}

/// A request of the trace.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestPlan {
    /// Time of the request, ms.
    pub at: u64,
    pub pickup: Coordinate,
    pub destination: Coordinate,
    /// Estimated fare.
    pub fare: u32,
    /// Duration of the ride from the pickup, ms.
    pub ride_ms: u64,
    /// Time until the rider gives up, ms after the request.
    pub patience_ms: u64,
}

/// A request that was just stored.
pub(super) fn new_dispatch(id: DispatchId, user: UserId, plan: &RequestPlan, policy: &DispatchPolicy) -> Dispatch {
    let created_at = EpochMs(i64::try_from(plan.at).unwrap_or(i64::MAX));
    Dispatch {
        id,
        user,
        driver: None,
        status: DispatchStatus::Requested,
        offer_seq: 0,
        ver: 1,
        created_at,
        pickup: plan.pickup,
        estimated_fare: plan.fare,
        matching: Matching {
            max_attempts: policy.max_attempts,
            search_until: created_at.plus_ms(policy.search_budget_ms),
            ..Matching::default()
        },
        last_trip_event: None,
        trip_started_at: None,
        review: None,
    }
}

/// The traffic of one scenario and one seed.
pub(super) struct Trace {
    seed: u64,
    /// Requests by time.
    pub requests: Vec<RequestPlan>,
    /// Requests per second.
    pub rate: f64,
    /// Mean time of a driver for a ride, with the way to the pickup, s.
    pub busy_s: f64,
}

/// A driver's answer to an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Accept,
    Reject,
}

impl Trace {
    /// Draws the traffic.
    pub(super) fn of(seoul: &Seoul, scenario: &Scenario, seed: u64) -> Self {
        const SAMPLE: u32 = 2_000;
        /// Requests continue after the counted time, so that its last requests find the same traffic as the first ones.
        const BEHIND_MS: u64 = 120_000;
        let sample: u64 = (0..SAMPLE).map(|number| request(seoul, scenario, seed, number).ride_ms).sum();
        let busy_s = sample as f64 / f64::from(SAMPLE) / 1000.0 + PICKUP_S;
        let rate = scenario.demand * f64::from(scenario.drivers) / busy_s;
        let mut arrivals = Dice::for_actor(seed, Actor::Arrivals);
        let mut requests = Vec::new();
        let (mut at, end) = (0.0, (scenario.counted_to() + BEHIND_MS) as f64 / 1000.0);
        for number in 0.. {
            at += arrivals.exponential(1.0 / rate);
            if at >= end {
                break;
            }
            requests.push(RequestPlan { at: millis(at), ..request(seoul, scenario, seed, number) });
        }
        Self { seed, requests, rate, busy_s }
    }

    /// A driver's answer to an offer of a request and its delay, ms; equal for all arms. `None` if the driver does not
    /// answer.
    pub(super) fn answer(&self, request: u32, driver: u32) -> Option<(Answer, u64)> {
        let mut dice = Dice::for_actor(self.seed.wrapping_add(u64::from(driver + 1) << 32), Actor::Request(request));
        let choice = dice.unit();
        let delay_ms = millis(dice.log_normal(ANSWER_S.0, ANSWER_S.1));
        if choice < ACCEPT {
            Some((Answer::Accept, delay_ms))
        } else if choice < ACCEPT + REJECT {
            Some((Answer::Reject, delay_ms))
        } else {
            None
        }
    }
}

fn request(seoul: &Seoul, scenario: &Scenario, seed: u64, number: u32) -> RequestPlan {
    let mut dice = Dice::for_actor(seed, Actor::Request(number));
    let pickup = seoul.somewhere(&mut dice);
    let mut destination = seoul.somewhere(&mut dice);
    for _ in 0..DESTINATIONS_TRIED {
        if pickup.distance_to(destination).0 >= SHORTEST_M {
            break;
        }
        destination = seoul.somewhere(&mut dice);
    }
    let fare = FareTable::default().estimate(pickup, destination, LOCAL_MINUTE);
    let patience_ms = scenario.patience.draw(&mut dice);
    RequestPlan {
        at: 0,
        pickup,
        destination,
        fare: fare.amount,
        ride_ms: u64::from(fare.duration_s) * 1000,
        patience_ms,
    }
}

/// Time to the pickup, ms: the straight line times the road factor, at the city's average speed.
pub(super) fn pickup_ms(driver: Coordinate, pickup: Coordinate) -> u64 {
    u64::from(FareTable::default().estimate(driver, pickup, LOCAL_MINUTE).duration_s) * 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn riders_give_up_as_in_kakaos_figures() {
        let mut dice = Dice::for_actor(1, Actor::Arrivals);
        let drawn: Vec<u64> = (0..20_000).map(|_| WaitTolerance::Short.draw(&mut dice)).collect();
        let gone = |ms: u64| drawn.iter().filter(|patience| **patience <= ms).count() as f64 / drawn.len() as f64;
        assert!(
            (gone(15_000) - 0.098).abs() < 0.01 && (gone(18_000) - 0.288).abs() < 0.015,
            "{} {}",
            gone(15_000),
            gone(18_000)
        );
    }

    #[test]
    fn drivers_answer_with_the_given_shares_and_deterministically() {
        let scenario =
            Scenario { name: "", drivers: 10, demand: 0.5, patience: WaitTolerance::Long, warm_up_s: 0, counted_s: 10 };
        let trace = Trace::of(&Seoul::new().unwrap(), &scenario, 7);
        let answers: Vec<_> = (0..10_000).map(|number| trace.answer(number, number % 100)).collect();
        let share = |wanted: Answer| {
            let count = answers.iter().flatten().filter(|(answer, _)| *answer == wanted).count();
            count as f64 / answers.len() as f64
        };
        assert!((share(Answer::Accept) - ACCEPT).abs() < 0.02 && (share(Answer::Reject) - REJECT).abs() < 0.02);
        assert_eq!(trace.answer(5, 9), trace.answer(5, 9));
    }
}
