//! Redis fails in one way after another while rides run: a failover behind its name, a full memory, a primary cut off,
//! a demotion, a stall, a restart, a wipe. No ride is lost, no call is an internal error, and no restart is needed.

use std::collections::BTreeMap;

use dispatch_tests::dice::Dice;
use dispatch_tests::forwarder::Forwarder;
use dispatch_tests::redis::RedisServer;
use dispatch_tests::support::until;
use futures::future::join_all;
use tokio::time::{Duration, Instant, sleep};

use crate::ledger::{self, Ledger};
use crate::process::{Surroundings, free_port, number};
use crate::support::City;
use crate::trip::{Apps, Ride};

/// Duration of the short run; `DISPATCH_REDIS_SECONDS` sets another one, `DISPATCH_REDIS_SEED` other faults.
const SECONDS: u64 = 15;
const SEED: u64 = 3;
/// Rides at a time.
const LANES: usize = 3;
const PROBE_INTERVAL: Duration = Duration::from_millis(250);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// The name leads to the replica, which is the primary from now on, and the old primary lives.
    Failover,
    OutOfMemory,
    NoReplicas,
    Demoted,
    Stalled,
    Restarted,
    Wiped,
}

const FAULTS: [Fault; 7] = [
    Fault::Failover,
    Fault::OutOfMemory,
    Fault::NoReplicas,
    Fault::Demoted,
    Fault::Stalled,
    Fault::Restarted,
    Fault::Wiped,
];

/// Two servers behind one name, and which of them is the primary.
struct Pair {
    name: Forwarder,
    servers: [RedisServer; 2],
    primary: usize,
}

impl Pair {
    async fn start() -> Self {
        let servers = [RedisServer::start().await.unwrap(), RedisServer::start().await.unwrap()];
        let name = Forwarder::to(servers[0].port()).await.unwrap();
        Self { name, servers, primary: 0 }
    }

    async fn command(&self, words: &str) {
        self.servers[self.primary].command(words).await.unwrap();
    }

    async fn inject(&mut self, fault: Fault, lasts: Duration) {
        match fault {
            Fault::Failover => self.fail_over().await,
            Fault::OutOfMemory => self.during(lasts, "CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0").await,
            Fault::NoReplicas => {
                let (begin, end) = ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0");
                self.during(lasts, begin, end).await;
            }
            Fault::Demoted => self.during(lasts, "REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE").await,
            Fault::Stalled => {
                self.command(&format!("CLIENT PAUSE {} ALL", lasts.as_millis())).await;
                sleep(lasts).await;
            }
            Fault::Restarted => {
                let primary = &mut self.servers[self.primary];
                primary.kill();
                sleep(lasts).await;
                primary.revive().await.unwrap();
            }
            Fault::Wiped => self.command("FLUSHALL").await,
        }
    }

    async fn during(&self, lasts: Duration, begin: &str, end: &str) {
        self.command(begin).await;
        sleep(lasts).await;
        self.command(end).await;
    }

    async fn fail_over(&mut self) {
        let (old, new) = (&self.servers[self.primary], &self.servers[1 - self.primary]);
        new.command(&format!("REPLICAOF 127.0.0.1 {}", old.port())).await.unwrap();
        until("a synchronised replica", async || {
            let Ok(redis::Value::BulkString(info)) = new.command("INFO replication").await else { return None };
            String::from_utf8_lossy(&info).contains("master_link_status:up").then_some(())
        })
        .await;
        new.command("REPLICAOF NO ONE").await.unwrap();
        self.name.lead_to(new.port());
        old.command(&format!("REPLICAOF 127.0.0.1 {}", new.port())).await.unwrap();
        self.primary = 1 - self.primary;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_to_redis_no_ride_is_lost() {
    let (seconds, seed) = (number("DISPATCH_REDIS_SECONDS", SECONDS), number("DISPATCH_REDIS_SEED", SEED));
    println!("{seconds} s of faults, seed {seed}");
    let (mut city, mut pair) = (City::create().await, Pair::start().await);
    city.config.cache.url = pair.name.redis_url();
    let surroundings = Surroundings::new(&city.config.to_json_pretty().unwrap(), city.ministack.endpoint(), None);
    let port = free_port();
    let worker = surroundings.start("redis-faults", "all", port).await;
    let (apps, mut ledger) = (Apps::new(&city, port), Ledger::open(&city, &city.config.table.stream_arn).await);
    let end = Instant::now() + Duration::from_secs(seconds);
    let faults = async {
        let (mut dice, mut made) = (Dice(seed), BTreeMap::<Fault, u64>::new());
        let mut open = Vec::new();
        while Instant::now() < end {
            // Every kind comes before one comes again.
            if open.is_empty() {
                open = FAULTS.to_vec();
            }
            let place = usize::try_from(dice.below(open.len() as u64)).unwrap();
            let fault = open.swap_remove(place);
            pair.inject(fault, Duration::from_millis(1_000 + dice.below(6_000))).await;
            *made.entry(fault).or_default() += 1;
            sleep(Duration::from_millis(dice.below(2_000))).await;
        }
        made
    };
    let lane = async |lane: usize| {
        let mut rides: Vec<Ride> = Vec::new();
        while Instant::now() < end {
            rides.push(apps.ride(&format!("r{lane}-{}", rides.len())).await);
        }
        rides
    };
    let watching = async {
        loop {
            for probe in ["livez", "readyz"] {
                assert_eq!(worker.admin(probe).await, Some(200), "{probe}");
            }
            sleep(PROBE_INTERVAL).await;
        }
    };
    let (made, rides) = tokio::select! {
        run = async { tokio::join!(faults, join_all((0..LANES).map(lane))) } => run,
        never = watching => never,
    };
    until("accepted writes", async || (worker.metric("dispatch_cache_writable").await == 1).then_some(())).await;
    let rides = rides.concat();
    println!("redis faults: {} rides completed, {made:?}, answers {:?}", rides.len(), apps.answers());
    assert_eq!(ledger::faults(&city, &mut ledger, &rides).await, [""; 0]);
}
