//! A worker whose machine has the wrong time runs beside one with the right time: no offer ends early or late, every
//! ride completes, and the worker says that its clock is wrong.

use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::Command;

use dispatch_tests::support::until;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Duration, sleep};

use crate::ledger::{self, Ledger};
use crate::process::{Process, Surroundings, free_port};
use crate::support::City;
use crate::trip::{Apps, Call, Caller, Ride};

const TRUSTED: &str = "dispatch_clock_trusted";
/// Longer than the longest time between two rounds of a sweeper, and shorter than an offer lasts.
const OFFER_HELD: Duration = Duration::from_secs(8);
const OFFER_LASTS_MS: u64 = 15_000;
const HOUR_MS: i64 = 3_600_000;

/// The clock of a process, set by the test.
struct ShiftedClock {
    folder: tempfile::TempDir,
    file: std::fs::File,
}

impl ShiftedClock {
    fn new(shift_ms: i64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("shifted_clock.c");
        std::fs::write(&source, include_str!("shifted_clock.c")).unwrap();
        let library = folder.path().join("shifted_clock.so");
        // The C compiler that links Rust programs.
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&library).arg(&source);
        assert!(compiler.status().expect("a C compiler").success());
        let file = std::fs::File::create(folder.path().join("shift")).unwrap();
        let clock = Self { folder, file };
        clock.set(shift_ms);
        clock
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Sets the clock of running processes.
    fn set(&self, shift_ms: i64) {
        self.file.write_all_at(&shift_ms.to_ne_bytes(), 0).unwrap();
    }

    /// The commands of a shell whose program gets this clock.
    fn commands(&self) -> String {
        let (library, shift) = (self.path("shifted_clock.so"), self.path("shift"));
        format!("export LD_PRELOAD='{}' SHIFTED_CLOCK='{}'", library.display(), shift.display())
    }
}

struct Bench {
    city: City,
    /// Dropped before `surroundings`, which search its output when they are dropped.
    right: Process,
    surroundings: Surroundings,
    apps: Apps,
    ledger: Ledger,
}

impl Bench {
    async fn start() -> Self {
        let mut city = City::create().await;
        city.config.dispatch.offer_timeout_ms = OFFER_LASTS_MS;
        let surroundings = Surroundings::new(&city.config.to_json_pretty().unwrap(), city.ministack.endpoint(), None);
        let port = free_port();
        let right = surroundings.start("right", "all", port).await;
        let (apps, ledger) = (Apps::new(&city, port), Ledger::open(&city, &city.config.table.stream_arn).await);
        Self { city, right, surroundings, apps, ledger }
    }

    /// A worker without API beside the right one.
    async fn beside(&self, name: &str, clock: &ShiftedClock) -> Process {
        let roles = "dispatch-algorithm,driver-response";
        self.surroundings.start_after(&clock.commands(), name, roles, free_port()).await
    }

    async fn shows(&self, process: &Process, trusted: u64) {
        until(&format!("the clock of {} to be judged", process.name), async || {
            (process.metric(TRUSTED).await == trusted).then_some(())
        })
        .await;
    }

    /// A ride whose first offer is accepted shortly before it ends, and some rides that are accepted at once.
    async fn rides(&self, name: &str) -> Vec<Ride> {
        let slow = async {
            let name = format!("{name}-slow");
            self.apps.people(&name).await;
            let mut ride = self.apps.ask(&name).await;
            let offered = until("an offer", async || {
                self.apps.ping().await;
                let now = self.apps.read(&ride).await;
                now["driverId"].is_string().then_some(now)
            })
            .await;
            sleep(OFFER_HELD).await;
            let (status, answer) = self.accept(&ride, &offered).await;
            assert!(status, "{name}: the offer is still open: {answer}");
            offered["driverId"].as_str().unwrap().clone_into(&mut ride.driver);
            self.apps.drive(&ride).await;
            ride
        };
        let quick = async {
            let mut rides = Vec::new();
            for number in 0..3 {
                rides.push(self.apps.ride(&format!("{name}-{number}")).await);
            }
            rides
        };
        let (slow, mut rides) = tokio::join!(slow, quick);
        rides.push(slow);
        rides
    }

    async fn accept(&self, ride: &Ride, offered: &Value) -> (bool, Value) {
        let driver = offered["driverId"].as_str().unwrap();
        let body = json!({ "driverId": driver, "offerSeq": offered["offerSeq"], "response": "ACCEPT" });
        let id = ride.dispatch.trim_start_matches("dispatch#");
        let call = Call::new(Method::POST, format!("/v1/dispatches/{id}/response")).body(body);
        let (status, answer) = self.apps.settled(Caller::Driver(driver), &call).await;
        (status.is_success(), answer)
    }

    async fn end(mut self, rides: &[Ride]) {
        assert_eq!(self.right.metric(TRUSTED).await, 1);
        assert_eq!(ledger::faults(&self.city, &mut self.ledger, rides).await, [""; 0]);
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.surroundings.folder.path().join(format!("{name}.log"))).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_clock_is_ahead_or_behind_ends_no_offer_and_says_so() {
    let bench = Bench::start().await;
    let mut rides = Vec::new();
    for (name, shift_ms) in [("ahead", 45_000), ("behind", -45_000)] {
        let clock = ShiftedClock::new(shift_ms);
        let wrong = bench.beside(name, &clock).await;
        bench.shows(&wrong, 0).await;
        rides.extend(bench.rides(name).await);
        bench.shows(&wrong, 0).await;
        let log = bench.log(name);
        assert_eq!(log.matches("the clock of this machine differs from that of AWS").count(), 1, "{log}");
    }
    bench.end(&rides).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_by_an_hour_and_back_costs_no_ride() {
    let bench = Bench::start().await;
    let clock = ShiftedClock::new(0);
    let jumping = bench.beside("jumping", &clock).await;
    // Their calls tell the worker the time of AWS.
    let mut rides = bench.rides("before").await;
    let jump = async {
        clock.set(HOUR_MS);
        sleep(Duration::from_secs(10)).await;
        assert_eq!(jumping.metric(TRUSTED).await, 0);
        clock.set(0);
    };
    let (during, ()) = tokio::join!(bench.rides("during"), jump);
    bench.shows(&jumping, 1).await;
    rides.extend(during);
    rides.extend(bench.rides("after").await);
    let log = bench.log("jumping");
    assert_eq!(log.matches("agrees with that of AWS again").count(), 1, "{log}");
    drop(jumping);
    bench.end(&rides).await;
}
