//! A worker with all roles behind a recorder, with its city, the apps of its people and a ledger for the audit.

use dispatch_api::worker_config::WorkerConfig;
use dispatch_tests::recorder::Recorder;

use crate::leaks::{found_in, texts_in};
use crate::ledger::{self, Ledger};
use crate::process::{Process, Surroundings, free_port};
use crate::support::City;
use crate::trip::{Apps, Ride};

pub(crate) struct Bench {
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
    pub(crate) async fn open(name: &str) -> Self {
        Self::open_with(name, |_| {}).await
    }

    /// Like [`Self::open`], with another configuration.
    pub(crate) async fn open_with(name: &str, change: impl FnOnce(&mut WorkerConfig)) -> Self {
        let mut city = City::create().await;
        change(&mut city.config);
        let recorder = Recorder::aws(&city.ministack.endpoint()).await.unwrap();
        let surroundings = Surroundings::new(&city.config.to_json_pretty().unwrap(), recorder.endpoint(), None);
        let port = free_port();
        let worker = surroundings.start(name, "all", port).await;
        let (apps, ledger) = (Apps::new(&city, port), Ledger::open(&city, &city.config.table.stream_arn).await);
        Self { name: name.to_owned(), city, recorder, surroundings, worker, port, apps, rides: Vec::new(), ledger }
    }

    /// Checks the invariants of a city in which every ride has ended, and that the worker leaked no secret.
    pub(crate) async fn audit(&mut self) {
        assert_eq!(ledger::faults(&self.city, &mut self.ledger, &self.rides).await, [""; 0]);
        assert_no_secrets(&self.surroundings, &[&self.worker], &self.apps).await;
    }
}

/// Fails if the logs of these surroundings or the metrics of running processes contain a secret.
async fn assert_no_secrets(surroundings: &Surroundings, processes: &[&Process], apps: &Apps) {
    let tokens = apps.tokens();
    assert!(!tokens.is_empty(), "no request was made");
    // The last part of a token is its signature.
    let signatures: Vec<&str> = tokens.iter().filter_map(|token| token.rsplit('.').next()).collect();
    let mut texts = texts_in(surroundings.folder.path());
    for process in processes {
        texts.push((process.name.clone(), process.metrics().await));
    }
    let found = texts.iter().flat_map(|(place, text)| found_in(place, text, &signatures));
    assert_eq!(found.collect::<Vec<_>>(), [""; 0]);
}
