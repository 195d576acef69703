//! A worker with all roles behind a recorder, with its city, the apps of its people and a ledger for the audit.
use dispatch_tests::recorder::Recorder;

use crate::leaks::assert_no_secrets;
use crate::ledger::{self, Ledger};
use crate::process::{Process, Surroundings, free_port};
use crate::support::City;
use crate::trip::{Apps, Ride};

pub struct Bench {
    pub name: String,
    /// Dropped before `surroundings`, which search its output when they are dropped.
    pub worker: Process,
    pub surroundings: Surroundings,
    pub city: City,
    pub recorder: Recorder,
    pub port: u16,
    pub apps: Apps,
    pub rides: Vec<Ride>,
    ledger: Ledger,
}

impl Bench {
    pub async fn open(name: &str) -> Self {
        let city = City::create().await;
        let recorder = Recorder::aws(&city.ministack.endpoint()).await.unwrap();
        let surroundings = Surroundings::new(&city.config.to_json_pretty().unwrap(), recorder.endpoint(), None);
        let port = free_port();
        let worker = surroundings.start(name, "all", port).await;
        let (apps, ledger) = (Apps::new(&city, port), Ledger::open(&city, &city.config.table.stream_arn).await);
        Self { name: name.to_owned(), city, recorder, surroundings, worker, port, apps, rides: Vec::new(), ledger }
    }

    /// Checks the invariants of a city in which every ride has ended, and that the worker leaked no secret.
    pub async fn audit(&mut self) {
        assert_eq!(ledger::faults(&self.city, &mut self.ledger, &self.rides).await, [""; 0]);
        assert_no_secrets(&self.surroundings, &[&self.worker], &self.apps).await;
    }
}
