//! The state shared by all actors of a run.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use dispatch_core::geo::Coordinate;
use dispatch_core::time::EpochMs;
use tokio::time::{Instant, sleep_until};
use ulid::Ulid;

use crate::api::{Api, ApiError};
use crate::args::Args;
use crate::map::Car;
use crate::metrics::Book;
use crate::random::{Actor, Dice};
use crate::schedule;
use crate::time::wall_clock;
use crate::users::{RequestState, UserPool};

/// The clock of the run: milliseconds since its start, monotonic.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunClock(pub Instant);

impl RunClock {
    pub(crate) fn now(self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) async fn sleep_until(self, at: u64) {
        sleep_until(self.0 + Duration::from_millis(at)).await;
    }
}

/// The state shared by all actors of a run.
pub(crate) struct Run {
    pub args: Args,
    pub api: Api,
    pub book: Arc<Book>,
    pub clock: RunClock,
    /// Start of the run by the wall clock.
    pub began_at: EpochMs,
    /// Distinguishes the users and requests of this run from those of other runs with the same seed.
    pub label: String,
    pub cars: Vec<Mutex<Car>>,
    pub users: Mutex<UserPool>,
    pub requests: Mutex<BTreeMap<u32, RequestState>>,
    pub drivers_connected: AtomicU32,
}

impl Run {
    pub(crate) fn new(args: Args) -> Result<Self, ApiError> {
        let book = Arc::new(Book::default());
        let car = |number| {
            let dice = Dice::for_actor(args.seed, Actor::Cruise(number));
            Mutex::new(Car::at(schedule::driver(&args, number).home.position, dice))
        };
        Ok(Self {
            api: Api::new(&args, Arc::clone(&book))?,
            book,
            clock: RunClock(Instant::now()),
            began_at: wall_clock(),
            label: format!("sim-{}", Ulid::generate()),
            cars: (0..args.drivers).map(car).collect(),
            users: Mutex::new(UserPool::new(args.user_count())),
            requests: Mutex::default(),
            drivers_connected: AtomicU32::new(0),
            args,
        })
    }

    pub(crate) fn car(&self, number: u32) -> Option<&Mutex<Car>> {
        self.cars.get(number as usize)
    }

    /// The current position of a driver.
    pub(crate) fn position(&self, number: u32) -> Coordinate {
        let now = self.clock.now();
        self.car(number).map_or(self.args.city_center, |car| car.lock().position(now))
    }

    /// The current position of a driver and the time by the driver's phone. A free driver keeps cruising.
    pub(crate) fn roam(&self, number: u32) -> (Coordinate, EpochMs) {
        let now = self.clock.now();
        let Some(car) = self.car(number) else { return (self.args.city_center, self.began_at.plus_ms(now)) };
        let mut car = car.lock();
        (car.roam(now), self.began_at.plus_ms(car.phone_time(now)))
    }

    pub(crate) fn note_request(&self, number: u32, state: RequestState) {
        self.requests.lock().insert(number, state);
    }

    /// Prints a progress line on standard error, unless the run is quiet.
    pub(crate) fn say(&self, line: &str) {
        if !self.args.quiet {
            eprintln!("{line}");
        }
    }
}
