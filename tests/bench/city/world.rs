//! The city in virtual time. Events are handled by time, and in the order of creation at equal times, so that equal
//! seeds give equal runs. Drivers cruise and ping, riders request rides and give up; the arm decides the rest.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use dispatch_core::dispatch::Dispatch;
use dispatch_core::geo::Metres;
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_core::person::PersonStatus;
use dispatch_core::policy::DispatchPolicy;
use dispatch_core::time::EpochMs;
use dispatch_runtime::adapters::fleet::index::{DriverIndex, LiveDriver};
use dispatch_simulator::map::Car;
use dispatch_simulator::random::{Actor, Dice};

use super::arm::{Arm, Source};
use super::bill::{self, Bill, NoRide};
use super::ledger::{Interval, Ledger};
use super::limits::{Shared, TokenBucket};
use super::trace::{Answer, RequestPlan, Scenario, Trace, new_dispatch, pickup_ms};
use crate::model::PARTITION_WRITE_UNITS;
use crate::search::Costs;
use crate::seoul::{Seoul, driver_id, free_driver};

/// Time from a stored change to its stream record, ms.
pub(super) const STREAM_MS: u64 = 300;
/// Time from an offer to the driver's screen, ms.
const PUSH_MS: u64 = 300;
/// Time between two pings of a driver, ms.
const PING_MS: u64 = 4_000;
/// Drivers ping in this number of groups, spread evenly over the time.
const PING_SLOTS: u32 = 40;
/// Window of the batched arm, ms.
pub(super) const WINDOW_MS: u64 = 2_000;

/// An event of the simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// One group of the free drivers pings.
    Ping(u32),
    /// A rider requests a ride.
    Ask(u32),
    /// The algorithm processes a request.
    Look(u32),
    /// Waiting searches may start.
    Search,
    /// A search of a baseline has finished.
    Searched(u32),
    /// A driver answers an offer.
    Answer { request: u32, driver: u32, offer: u32, answer: Answered },
    /// An offer times out.
    TimeOut { request: u32, offer: u32 },
    /// A rider gives up.
    GiveUp(u32),
    /// A ride ends.
    RideOver { driver: u32, request: Option<u32> },
    /// The window of the batched arm closes.
    Window,
}

/// An answer, and when the driver saw the offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Answered {
    pub accepts: bool,
    /// Time at which the offer was on the driver's screen, ms.
    pub seen_at: u64,
}

pub(super) struct Driver {
    pub id: DriverId,
    car: Car,
    /// Start of the current ride, ms.
    pub riding_since: Option<u64>,
    idle_from: u64,
    /// Idle time within the counted time, ms.
    pub idle_ms: u64,
    /// Offers within the counted time.
    pub offers: u32,
}

pub(super) struct Request {
    pub plan: RequestPlan,
    /// The dispatch that `step` decides on. The broadcast arm, which `step` does not support, uses its status and its
    /// list of asked drivers.
    pub dispatch: Dispatch,
    /// Whether a baseline has made its one list of candidates.
    pub listed: bool,
    /// Time of the acceptance, ms.
    pub accepted_at: Option<u64>,
    /// Distance of the driver from the pickup at the acceptance, m.
    pub pickup_m: f64,
    /// Driving time to the pickup and of the ride, ms.
    pub driven_ms: u64,
    /// Whether the rider gave up.
    pub gave_up: bool,
    /// Number of offers.
    pub pushes: u32,
    /// Offers to drivers who could not have got the ride: another driver got it, or they already had one.
    pub wasted: u32,
    /// Time of each open offer, ms, and its index in the ledger, by driver.
    pub open: BTreeMap<u32, (u64, usize)>,
    /// AWS calls so far.
    pub bill: Bill,
    /// Time of the acceptance or of the end, ms.
    pub closed_at: Option<u64>,
}

impl Request {
    pub(super) fn is_closed(&self) -> bool {
        self.closed_at.is_some()
    }
}

/// The parameters of a run.
#[derive(Clone, Copy)]
pub(super) struct Setup<'a> {
    pub arm: Arm,
    pub scenario: &'a Scenario,
    pub seoul: &'a Seoul,
    pub seed: u64,
    /// Costs of the baselines' searches.
    pub costs: Costs,
}

/// The state of a run.
pub(super) struct World<'a> {
    pub setup: Setup<'a>,
    /// The rules of the arm.
    pub policy: DispatchPolicy,
    pub trace: Trace,
    /// Virtual time, ms.
    pub now: u64,
    /// All drivers with their status; every arm searches it.
    pub index: DriverIndex,
    pub drivers: Vec<Driver>,
    /// Requests so far.
    pub requests: Vec<Request>,
    /// Requests that wait for a baseline's search.
    pub waiting: VecDeque<u32>,
    /// Requests collected for the window.
    pub gathered: Vec<u32>,
    /// Rides and offers, for the audit.
    pub ledger: Ledger,
    /// Number of free drivers.
    pub active: usize,
    /// Searches that had to wait for the partition or for Redis.
    pub throttled: u64,
    /// Writes to an index partition without free write units.
    pub writes_throttled: u64,
    /// Free drivers per open request, once per window while requests are open.
    pub supply: Vec<f64>,
    pub(super) shared: Shared,
    pub(super) searching: bool,
    partitions: [TokenBucket; 2],
    queue: BinaryHeap<Reverse<(u64, u64, What)>>,
    made: u64,
    uncounted_open: BTreeSet<u32>,
}

/// A partition of GSI1.
#[derive(Clone, Copy)]
pub(super) enum Partition {
    /// `DRIVER#ACTIVE`.
    Drivers,
    /// `DISPATCH#REQUESTED`.
    Requests,
}

impl<'a> World<'a> {
    /// The initial state, in which a share of the drivers that corresponds to the demand is on a ride.
    pub(super) fn new(setup: Setup<'a>) -> anyhow::Result<Self> {
        let trace = Trace::of(setup.seoul, setup.scenario, setup.seed);
        let mut world = Self {
            policy: setup.arm.policy(),
            trace,
            now: 0,
            index: setup.seoul.fleet(setup.seed, setup.scenario.drivers)?,
            drivers: Vec::new(),
            requests: Vec::new(),
            waiting: VecDeque::new(),
            gathered: Vec::new(),
            ledger: Ledger::default(),
            active: setup.scenario.drivers as usize,
            throttled: 0,
            writes_throttled: 0,
            supply: Vec::new(),
            shared: Shared::new(setup.arm.source(), setup.costs),
            searching: false,
            partitions: [TokenBucket::full(PARTITION_WRITE_UNITS), TokenBucket::full(PARTITION_WRITE_UNITS)],
            queue: BinaryHeap::new(),
            made: 0,
            uncounted_open: BTreeSet::new(),
            setup,
        };
        for number in 0..setup.scenario.drivers {
            world.add_driver(number)?;
        }
        for slot in 0..PING_SLOTS {
            world.at(u64::from(slot) * PING_MS / u64::from(PING_SLOTS), What::Ping(slot));
        }
        world.at(WINDOW_MS, What::Window);
        let asks: Vec<u64> = world.trace.requests.iter().map(|request| request.at).collect();
        for (number, at) in (0..).zip(asks) {
            world.at(at, What::Ask(number));
        }
        Ok(world)
    }

    fn add_driver(&mut self, number: u32) -> anyhow::Result<()> {
        let seed = self.setup.seed;
        let car = Car::at(self.setup.seoul.home(seed, number), Dice::for_actor(seed, Actor::Cruise(number)));
        let id = driver_id(number)?;
        self.drivers.push(Driver { id, car, riding_since: None, idle_from: 0, idle_ms: 0, offers: 0 });
        let mut habits = Dice::for_actor(seed, Actor::DriverHabits(number));
        if habits.chance(self.setup.scenario.demand.min(0.95)) {
            let left_s = habits.between(0.0..self.trace.busy_s);
            self.set_out(number);
            self.after(dispatch_simulator::random::millis(left_s), What::RideOver { driver: number, request: None });
        }
        Ok(())
    }

    /// Schedules an event at a time, ms.
    pub(super) fn at(&mut self, at: u64, what: What) {
        self.made += 1;
        self.queue.push(Reverse((at, self.made, what)));
    }

    /// Schedules an event after a delay, ms.
    pub(super) fn after(&mut self, ms: u64, what: What) {
        self.at(self.now + ms, what);
    }

    /// Virtual time, as core's type.
    pub(super) fn epoch(&self) -> EpochMs {
        EpochMs(i64::try_from(self.now).unwrap_or(i64::MAX))
    }

    /// Plays until every counted request has ended.
    pub(super) fn run(&mut self) -> anyhow::Result<()> {
        let counted_to = self.setup.scenario.counted_to();
        while let Some(Reverse((at, _, what))) = self.queue.pop() {
            self.now = at;
            if at > counted_to && self.uncounted_open.is_empty() {
                break;
            }
            self.happens(what)?;
        }
        self.ledger.close(self.now);
        for number in 0..self.drivers.len() {
            if self.drivers[number].riding_since.is_none() {
                self.count_idle(number);
            }
        }
        Ok(())
    }

    fn happens(&mut self, what: What) -> anyhow::Result<()> {
        match what {
            What::Ping(slot) => self.ping(slot),
            What::Ask(number) => self.ask(number)?,
            What::Search => self.start_searches(),
            What::RideOver { driver, request } => self.ride_over(driver, request),
            What::Window => {
                self.sample_supply();
                if self.setup.arm == Arm::E {
                    self.close_window();
                }
                self.after(WINDOW_MS, What::Window);
            }
            What::Look(_) | What::Searched(_) | What::Answer { .. } | What::TimeOut { .. } | What::GiveUp(_) => {
                if self.setup.arm == Arm::F { self.broadcast(what) } else { self.one_by_one(what) }
            }
        }
        Ok(())
    }

    fn ping(&mut self, slot: u32) {
        let now = self.epoch();
        for number in (slot as usize..self.drivers.len()).step_by(PING_SLOTS as usize) {
            let driver = &mut self.drivers[number];
            if driver.riding_since.is_none() {
                let position = driver.car.roam(self.now);
                self.index.ping(&driver.id, position, now);
            }
        }
        self.after(PING_MS, What::Ping(slot));
    }

    fn ask(&mut self, number: u32) -> anyhow::Result<()> {
        let plan = self.trace.requests[number as usize];
        let id = DispatchId::parse(format!("dispatch#{number:06}"))?;
        let user = UserId::parse(format!("user#{number:06}"))?;
        let dispatch = new_dispatch(id, user, &plan, &self.policy);
        let mut bill = Bill::default();
        bill::request_stored(self.setup.arm, &mut bill);
        self.requests.push(Request {
            plan,
            dispatch,
            listed: false,
            accepted_at: None,
            pickup_m: 0.0,
            driven_ms: 0,
            gave_up: false,
            pushes: 0,
            wasted: 0,
            open: BTreeMap::new(),
            bill,
            closed_at: None,
        });
        if self.counts(number) {
            self.uncounted_open.insert(number);
        }
        self.index_write(Partition::Requests, 1.0);
        self.after(STREAM_MS, What::Look(number));
        self.after(plan.patience_ms, What::GiveUp(number));
        Ok(())
    }

    /// Whether a request is in the counted time.
    pub(super) fn counts(&self, number: u32) -> bool {
        let at = self.requests[number as usize].plan.at;
        (self.setup.scenario.counted_from()..self.setup.scenario.counted_to()).contains(&at)
    }

    /// Records that a request was accepted or has ended.
    pub(super) fn close(&mut self, number: u32) {
        self.requests[number as usize].closed_at = Some(self.now);
        self.uncounted_open.remove(&number);
    }

    /// Pushes an offer to a driver and schedules the driver's answer.
    pub(super) fn push_offer(&mut self, number: u32, driver: u32, offer: u32) {
        let counted = self.is_counted_time(self.now);
        self.drivers[driver as usize].offers += u32::from(counted);
        let entry = self.ledger.offer(driver, self.now);
        let request = &mut self.requests[number as usize];
        request.pushes += 1;
        request.open.insert(driver, (self.now, entry));
        if let Some((answer, delay_ms)) = self.trace.answer(number, driver) {
            let answered = Answered { accepts: answer == Answer::Accept, seen_at: self.now + PUSH_MS };
            self.after(PUSH_MS + delay_ms, What::Answer { request: number, driver, offer, answer: answered });
        }
    }

    /// Whether the driver accepts. A driver whose ride began before the offer was seen does not.
    pub(super) fn still_accepts(&self, driver: u32, answer: Answered) -> bool {
        answer.accepts && self.drivers[driver as usize].riding_since.is_none_or(|since| since >= answer.seen_at)
    }

    /// Ends an offer; returns its duration, ms.
    pub(super) fn offer_over(&mut self, number: u32, driver: u32) -> u64 {
        let Some((since, entry)) = self.requests[number as usize].open.remove(&driver) else { return 0 };
        self.ledger.offer_over(entry, self.now);
        self.now - since
    }

    /// Ends an offer without a ride.
    pub(super) fn refused(&mut self, number: u32, driver: u32, how: NoRide) {
        let lasted_ms = self.offer_over(number, driver);
        let arm = self.setup.arm;
        bill::no_ride(arm, how, lasted_ms, &mut self.requests[number as usize].bill);
        self.index_write(Partition::Requests, 1.0);
        if arm.reserves() {
            let rests_ms = match how {
                NoRide::Rejected => self.policy.cool_down_after_reject_ms,
                NoRide::TimedOut => self.policy.cool_down_after_timeout_ms,
            };
            let rests_until = self.epoch().plus_ms(rests_ms);
            self.change(driver, |known| {
                known.rests_until = rests_until;
                known.acceptance.offered += 1;
            });
        }
    }

    /// Changes a driver in the index.
    pub(super) fn change(&mut self, driver: u32, change: impl FnOnce(&mut LiveDriver)) {
        self.index.change(&self.drivers[driver as usize].id, change);
    }

    /// Gives the ride to a driver who is free, which is the condition of the table; returns whether that was so.
    pub(super) fn occupy(&mut self, number: u32, driver: u32) -> bool {
        if self.drivers[driver as usize].riding_since.is_some() {
            return false;
        }
        let lasted_ms = self.offer_over(number, driver);
        let request = &mut self.requests[number as usize];
        bill::accepted(self.setup.arm, lasted_ms, &mut request.bill);
        let from = self.drivers[driver as usize].car.position(self.now);
        let (pickup, ride_ms) = (request.plan.pickup, request.plan.ride_ms);
        request.accepted_at = Some(self.now);
        request.pickup_m = from.distance_to(pickup).0;
        request.driven_ms = pickup_ms(from, pickup) + ride_ms;
        let over_at = self.now + request.driven_ms;
        self.set_out(driver);
        self.ledger.rides.push(Interval { driver, from: self.now, to: over_at });
        self.ledger.accepted(number);
        self.change(driver, |known| {
            known.acceptance.offered += 1;
            known.acceptance.accepted += 1;
        });
        self.at(over_at, What::RideOver { driver, request: Some(number) });
        self.index_write(Partition::Requests, 1.0);
        self.index_write(Partition::Drivers, 1.0);
        self.close(number);
        true
    }

    fn set_out(&mut self, driver: u32) {
        self.count_idle(driver as usize);
        let now = self.now;
        let free = &mut self.drivers[driver as usize];
        free.riding_since = Some(now);
        free.car.stop(now);
        self.active -= 1;
        self.change(driver, |known| {
            known.status = PersonStatus::Dispatched;
            known.held_until = EpochMs(0);
        });
    }

    fn ride_over(&mut self, driver: u32, request: Option<u32>) {
        let (now, epoch) = (self.now, self.epoch());
        let place = match request {
            Some(number) => self.requests[number as usize].plan.destination,
            None => self.drivers[driver as usize].car.position(now),
        };
        let free = &mut self.drivers[driver as usize];
        free.riding_since = None;
        free.idle_from = now;
        free.car.drive(place, now, now);
        free.car.release();
        self.active += 1;
        self.change(driver, |known| {
            *known =
                LiveDriver { seen_at: epoch, idle_since: epoch, acceptance: known.acceptance, ..free_driver(place) };
        });
        self.index_write(Partition::Drivers, 1.0);
    }

    fn is_counted_time(&self, at: u64) -> bool {
        (self.setup.scenario.counted_from()..self.setup.scenario.counted_to()).contains(&at)
    }

    /// Adds a driver's idle time up to now, as far as it is in the counted time.
    fn count_idle(&mut self, number: usize) {
        let (from, to) = (self.setup.scenario.counted_from(), self.setup.scenario.counted_to());
        let driver = &mut self.drivers[number];
        driver.idle_ms += self.now.min(to).saturating_sub(driver.idle_from.max(from));
    }

    /// Writes to a partition of GSI1.
    pub(super) fn index_write(&mut self, partition: Partition, units: f64) {
        let now = self.now;
        let there = self.partitions[partition as usize].take(units, now);
        self.writes_throttled += u64::from(!there);
    }

    fn sample_supply(&mut self) {
        if self.is_counted_time(self.now) && !self.uncounted_open.is_empty() {
            self.supply.push(self.active as f64 / self.uncounted_open.len() as f64);
        }
    }

    pub(super) fn source(&self) -> Source {
        self.setup.arm.source()
    }

    /// Radius of the last search ring.
    pub(super) fn farthest(&self) -> Metres {
        Metres(self.policy.search_rings_m.last().copied().map_or(0.0, f64::from))
    }
}
