//! Races for one offer: several workers, each with its own engine, send contradicting events at the same moment, and
//! the table decides. In each race a driver has the live offers of two dispatches, as after a lost reservation.
//!
//! `RACES` sets the number of races (`RACES=100000`), `RACES_SEED` the random seed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use dispatch_core::dispatch::Event;
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_core::policy::DispatchPolicy;
use dispatch_runtime::adapters::eta::StraightLine;
use dispatch_runtime::adapters::fleet::fake::FakeFleet;
use dispatch_runtime::adapters::messaging::fake::{FakeDevices, FakeEvents, FakeNotifier, FakeResponses, FakeTimers};
use dispatch_runtime::engine::{Engine, EngineError};
use dispatch_runtime::ports::clock::FakeClock;
use dispatch_runtime::ports::{FleetPorts, PortError, Ports};
use dispatch_runtime::telemetry::metrics::Metrics;
use serde_json::Value;

use crate::store::dynamo_table::DynamoTable;
use crate::store::dynamodb::Aws;
use crate::store::table::{Table, start};
use crate::support::seoul;

/// Workers, and therefore the most contenders.
const WORKERS: usize = 4;
/// Races per table: few enough to audit the whole table afterwards.
const BLOCK: usize = 100;
/// Default number of races on the table in memory: about ten seconds.
const IN_MEMORY: usize = 4_000;
/// Default number of races on DynamoDB: each is a dozen calls, and the emulator answers about five hundred a second.
const ON_DYNAMODB: usize = 500;
/// Retries of a contender that gets a temporary error, as apps retry: on a busy machine one attempt may use up the
/// whole budget.
const COMES_AGAIN: usize = 5;
/// Items per `BatchWriteItem`.
const BATCH: usize = 25;

/// What a contender tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    Accept,
    AcceptOther,
    AcceptByStranger,
    AcceptEarlierOffer,
    Reject,
    TimeOut,
    CancelByUser,
}

const ATTEMPTS: [Attempt; 7] = [
    Attempt::Accept,
    Attempt::AcceptOther,
    Attempt::Reject,
    Attempt::TimeOut,
    Attempt::CancelByUser,
    Attempt::AcceptByStranger,
    Attempt::AcceptEarlierOffer,
];

/// A small random generator (`SplitMix64`), so that a seed always reproduces the same run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }

    /// Two to four contenders. The first can win; accepts are more frequent and may occur twice.
    fn attempts(&mut self) -> Vec<Attempt> {
        let mut attempts = vec![ATTEMPTS[self.below(5)]];
        for _ in 0..=self.below(WORKERS - 1) {
            let choice = self.below(ATTEMPTS.len() + 3);
            attempts.push(ATTEMPTS.get(choice).copied().unwrap_or(Attempt::Accept));
        }
        attempts
    }
}

/// One race: two dispatches offered to one driver.
struct Race {
    number: usize,
    attempts: Vec<Attempt>,
}

impl Race {
    fn user(&self, other: &str) -> String {
        format!("user#{}{other}", self.number)
    }

    fn dispatch(&self, other: &str) -> String {
        format!("dispatch#{}{other}", self.number)
    }

    fn driver(&self) -> String {
        format!("driver#{}", self.number)
    }

    /// Offers both dispatches to the same driver; it is the second offer of each.
    async fn prepare(&self, table: &Table) {
        let driver = table.add_driver(&self.driver()).await;
        let first = DriverId::parse("driver#before").unwrap();
        for other in ["", "x"] {
            let user = table.add_user(&self.user(other)).await;
            let requested = table.request(&self.dispatch(other), &user, start()).await;
            let offered = table.offer(&requested, &first, start()).await;
            let reject = Event::Reject { driver: first.clone(), offer_seq: 1 };
            let rejected = table.apply(&offered, &crate::store::table::decide(&offered, reject, start()), None).await;
            table.offer(&rejected, &driver, start()).await;
        }
    }

    fn event(&self, attempt: Attempt) -> (DispatchId, Event) {
        let driver = DriverId::parse(self.driver()).unwrap();
        let stranger = DriverId::parse("driver#before").unwrap();
        let event = match attempt {
            Attempt::Accept | Attempt::AcceptOther => Event::Accept { driver, offer_seq: 2 },
            Attempt::AcceptByStranger => Event::Accept { driver: stranger, offer_seq: 2 },
            Attempt::AcceptEarlierOffer => Event::Accept { driver: stranger, offer_seq: 1 },
            Attempt::Reject => Event::Reject { driver, offer_seq: 2 },
            Attempt::TimeOut => Event::OfferTimedOut { offer_seq: 2 },
            Attempt::CancelByUser => Event::CancelByUser { user: UserId::parse(self.user("")).unwrap() },
        };
        let other = if attempt == Attempt::AcceptOther { "x" } else { "" };
        (DispatchId::parse(self.dispatch(other)).unwrap(), event)
    }

    /// Runs all contenders at the same time. Returns for each whether its own attempt took effect.
    async fn run(&self, engines: &[Arc<Engine>]) -> Vec<bool> {
        let together = Arc::new(tokio::sync::Barrier::new(self.attempts.len()));
        let contenders: Vec<_> = std::iter::zip(&self.attempts, engines)
            .map(|(attempt, engine)| {
                let ((id, event), engine, together) = (self.event(*attempt), engine.clone(), together.clone());
                tokio::spawn(async move {
                    together.wait().await;
                    for _ in 0..COMES_AGAIN {
                        match engine.apply(&id, event.clone()).await {
                            Err(EngineError::Port(PortError::Unavailable { .. })) => {}
                            settled => return settled,
                        }
                    }
                    engine.apply(&id, event).await
                })
            })
            .collect();
        let mut came_true = Vec::new();
        for (contender, attempt) in std::iter::zip(contenders, &self.attempts) {
            came_true.push(match contender.await.unwrap() {
                Ok(applied) => applied.changed,
                Err(EngineError::Refused { .. }) => false,
                Err(error) => panic!("race {}, {attempt:?} among {:?}: {error:?}", self.number, self.attempts),
            });
        }
        came_true
    }

    /// The table must match the answers that the contenders got, be consistent and have one winner.
    fn audit(&self, items: &HashMap<String, Vec<Value>>, came_true: &[bool]) {
        let story = format!("race {}: {:?} {came_true:?}", self.number, self.attempts);
        let true_of = |attempt: Attempt| {
            let results = std::iter::zip(&self.attempts, came_true);
            results.filter(|(other, came_true)| **other == attempt && **came_true).count()
        };
        let (this, other) = (meta(items, &self.dispatch("")), meta(items, &self.dispatch("x")));
        let (endings, other_endings) = (endings(this, &story), endings(other, &story));
        let count = |kind: &str| endings.iter().filter(|ending| **ending == kind).count();
        let answered = count("DRIVER_ACCEPTED") + count("DRIVER_REJECTED");
        assert!(answered <= 1, "{story}: the offer was answered {answered} times");
        assert_eq!(count("DRIVER_ACCEPTED"), true_of(Attempt::Accept), "{story}");
        assert_eq!(count("CANCELLED_BY_USER"), true_of(Attempt::CancelByUser), "{story}");
        let ended = true_of(Attempt::Reject) + true_of(Attempt::TimeOut);
        let void = count("DRIVER_REJECTED") - ended.min(count("DRIVER_REJECTED"));
        let lost_to_other = true_of(Attempt::AcceptOther) == 1 && self.attempts.contains(&Attempt::Accept);
        assert!(ended <= 1 && (void == 0 || lost_to_other), "{story}: {endings:?}");
        assert_eq!(true_of(Attempt::AcceptByStranger) + true_of(Attempt::AcceptEarlierOffer), 0, "{story}");
        let other_accepted = other_endings.contains(&"DRIVER_ACCEPTED");
        assert_eq!(usize::from(other_accepted), true_of(Attempt::AcceptOther), "{story}");

        let on = |item: &Value| item["status"] == "ACCEPTED" && item["driverId"] == self.driver().as_str();
        assert!(!(on(this) && on(other)), "{story}: one driver on two dispatches");
        let driver = &profile(items, &self.driver())["currentStatus"];
        let expected = [(this, ""), (other, "x")].into_iter().find(|(item, _)| on(item));
        let expected = expected.map(|(_, other)| self.dispatch(other));
        assert_eq!(driver["currentDispatchId"].as_str(), expected.as_deref(), "{story}");
        assert_eq!(driver["status"], if expected.is_some() { "DISPATCHED" } else { "ACTIVE" }, "{story}");
        let was_taken = count("DRIVER_ACCEPTED") == 1 || other_accepted;
        let taken = items[&self.driver()]
            .iter()
            .any(|item| item["EntityType"] == "DRIVER_STATUS_HISTORY" && item["status"] == "DISPATCHED");
        assert_eq!(taken, was_taken, "{story}: the driver's history");
        for (item, other) in [(this, ""), (other, "x")] {
            let over = item["status"] == "CANCELLED";
            let user = &profile(items, &self.user(other))["currentStatus"];
            assert_eq!(user["status"], if over { "ACTIVE" } else { "DISPATCHED" }, "{story}");
            assert_eq!(user["currentDispatchId"].is_null(), over, "{story}");
            assert_eq!(items[&self.user(other)].len(), 1 + usize::from(over), "{story}: the user's history");
        }
    }
}

fn meta<'a>(items: &'a HashMap<String, Vec<Value>>, pk: &str) -> &'a Value {
    items[pk].iter().find(|item| item["SK"] == "METADATA").unwrap()
}

fn profile<'a>(items: &'a HashMap<String, Vec<Value>>, pk: &str) -> &'a Value {
    items[pk].iter().find(|item| item["SK"] == "PROFILE").unwrap()
}

/// The events since the race began: one per version; the first four are older.
fn endings<'a>(dispatch: &'a Value, story: &str) -> Vec<&'a str> {
    let events = dispatch["events"].as_array().unwrap();
    assert_eq!(dispatch["ver"], events.len(), "{story}: each write is one event");
    assert_eq!(dispatch["offerSeq"], 2, "{story}");
    events[4..].iter().map(|event| event["type"].as_str().unwrap()).collect()
}

fn engines(table: &Table) -> Vec<Arc<Engine>> {
    let end_of_offer = start().plus_ms(DispatchPolicy::default().offer_timeout_ms);
    let clock = Arc::new(FakeClock::at(end_of_offer));
    let fleet = Arc::new(FakeFleet::new(seoul(), clock.clone()));
    let worker = |_| {
        let ports = Ports {
            dispatches: table.dispatches(),
            profiles: table.profiles(),
            fleet: FleetPorts::new(&fleet),
            timers: Arc::new(FakeTimers::default()),
            responses: Arc::new(FakeResponses::default()),
            notifier: Arc::new(FakeNotifier::default()),
            devices: Arc::new(FakeDevices::default()),
            streams: Arc::new(FakeEvents::default()),
            eta: Arc::new(StraightLine::new(seoul())),
            clock: clock.clone(),
        };
        Arc::new(Engine::new(ports, seoul(), Arc::new(Metrics::new())))
    };
    (0..WORKERS).map(worker).collect()
}

fn by_partition(items: Vec<Value>) -> HashMap<String, Vec<Value>> {
    let mut found: HashMap<String, Vec<Value>> = HashMap::new();
    for item in items {
        found.entry(item["PK"].as_str().unwrap().to_owned()).or_default().push(item);
    }
    found
}

fn partitions(races: &[Race]) -> impl Iterator<Item = String> {
    races.iter().flat_map(|race| [race.driver(), race.user(""), race.user("x"), race.dispatch(""), race.dispatch("x")])
}

async fn all_of(table: &Table, races: &[Race]) -> Vec<Value> {
    let mut items = Vec::new();
    for pk in partitions(races) {
        items.extend(table.partition(&pk).await);
    }
    items
}

impl DynamoTable {
    /// Writes the items of another table.
    async fn copy(&self, items: Vec<Value>) {
        for batch in items.chunks(BATCH) {
            let requests = batch.iter().map(|item| {
                let item: HashMap<String, AttributeValue> = serde_dynamo::to_item(item).unwrap();
                let put = PutRequest::builder().set_item(Some(item)).build().unwrap();
                WriteRequest::builder().put_request(put).build()
            });
            let written = self.client.batch_write_item().request_items(&self.name, requests.collect()).send().await;
            assert!(written.unwrap().unprocessed_items.is_none_or(|left| left.is_empty()));
        }
    }

    /// All items of the table.
    async fn scan(&self) -> Vec<Value> {
        let pages = self.client.scan().table_name(&self.name).consistent_read(true).into_paginator().items().send();
        let items = pages.collect::<Result<Vec<_>, _>>().await.unwrap();
        items.into_iter().map(|item| serde_dynamo::from_item(item).unwrap()).collect()
    }
}

/// Runs races in blocks. A block is prepared in memory and copied to DynamoDB if `aws` is given.
async fn run(name: &str, count: usize, aws: Option<&Aws>) {
    let number_in = |variable: &str| std::env::var(variable).ok().map(|text| text.parse::<usize>().unwrap());
    let count = number_in("RACES").unwrap_or(count);
    let seed = number_in("RACES_SEED").unwrap_or(1);
    let mut random = Random(seed as u64);
    let (begin, mut racing) = (Instant::now(), std::time::Duration::ZERO);
    let mut won = HashMap::<String, usize>::new();
    for first in (0..count).step_by(BLOCK) {
        let numbers = first..count.min(first + BLOCK);
        let races: Vec<Race> = numbers.map(|number| Race { number, attempts: random.attempts() }).collect();
        let memory = Table::memory();
        for race in &races {
            race.prepare(&memory).await;
        }
        let table = match aws {
            None => memory,
            Some(aws) => {
                let table = aws.table(1).await;
                if let Table::Dynamo(dynamo) = &table {
                    dynamo.copy(all_of(&memory, &races).await).await;
                }
                table
            }
        };
        let engines = engines(&table);
        let start_of_block = Instant::now();
        let mut outcomes = Vec::new();
        for race in &races {
            outcomes.push(race.run(&engines).await);
        }
        racing += start_of_block.elapsed();
        let items = match &table {
            Table::Memory(_) => all_of(&table, &races).await,
            Table::Dynamo(dynamo) => {
                let items = dynamo.scan().await;
                dynamo.client.delete_table().table_name(&dynamo.name).send().await.unwrap();
                items
            }
        };
        let items = by_partition(items);
        for (race, came_true) in std::iter::zip(&races, &outcomes) {
            race.audit(&items, came_true);
            let winners = std::iter::zip(&race.attempts, came_true).filter(|(_, came_true)| **came_true);
            for (attempt, _) in winners {
                *won.entry(format!("{attempt:?}")).or_default() += 1;
            }
        }
    }
    let mut won: Vec<_> = won.into_iter().collect();
    won.sort_unstable();
    let each_ms = racing.as_secs_f64() * 1000.0 / count as f64;
    println!("{name}, seed {seed}: {count} races in {:.1?}, {each_ms:.2} ms each; came true: {won:?}", begin.elapsed());
    assert_eq!(won.len(), 5, "each of those who can win has won");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_race_in_memory_has_one_winner_and_leaves_nothing_half_done() {
    run("in memory", IN_MEMORY, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_race_on_dynamodb_has_one_winner_and_leaves_nothing_half_done() {
    let aws = Aws::start().await;
    run("on DynamoDB", ON_DYNAMODB, Some(&aws)).await;
}

#[tokio::test]
async fn what_is_left_half_done_does_not_pass_the_audit() {
    let (table, race) =
        (Table::memory(), Race { number: 0, attempts: vec![Attempt::Accept, Attempt::AcceptByStranger] });
    race.prepare(&table).await;
    let outcomes = race.run(&engines(&table)).await;
    assert_eq!(outcomes, [true, false]);
    let whole = by_partition(all_of(&table, std::slice::from_ref(&race)).await);
    race.audit(&whole, &outcomes);
    let edit = |items: &mut HashMap<String, Vec<Value>>, pk: String, sk: &str, change: fn(&mut Value)| {
        change(items.get_mut(&pk).unwrap().iter_mut().find(|item| item["SK"] == sk).unwrap());
    };
    assert!(std::panic::catch_unwind(|| race.audit(&whole, &[false, false])).is_err(), "the answers differ");
    let dispatch: [fn(&mut Value); 4] = [
        |item| item["ver"] = 7.into(),
        |item| item["offerSeq"] = 3.into(),
        |item| item["status"] = "REQUESTED".into(),
        |item| item["events"][4]["type"] = "DRIVER_REJECTED".into(),
    ];
    let person: [fn(&mut Value); 2] = [
        |item| item["currentStatus"]["status"] = "INACTIVE".into(),
        |item| item["currentStatus"]["currentDispatchId"] = "dispatch#elsewhere".into(),
    ];
    let dispatch = dispatch.map(|change| (race.dispatch(""), "METADATA", change));
    let driver = person.map(|change| (race.driver(), "PROFILE", change));
    let mut all = [dispatch.as_slice(), driver.as_slice()].concat();
    all.push((race.user(""), "PROFILE", person[0]));
    for (number, (pk, sk, change)) in all.into_iter().enumerate() {
        let mut items = whole.clone();
        edit(&mut items, pk, sk, change);
        assert!(std::panic::catch_unwind(|| race.audit(&items, &outcomes)).is_err(), "corrupted by {number}");
    }
    let mut items = whole.clone();
    items.get_mut(&race.driver()).unwrap().retain(|item| item["SK"] == "PROFILE");
    assert!(std::panic::catch_unwind(|| race.audit(&items, &outcomes)).is_err(), "a missing history");
}
