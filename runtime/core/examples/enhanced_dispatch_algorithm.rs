//! `EnhancedDispatchAlgorithm` of spec §8 and its usage example, implemented with the public functions of
//! `dispatch-core`.
//!
//! ```text
//! cargo run -p dispatch-core --example enhanced_dispatch_algorithm
//! ```
//!
//! Names are those of the specification in Rust style. What the specification leaves open (`{}`) is done by the
//! functions the workers also use: [`eligibility`] and [`rank`] choose the candidates, [`step`] decides each offer,
//! answer and failure. The example is one program instead of a table, queues and a cache, so the drivers' answers are
//! given in advance and time is a number.

use std::collections::HashMap;

use dispatch_core::candidate::{AcceptanceCounts, Candidate, DriverSnapshot, Search, eligibility};
use dispatch_core::dispatch::{
    CandidateRef, Dispatch, DispatchStatus, Event, FollowUp, Matching, Refusal, Rules, Step, step,
};
use dispatch_core::fare::FareTable;
use dispatch_core::geo::{Coordinate, Metres};
use dispatch_core::ids::{DispatchId, DriverId, IdError, UserId};
use dispatch_core::person::PersonStatus;
use dispatch_core::policy::DispatchPolicy;
use dispatch_core::ranking::rank;
use dispatch_core::time::EpochMs;

/// 2025-05-25 15:30:00 in Seoul, the start of the specification's example.
const NOW: EpochMs = EpochMs(1_748_154_600_000);
/// The same time as a minute of the local day.
const LOCAL_MINUTE: u16 = 15 * 60 + 30;
/// Time a driver of this example takes to answer, ms.
const ANSWERS_AFTER_MS: u64 = 30_000;

/// The example handles no error, so one type covers all of them.
type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// How a driver answers an offer.
#[derive(Clone, Copy)]
enum DriverResponse {
    Accepted,
    Rejected,
    NoAnswer,
}

/// `DispatchRequest` of spec §8: the state that decisions are made on, and the destination.
struct DispatchRequest {
    state: Dispatch,
    destination: Coordinate,
}

/// The class of spec §8.
struct EnhancedDispatchAlgorithm {
    policy: DispatchPolicy,
    fare: FareTable,
    active_drivers: Vec<DriverSnapshot>,
    responses: HashMap<DriverId, DriverResponse>,
    candidate_drivers: Vec<Candidate>,
    now: EpochMs,
}

impl EnhancedDispatchAlgorithm {
    fn new(active_drivers: Vec<DriverSnapshot>, responses: HashMap<DriverId, DriverResponse>) -> Self {
        // The values of the specification: MAX_CANDIDATES 5, MAX_ATTEMPTS 5, 120 s for each offer. A search without a
        // driver fails at once, because no further driver will appear.
        let policy = DispatchPolicy { search_budget_ms: 0, ..DispatchPolicy::default() };
        Self { policy, fare: seoul_fares(), active_drivers, responses, candidate_drivers: Vec::new(), now: NOW }
    }

    /// `createDispatch`
    fn create_dispatch(
        &self,
        user_id: &str,
        pickup_location: Coordinate,
        destination: Coordinate,
    ) -> Result<DispatchRequest, IdError> {
        let state = Dispatch {
            id: DispatchId::from_suffix(&self.now.0.to_string())?,
            user: UserId::parse(user_id)?,
            driver: None,
            status: DispatchStatus::Requested,
            offer_seq: 0,
            ver: 1,
            created_at: self.now,
            pickup: pickup_location,
            estimated_fare: self.calculate_estimated_fare(pickup_location, destination),
            matching: Matching {
                max_attempts: self.policy.max_attempts,
                search_until: self.now.plus_ms(self.policy.search_budget_ms),
                ..Matching::default()
            },
            last_trip_event: None,
            trip_started_at: None,
            review: None,
        };
        Ok(DispatchRequest { state, destination })
    }

    /// `calculateEstimatedFare`
    fn calculate_estimated_fare(&self, pickup_location: Coordinate, destination: Coordinate) -> u32 {
        self.fare.estimate(pickup_location, destination, LOCAL_MINUTE).amount
    }

    /// `findCandidateDrivers`
    fn find_candidate_drivers(&mut self, dispatch: &DispatchRequest) -> &[Candidate] {
        let search = search(dispatch);
        let eligible: Vec<DriverSnapshot> =
            self.active_drivers.iter().filter(|driver| self.is_eligible_driver(driver, &search)).cloned().collect();
        self.candidate_drivers = rank(&eligible, &search, &self.policy, self.now);
        &self.candidate_drivers
    }

    /// `isEligibleDriver`
    fn is_eligible_driver(&self, driver: &DriverSnapshot, search: &Search) -> bool {
        match eligibility(driver, search, &self.policy, self.now) {
            Ok(_) => true,
            Err(reason) => {
                println!("  {} 제외: {reason:?}", driver.id);
                false
            }
        }
    }

    /// `processDispatchRequest`: offers the dispatch to one candidate after the other.
    fn process_dispatch_request(&mut self, dispatch: &mut DispatchRequest) -> Result<Option<DriverId>, Refusal> {
        let mut event = Event::Wake;
        loop {
            let decided = self.decide(dispatch, event)?;
            match decided.state.status {
                DispatchStatus::Requested => event = self.next_event(dispatch, &decided),
                DispatchStatus::Cancelled => {
                    self.handle_dispatch_failure(&decided);
                    return Ok(None);
                }
                DispatchStatus::Accepted | DispatchStatus::InProgress | DispatchStatus::Completed => {
                    return Ok(Self::assign_driver_to_dispatch(&decided));
                }
            }
        }
    }

    /// Makes one decision and applies it. The workers store it at this point, on condition that no other writer was
    /// faster.
    fn decide(&self, dispatch: &mut DispatchRequest, event: Event) -> Result<Step, Refusal> {
        let decided = step(&dispatch.state, event, Rules { policy: &self.policy, now: self.now })?;
        dispatch.state = decided.state.clone();
        Ok(decided)
    }

    /// The event that follows a decision: one of the algorithm's own, or the driver's answer.
    fn next_event(&mut self, dispatch: &DispatchRequest, decided: &Step) -> Event {
        for follow_up in &decided.follow_ups {
            match follow_up {
                FollowUp::Search => {
                    let found = self.find_candidate_drivers(dispatch);
                    return Event::CandidatesFound(found.iter().map(CandidateRef::from).collect());
                }
                FollowUp::Hold(driver) => return Event::DriverHeld(driver.clone()),
                FollowUp::Offer { driver, offer_seq, .. } => {
                    Self::send_driver_notification(driver, dispatch);
                    return self.wait_for_driver_response(driver, *offer_seq);
                }
                _ => {}
            }
        }
        Event::Wake
    }

    /// `sendDriverNotification`
    fn send_driver_notification(driver_id: &DriverId, dispatch: &DispatchRequest) {
        let distance = dispatch.state.pickup.distance_to(dispatch.destination).rounded();
        println!("  {driver_id} ← 새로운 배차 요청이 있습니다 ({}원, {distance}m)", dispatch.state.estimated_fare);
    }

    /// `waitForDriverResponse`
    fn wait_for_driver_response(&mut self, driver: &DriverId, offer_seq: u32) -> Event {
        let driver = driver.clone();
        let response = self.responses.get(&driver).copied().unwrap_or(DriverResponse::NoAnswer);
        self.wait(match response {
            DriverResponse::NoAnswer => self.policy.offer_timeout_ms,
            DriverResponse::Accepted | DriverResponse::Rejected => ANSWERS_AFTER_MS,
        });
        match response {
            DriverResponse::Accepted => Event::Accept { driver, offer_seq },
            DriverResponse::Rejected => Event::Reject { driver, offer_seq },
            DriverResponse::NoAnswer => Event::OfferTimedOut { offer_seq },
        }
    }

    /// Advances the time; positions stay fresh.
    fn wait(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
        self.active_drivers.iter_mut().for_each(|driver| driver.seen_at = self.now);
    }

    /// `assignDriverToDispatch`
    fn assign_driver_to_dispatch(decided: &Step) -> Option<DriverId> {
        decided.state.driver.clone()
    }

    /// `handleDispatchFailure`
    fn handle_dispatch_failure(&mut self, decided: &Step) {
        for record in &decided.records {
            println!("  {}", record.details);
        }
        self.candidate_drivers.clear();
    }
}

fn search(dispatch: &DispatchRequest) -> Search {
    Search {
        pickup: dispatch.state.pickup,
        estimated_fare: dispatch.state.estimated_fare,
        asked: dispatch.state.matching.asked.clone(),
    }
}

fn seoul_fares() -> FareTable {
    FareTable { night_surcharges: Vec::new(), ..FareTable::default() }
}

/// A free driver with a fresh position who accepts any fare within 20 km.
fn driver(number: u32, lat: f64, lng: f64) -> Outcome<DriverSnapshot> {
    Ok(DriverSnapshot {
        id: DriverId::from_suffix(&format!("{number:05}"))?,
        availability: PersonStatus::Active,
        position: Coordinate::new(lat, lng)?,
        seen_at: NOW,
        idle_since: NOW,
        max_distance: Metres::from_km(20.0),
        minimum_fare: 0,
        auto_accept: false,
        acceptance: AcceptanceCounts::default(),
        resting: false,
    })
}

/// Runs the usage example of spec §8 with these drivers and answers. Returns the last line it printed.
fn usage_example(active_drivers: Vec<DriverSnapshot>, responses: HashMap<DriverId, DriverResponse>) -> Outcome<String> {
    let mut algorithm = EnhancedDispatchAlgorithm::new(active_drivers, responses);

    // 1. 배차 요청 생성
    let mut dispatch = algorithm.create_dispatch(
        "user#00001",
        Coordinate::new(37.5662, 126.9784)?,
        Coordinate::new(37.5730, 126.9768)?,
    )?;

    // 2. 후보 드라이버 선별
    for candidate in algorithm.find_candidate_drivers(&dispatch) {
        println!("  후보 {}: {} ({}m)", candidate.priority + 1, candidate.driver_id, candidate.distance.rounded());
    }

    // 3. 배차 처리 실행
    let assigned_driver = algorithm.process_dispatch_request(&mut dispatch)?;

    let verdict = match &assigned_driver {
        Some(assigned_driver) => format!("배차 성공: {assigned_driver}"),
        None => "배차 실패: 이용 가능한 드라이버가 없습니다".to_owned(),
    };
    println!("{verdict}");
    Ok(verdict)
}

/// The nearest driver rejects, the next does not answer, the third accepts; a fourth is on a dispatch.
fn third_driver_accepts() -> Outcome<String> {
    let (near, next, far) =
        (driver(1, 37.5650, 126.9780)?, driver(2, 37.5690, 126.9784)?, driver(3, 37.5720, 126.9784)?);
    let mut busy = driver(4, 37.5662, 126.9784)?;
    busy.availability = PersonStatus::Dispatched;
    let responses = HashMap::from([
        (near.id.clone(), DriverResponse::Rejected),
        (next.id.clone(), DriverResponse::NoAnswer),
        (far.id.clone(), DriverResponse::Accepted),
    ]);
    usage_example(vec![far, busy, next, near], responses)
}

/// All drivers reject.
fn all_drivers_reject() -> Outcome<String> {
    let drivers = vec![driver(1, 37.5650, 126.9780)?, driver(2, 37.5690, 126.9784)?];
    let responses = drivers.iter().map(|driver| (driver.id.clone(), DriverResponse::Rejected)).collect();
    usage_example(drivers, responses)
}

fn main() -> Outcome<()> {
    third_driver_accepts()?;
    all_drivers_reject()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_driver_gets_the_dispatch() {
        assert_eq!(third_driver_accepts().unwrap(), "배차 성공: driver#00003");
    }

    #[test]
    fn a_dispatch_that_all_drivers_reject_fails() {
        assert_eq!(all_drivers_reject().unwrap(), "배차 실패: 이용 가능한 드라이버가 없습니다");
    }
}
