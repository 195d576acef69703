//! Four worker processes on one stream of several shards, killed and paused at random under traffic: nothing is lost, nothing done twice.
//!
//! The table, the queues, the topic and the leases are the emulator's, Redis is real, and so are the processes. The stream is the
//! emulator's, too, poured into a scripted one with more shards than the emulator has, which end and are carried on while it runs.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use dispatch_tests::streams::FakeStreams;
use dispatch_tests::support::until;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::time::{Duration, Instant, sleep};

use crate::support::{City, Tap};

const WORKERS: usize = 4;
/// Lines of shards; each line has one open shard at any time.
const LINES: usize = 6;
/// Traffic of the short run; `DISPATCH_POOL_SECONDS` asks for more, `DISPATCH_POOL_SEED` for another order of faults.
const SECONDS: u64 = 40;
const SEED: u64 = 7;
/// Longest time until another worker has what one has left: the fail-over time, looked at once a second, on a busy machine.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(30);
/// Longest time in which a paused worker looks at its leases again.
const WAKES_WITHIN: Duration = Duration::from_secs(10);
/// The fail-over time of a worker, which a paused one sleeps through.
const FAILOVER: Duration = Duration::from_secs(10);

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().map_or(otherwise, |text| text.parse().expect("a number"))
}

/// `SplitMix64`: few lines, and the same faults for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// The program under test, which `make build` makes.
fn runtime() -> PathBuf {
    let tests = std::env::current_exe().expect("this program has a path");
    tests.parent().and_then(Path::parent).expect("target/debug/deps").join("dispatch-runtime")
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

struct Process {
    name: String,
    child: Child,
    admin: u16,
}

impl Process {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process is there");
    }

    async fn metric(&self, line: &str) -> u64 {
        let text =
            reqwest::get(format!("http://127.0.0.1:{}/metrics", self.admin)).await.unwrap().text().await.unwrap();
        let found = text.lines().find_map(|found| found.strip_prefix(line));
        found.map_or(0, |value| value.trim().parse().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Pool {
    city: City,
    /// The emulator's stream; workers are shown the scripted one.
    emulated_arn: String,
    fake: FakeStreams,
    folder: tempfile::TempDir,
    /// Number of the open shard of each line.
    ends: [AtomicUsize; LINES],
    hand_overs: Mutex<Vec<Duration>>,
    /// Leases that paused workers found lost.
    stale: AtomicUsize,
}

impl Pool {
    fn summary(&self) -> PathBuf {
        self.folder.path().join("summary.json")
    }

    async fn start() -> Self {
        let (mut city, fake) = (City::create().await, FakeStreams::start().await.unwrap());
        let shards: Vec<String> = (0..LINES).map(|line| shard(line, 0)).collect();
        let shards: Vec<&str> = shards.iter().map(String::as_str).collect();
        let emulated_arn = city.config.table.stream_arn.clone();
        city.config.table.stream_arn = fake.open_stream("2025-05-25T00:00:00.000", &shards);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("worker.json"), city.config.to_json_pretty().unwrap()).unwrap();
        Self {
            city,
            emulated_arn,
            fake,
            folder,
            ends: std::array::from_fn(|_| AtomicUsize::new(0)),
            hand_overs: Mutex::default(),
            stale: AtomicUsize::new(0),
        }
    }

    fn shard_of(&self, line: usize) -> String {
        shard(line, self.ends[line].load(Ordering::SeqCst))
    }

    /// Ends the open shard of a line; another carries it on.
    fn rotate(&self, line: usize) {
        let (old, next) = (self.shard_of(line), self.ends[line].load(Ordering::SeqCst) + 1);
        self.fake.add_children(&old, &[&shard(line, next)]);
        self.ends[line].store(next, Ordering::SeqCst);
        self.fake.split(&old, &[]);
    }

    async fn process(&self, name: &str, roles: &str, listen: u16) -> Process {
        let admin = free_port();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join(name)).unwrap();
        let child = Command::new(runtime())
            .args(["serve", "--exit-with-parent", "--role", roles, "--config"])
            .arg(self.folder.path().join("worker.json"))
            .args(["--listen", &format!("127.0.0.1:{listen}"), "--admin-listen", &format!("127.0.0.1:{admin}")])
            .env("HOSTNAME", name)
            .env("AWS_ENDPOINT_URL", self.city.ministack.endpoint())
            .env("AWS_ENDPOINT_URL_DYNAMODB_STREAMS", self.fake.endpoint())
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("dispatch-runtime was built before");
        let process = Process { name: name.to_owned(), child, admin };
        until(&format!("{name} to be ready"), async || {
            let answer = reqwest::get(format!("http://127.0.0.1:{admin}/readyz")).await;
            answer.is_ok_and(|answer| answer.status().is_success()).then_some(())
        })
        .await;
        process
    }

    async fn worker(&self, number: usize) -> Process {
        self.process(&format!("worker-{number}"), "dispatch-algorithm", 0).await
    }

    /// Unfinished leases: key, owner, counter and checkpoint.
    async fn leases(&self) -> Vec<Value> {
        let rows = self.city.scan(&self.city.config.lease_table).await.into_iter();
        rows.filter(|row| row["leaseKey"] != "streams").collect()
    }

    async fn owned_by(&self, name: &str) -> Vec<Value> {
        let prefix = format!("{name}/");
        let rows = self.leases().await.into_iter();
        rows.filter(|row| row["checkpoint"] != "SHARD_END" && text(row, "leaseOwner").starts_with(&prefix)).collect()
    }

    /// Waits until others have what a worker had, and notes how long that took.
    async fn handed_over(&self, worker: &Process, had: usize) {
        let since = Instant::now();
        while !self.owned_by(&worker.name).await.is_empty() {
            assert!(since.elapsed() < HAND_OVER_WITHIN, "{} still has its leases", worker.name);
            sleep(Duration::from_millis(100)).await;
        }
        if had > 0 {
            self.hand_overs.lock().unwrap().push(since.elapsed());
        }
    }

    async fn kill(&self, slot: &mut Process, number: usize) {
        slot.signal(Signal::KILL);
        let had = self.owned_by(&slot.name).await.len();
        self.handed_over(slot, had).await;
        println!("killed {} with {had} leases", slot.name);
        *slot = self.worker(number).await;
    }

    /// Pauses a worker for longer than its leases last. When it goes on it finds them lost: all but one that was handed to it in the
    /// moment in which it stopped.
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
        let woken = Instant::now();
        let mut found = 0;
        while found == 0 && had > 0 && woken.elapsed() < WAKES_WITHIN {
            found = slot.metric(lost).await.saturating_sub(before);
            sleep(Duration::from_millis(100)).await;
        }
        self.stale.fetch_add(usize::try_from(found).unwrap(), Ordering::SeqCst);
        println!("paused {} with {had} leases for {paused:?}; it found {found} lost", slot.name);
    }

    /// Watches every lease: what is done stays done, whoever writes.
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

    /// Strikes until the traffic ends: one worker is killed and another paused, at the same time.
    async fn strike(&self, workers: &mut [Process], dice: &mut Dice, until: Instant) -> usize {
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

/// A city's traffic over the public API, with its auditor.
fn simulate(pool: &Pool, port: u16, (seconds, seed): (u64, u64)) -> Child {
    let summary = pool.summary();
    Command::new(runtime())
        .env("DISPATCH_SIGNING_KEY", pool.city.signing_key())
        .args(["simulate", "--api", &format!("http://127.0.0.1:{port}"), "--drivers", "60", "--rate", "1.5"])
        .args(["--for", &format!("{seconds}s"), "--seed", &seed.to_string(), "--drain-timeout", "3m", "--summary"])
        .arg(&summary)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(summary.with_extension("log")).unwrap())
        .spawn()
        .expect("dispatch-runtime was built before")
}

/// Every request has come to its end, and every offer was made once.
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
    let pouring = {
        let pool = Arc::clone(&pool);
        tokio::spawn(async move { tap.pour(&pool.fake, LINES, |line| pool.shard_of(line)).await })
    };
    let port = free_port();
    let _api = pool.process("api", "save-dispatch,driver-response,status-update", port).await;
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
    let rounds = pool.strike(&mut workers, &mut dice, Instant::now() + Duration::from_secs(seconds)).await;
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
    assert!(!pouring.is_finished());
    all_end_in_order(&pool, workers).await;
    let mut hand_overs = std::mem::take(&mut *pool.hand_overs.lock().unwrap());
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
        "{rounds} rounds, {requests} requests, {stale} leases slept through"
    );
}

/// At the end, leases are given back at once.
async fn all_end_in_order(pool: &Pool, mut workers: Vec<Process>) {
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
