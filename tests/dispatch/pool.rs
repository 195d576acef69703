//! Four worker processes on one stream of several shards, killed and paused at random under traffic: nothing is lost,
//! and nothing is done twice.
//!
//! Table, queues, topic and leases are the emulator's; Redis and the processes are real. The records of the emulator's
//! stream are copied to a scripted stream, which has more shards, and whose shards end and get children during the run.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dispatch_tests::dice::Dice;
use dispatch_tests::streams::FakeStreams;
use dispatch_tests::support::until;
use rustix::process::Signal;
use serde_json::Value;
use tokio::time::{Duration, Instant, sleep};

use crate::process::{Process, Surroundings, free_port, number, simulator};
use crate::support::{City, Tap};

const WORKERS: usize = 4;
/// Lines of shards, each of which has one open shard at any time.
const LINES: usize = 6;
/// Duration of the short run; `DISPATCH_POOL_SECONDS` sets another one, `DISPATCH_POOL_SEED` another order of faults.
const SECONDS: u64 = 40;
const SEED: u64 = 7;
/// Longest time until other workers own the leases of one: the fail-over time, checked once a second, on a busy
/// machine.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(30);
/// Longest time until a resumed worker notices that its leases are lost.
const NOTICED_WITHIN: Duration = Duration::from_secs(10);
/// The fail-over time of the program; pauses last longer.
const FAILOVER: Duration = Duration::from_secs(10);
/// Time between a kill and the loss of the unread records, as if a day had passed: before other workers own the shards,
/// and late enough for new records.
const TRIMMED_AFTER: Duration = Duration::from_secs(7);
/// Every third kill loses records, beginning with the second one: a shard without a checkpoint is read from its oldest
/// record, so a loss would not be noticed.
const TRIM_EVERY: usize = 3;

struct Pool {
    city: City,
    /// The emulator's stream; workers are configured with the scripted one.
    emulated_arn: String,
    fake: FakeStreams,
    surroundings: Surroundings,
    /// Number of the open shard of each line.
    ends: [AtomicUsize; LINES],
    hand_overs: Mutex<Vec<Duration>>,
    /// Leases that resumed workers found lost.
    stale: AtomicUsize,
    kills: AtomicUsize,
}

impl Pool {
    fn summary(&self) -> PathBuf {
        self.surroundings.folder.path().join("summary.json")
    }

    async fn start() -> Self {
        let (mut city, fake) = (City::create().await, FakeStreams::start().await.unwrap());
        let shards: Vec<String> = (0..LINES).map(|line| shard(line, 0)).collect();
        let shards: Vec<&str> = shards.iter().map(String::as_str).collect();
        let emulated_arn = city.config.table.stream_arn.clone();
        city.config.table.stream_arn = fake.open_stream("2025-05-25T00:00:00.000", &shards);
        let config = city.config.to_json_pretty().unwrap();
        let surroundings = Surroundings::new(&config, city.ministack.endpoint(), Some(fake.endpoint()));
        Self {
            city,
            emulated_arn,
            fake,
            surroundings,
            ends: std::array::from_fn(|_| AtomicUsize::new(0)),
            hand_overs: Mutex::default(),
            stale: AtomicUsize::new(0),
            kills: AtomicUsize::new(0),
        }
    }

    fn shard_of(&self, line: usize) -> String {
        shard(line, self.ends[line].load(Ordering::SeqCst))
    }

    /// Ends the open shard of a line and continues the line in a child shard.
    fn rotate(&self, line: usize) {
        let (old, next) = (self.shard_of(line), self.ends[line].load(Ordering::SeqCst) + 1);
        self.fake.add_children(&old, &[&shard(line, next)]);
        self.ends[line].store(next, Ordering::SeqCst);
        self.fake.split(&old, &[]);
    }

    async fn worker(&self, number: usize) -> Process {
        self.surroundings.start(&format!("worker-{number}"), "dispatch-algorithm", 0).await
    }

    /// The rows of the lease table, without the list of streams.
    async fn leases(&self) -> Vec<Value> {
        let rows = self.city.scan(&self.city.config.lease_table).await.into_iter();
        rows.filter(|row| row["leaseKey"] != "streams").collect()
    }

    async fn owned_by(&self, name: &str) -> Vec<Value> {
        let prefix = format!("{name}/");
        let rows = self.leases().await.into_iter();
        rows.filter(|row| row["checkpoint"] != "SHARD_END" && text(row, "leaseOwner").starts_with(&prefix)).collect()
    }

    /// Waits until other workers own the leases of a worker, and records how long that took.
    async fn handed_over(&self, worker: &Process, had: usize) {
        let since = Instant::now();
        while !self.owned_by(&worker.name).await.is_empty() {
            assert!(since.elapsed() < HAND_OVER_WITHIN, "{} still has its leases", worker.name);
            sleep(Duration::from_millis(100)).await;
        }
        if had > 0 {
            self.hand_overs.lock().push(since.elapsed());
        }
    }

    async fn kill(&self, slot: &mut Process, number: usize) {
        slot.signal(Signal::KILL);
        let had = self.owned_by(&slot.name).await;
        let trims = self.kills.fetch_add(1, Ordering::SeqCst) % TRIM_EVERY == 1;
        let trimming = async {
            if trims {
                self.trim(&had).await;
            }
        };
        tokio::join!(self.handed_over(slot, had.len()), trimming);
        println!("killed {} with {} leases{}", slot.name, had.len(), if trims { ", records lost" } else { "" });
        *slot = self.worker(number).await;
    }

    /// Removes all records from the shards of these leases.
    async fn trim(&self, leases: &[Value]) {
        sleep(TRIMMED_AFTER).await;
        for lease in leases {
            let shard = text(lease, "leaseKey").rsplit('/').next().unwrap_or_default();
            self.fake.trim(shard, 0);
        }
    }

    /// Pauses a worker for longer than its leases last. When resumed, it finds them lost, except for one that was
    /// handed over to it at the moment of the pause.
    async fn pause(&self, slot: &Process, more: Duration) {
        let lost = "dispatch_stream_lease_changes_total{change=\"lost\"}";
        let before = slot.metric(lost).await;
        let since = Instant::now();
        slot.signal(Signal::STOP);
        let had = self.owned_by(&slot.name).await.len();
        self.handed_over(slot, had).await;
        sleep((FAILOVER + more).saturating_sub(since.elapsed())).await;
        slot.signal(Signal::CONT);
        let paused = since.elapsed();
        let resumed = Instant::now();
        let mut found = 0;
        while found == 0 && had > 0 && resumed.elapsed() < NOTICED_WITHIN {
            found = slot.metric(lost).await.saturating_sub(before);
            sleep(Duration::from_millis(100)).await;
        }
        self.stale.fetch_add(usize::try_from(found).unwrap(), Ordering::SeqCst);
        println!("paused {} with {had} leases for {paused:?}; it found {found} lost", slot.name);
    }

    /// Watches every lease: counters and checkpoints never go back.
    async fn watch(&self) {
        let mut seen: BTreeMap<String, (u64, String)> = BTreeMap::new();
        loop {
            for row in self.leases().await {
                let key = text(&row, "leaseKey").to_owned();
                let now = (row["leaseCounter"].as_u64().unwrap(), text(&row, "checkpoint").to_owned());
                if let Some(before) = seen.get(&key) {
                    let place = |checkpoint: &str| match checkpoint {
                        "TRIM_HORIZON" => 0,
                        "SHARD_END" => u64::MAX,
                        sequence => sequence.parse::<u64>().unwrap(),
                    };
                    assert!(now.0 >= before.0, "{key}: a counter went back from {before:?} to {now:?}");
                    assert!(place(&now.1) >= place(&before.1), "{key}: progress went back from {before:?} to {now:?}");
                }
                seen.insert(key, now);
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Until the traffic ends, kills one worker and pauses another at the same time; returns the number of rounds.
    async fn inject_faults(&self, workers: &mut [Process], dice: &mut Dice, until: Instant) -> usize {
        let mut rounds = 0;
        while Instant::now() < until {
            sleep(Duration::from_millis(500 + dice.below(2000))).await;
            let killed = usize::try_from(dice.below(WORKERS as u64)).unwrap();
            let paused = (killed + 1 + usize::try_from(dice.below(WORKERS as u64 - 1)).unwrap()) % WORKERS;
            self.rotate(usize::try_from(dice.below(LINES as u64)).unwrap());
            let more = Duration::from_millis(2000 + dice.below(5000));
            let Ok([to_kill, to_pause]) = workers.get_disjoint_mut([killed, paused]) else { panic!("two workers") };
            tokio::join!(self.kill(to_kill, killed), self.pause(to_pause, more));
            rounds += 1;
        }
        rounds
    }
}

fn shard(line: usize, number: usize) -> String {
    format!("shard-{line}-{number:03}")
}

fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or_default()
}

/// Starts the simulator, which plays a city's traffic over the public API and audits it.
fn simulate(pool: &Pool, port: u16, (seconds, seed): (u64, u64)) -> Child {
    let summary = pool.summary();
    Command::new(simulator())
        .env("DISPATCH_SIGNING_KEY", pool.city.signing_key())
        .args(["--api", &format!("http://127.0.0.1:{port}"), "--drivers", "60", "--rate", "1.5"])
        .args(["--for", &format!("{seconds}s"), "--seed", &seed.to_string(), "--drain-timeout", "3m", "--summary"])
        .arg(&summary)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(summary.with_extension("log")).unwrap())
        .spawn()
        .expect("dispatch-simulator is built")
}

/// Checks that every request has ended and every offer was made once; returns the number of requests.
async fn audit(city: &City) -> usize {
    let dispatches = city.dispatches().await;
    for dispatch in &dispatches {
        let status = text(dispatch, "status");
        assert!(matches!(status, "COMPLETED" | "CANCELLED"), "{} is {status}", dispatch["PK"]);
        let events = dispatch["events"].as_array().unwrap();
        let count = |kind: &str| events.iter().filter(|event| event["type"] == kind).count() as u64;
        assert_eq!(count("DRIVER_ASSIGNED"), dispatch["offerSeq"].as_u64().unwrap(), "{}", dispatch["PK"]);
        assert!(count("DRIVER_ACCEPTED") <= 1, "{}", dispatch["PK"]);
    }
    dispatches.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_are_killed_and_paused_at_random_lose_nothing_and_do_nothing_twice() {
    let (seconds, seed) = (number("DISPATCH_POOL_SECONDS", SECONDS), number("DISPATCH_POOL_SEED", SEED));
    println!("{seconds} s of traffic, seed {seed}");
    let pool = Arc::new(Pool::start().await);
    let mut dice = Dice(seed);
    let tap = Tap::open(&pool.city, &pool.emulated_arn).await;
    let copying = {
        let pool = Arc::clone(&pool);
        tokio::spawn(async move { tap.copy_to(&pool.fake, LINES, |line| pool.shard_of(line)).await })
    };
    let port = free_port();
    let api = pool.surroundings.start("api", "save-dispatch,driver-response,status-update", port).await;
    let mut workers = Vec::new();
    for number in 0..WORKERS {
        workers.push(pool.worker(number).await);
    }
    let watching = {
        let pool = Arc::clone(&pool);
        tokio::spawn(async move { pool.watch().await })
    };
    until("every line of shards to have an owner", async || {
        let owned = pool.leases().await.iter().filter(|row| !text(row, "leaseOwner").is_empty()).count();
        (owned >= LINES).then_some(())
    })
    .await;
    let mut traffic = simulate(&pool, port, (seconds, seed));
    let rounds = pool.inject_faults(&mut workers, &mut dice, Instant::now() + Duration::from_secs(seconds)).await;
    let status = loop {
        if let Some(status) = traffic.try_wait().unwrap() {
            break status;
        }
        sleep(Duration::from_millis(200)).await;
    };
    let shown = std::fs::read_to_string(pool.summary()).unwrap_or_default();
    assert!(status.success(), "the simulator ended with {status}: {shown}");
    let requests = audit(&pool.city).await;
    assert!(!watching.is_finished(), "{:?}", watching.await);
    assert!(!copying.is_finished());
    shut_down(&pool, workers).await;
    drop(api);
    pool.surroundings.search();
    let mut hand_overs = std::mem::take(&mut *pool.hand_overs.lock());
    hand_overs.sort();
    println!(
        "{requests} requests, {rounds} kills and {rounds} pauses, hand-over p50 {:?} max {:?} of {}",
        hand_overs.get(hand_overs.len() / 2).copied().unwrap_or_default(),
        hand_overs.last().copied().unwrap_or_default(),
        hand_overs.len()
    );
    let stale = pool.stale.load(Ordering::SeqCst);
    assert!(
        rounds >= 2 && requests > 0 && stale > 0,
        "{rounds} rounds, {requests} requests, {stale} leases found lost"
    );
}

/// Terminates the workers, which must release their leases.
async fn shut_down(pool: &Pool, mut workers: Vec<Process>) {
    for worker in &workers {
        worker.signal(Signal::TERM);
    }
    for worker in &mut workers {
        let status = until(&format!("{} to end", worker.name), async || worker.child.try_wait().unwrap()).await;
        assert!(status.success(), "{} ended with {status}", worker.name);
    }
    for row in pool.leases().await.iter().filter(|row| row["checkpoint"] != "SHARD_END") {
        assert_eq!(text(row, "leaseOwner"), "", "{row}");
    }
}
