//! A worker with all roles behind a recorder, its city, its people's apps and the ledger of what it did.

use dispatch_tests::recorder::Recorder;

use crate::leaks::nothing_is_told;
use crate::ledger::{self, Ledger};
use crate::process::{Process, Surroundings, free_port};
use crate::support::City;
use crate::trip::{Apps, Ride};

pub struct Bench {
    pub name: String,
    /// Ends before its surroundings, which are searched then.
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
        let (apps, ledger) = (Apps::of(&city, port), Ledger::open(&city, &city.config.table.stream_arn).await);
        Self { name: name.to_owned(), city, recorder, surroundings, worker, port, apps, rides: Vec::new(), ledger }
    }

    /// What must hold of the city when every ride has come to its end, and of what the worker told of them.
    pub async fn audit(&mut self) {
        assert_eq!(ledger::faults(&self.city, &mut self.ledger, &self.rides).await, [""; 0]);
        nothing_is_told(&self.surroundings, &[&self.worker], &self.apps).await;
    }
}
