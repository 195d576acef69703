//! The name of the cache leads to another node, or the token changes, while old connections stay alive.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dispatch_runtime::adapters::fleet::{CacheProbe, RedisConnector, TokenSource, indexed_fleet};
use dispatch_runtime::adapters::messaging::RedisEvents;
use dispatch_runtime::ports::clock::SystemClock;
use dispatch_runtime::ports::{Clock, EventStreams as _, FleetPorts, Person, PingOutcome, PortError};
use dispatch_runtime::telemetry::metrics::Metrics;
use dispatch_tests::forwarder::Forwarder;
use dispatch_tests::redis::RedisServer;
use redis::Value;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::redis::notification;
use super::{driver, found, free, now, ping};
use crate::support::{seoul, until};

/// Time limit for all connections to follow the name. Without it they would stay for as long as the old node lives.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(15);

/// What a worker process has on the cache, with everything that runs in it.
pub(super) struct Worker {
    pub fleet: FleetPorts,
    pub events: Arc<RedisEvents>,
    pub metrics: Arc<Metrics>,
    _stop: DropGuard,
}

impl Worker {
    pub(super) fn start(url: &str, token: Option<TokenSource>) -> Self {
        Self::with_clock(url, token, Arc::new(SystemClock))
    }

    pub(super) fn with_clock(url: &str, token: Option<TokenSource>, clock: Arc<dyn Clock>) -> Self {
        let metrics = Arc::new(Metrics::new());
        let connector = RedisConnector::with_token(url, token).unwrap().counting(Arc::clone(&metrics));
        let (fleet, sync) = indexed_fleet(&connector, seoul(), Arc::clone(&clock), Arc::clone(&metrics));
        let events = Arc::new(RedisEvents::new(connector.clone(), "seoul", Arc::clone(&metrics)));
        let probe = CacheProbe::new(connector, "seoul", clock, Arc::clone(&metrics));
        let stop = CancellationToken::new();
        let (listening, stopped) = (Arc::clone(&events), stop.clone());
        tokio::spawn(async move { tokio::join!(sync.run(&stopped), listening.run(&stopped), probe.run(&stopped)) });
        Self { fleet, events, metrics, _stop: stop.drop_guard() }
    }

    /// The value of the metric whose line begins with `line`; 0 if there is none.
    pub(super) fn metric(&self, line: &str) -> u64 {
        let text = self.metrics.encode().unwrap();
        let values = text.lines().filter_map(|found| found.strip_prefix(line)?.trim().parse::<u64>().ok());
        values.sum()
    }

    /// Whether a ping is recorded. A ping that is not may only be refused for the moment.
    pub(super) async fn records(&self, number: u32, metres: f64) -> bool {
        match self.fleet.positions.record(&[ping(number, metres, now())]).await {
            Ok(outcomes) => outcomes == [PingOutcome::Seen],
            Err(PortError::Unavailable { .. }) => false,
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// A worker that publishes, and one that subscribes.
struct Pair {
    publisher: Worker,
    subscriber: Worker,
}

impl Pair {
    fn start(url: &str, token: Option<&TokenSource>) -> Self {
        Self { publisher: Worker::start(url, token.cloned()), subscriber: Worker::start(url, token.cloned()) }
    }

    /// Waits until pings are recorded, the other worker's index has them, and an event published by one is received by
    /// the other.
    async fn work(&self, number: u32, metres: f64) {
        let begun = Instant::now();
        until("recorded pings", async || self.publisher.records(number, metres).await.then_some(())).await;
        until("an index that follows", async || {
            let near = self.subscriber.fleet.search.nearby(super::north(metres), &[5], 9, now()).await;
            let near = near.ok().flatten().unwrap_or_default();
            near.iter().any(|found| found.id == driver(number)).then_some(())
        })
        .await;
        let mut receiver = self.subscriber.events.listen(&Person::Driver(driver(1))).await.unwrap();
        until("a received event", async || {
            let _ = self.publisher.events.send(&notification(1)).await;
            receiver.try_recv().ok()
        })
        .await;
        assert!(begun.elapsed() < FOLLOWED_WITHIN, "{:?}", begun.elapsed());
    }
}

/// Clients of a server other than replication and the one that asks.
async fn clients(server: &RedisServer) -> usize {
    let Ok(Value::BulkString(list)) = server.command("CLIENT LIST").await else { panic!("no list") };
    let list = String::from_utf8(list).unwrap();
    let is_client =
        |line: &&str| !line.contains("cmd=client") && !line.contains("flags=S") && !line.contains("flags=M");
    list.lines().filter(is_client).count()
}

async fn subscribers(server: &RedisServer) -> i64 {
    let Ok(Value::Array(answer)) = server.command("PUBSUB NUMSUB events:{seoul}").await else { panic!("no count") };
    let Some(Value::Int(count)) = answer.last() else { panic!("{answer:?}") };
    *count
}

async fn primary_and_replica() -> (RedisServer, RedisServer) {
    let (primary, replica) = (RedisServer::start().await.unwrap(), RedisServer::start().await.unwrap());
    replica.command(&format!("REPLICAOF 127.0.0.1 {}", primary.port())).await.unwrap();
    until("a synchronised replica", async || {
        let Ok(Value::BulkString(info)) = replica.command("INFO replication").await else { return None };
        String::from_utf8_lossy(&info).contains("master_link_status:up").then_some(())
    })
    .await;
    (primary, replica)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failover_every_connection_follows_the_name_although_the_old_primary_lives() {
    let (old, new) = primary_and_replica().await;
    let name = Forwarder::to(old.port()).await.unwrap();
    let pair = Pair::start(&name.redis_url(), None);
    pair.publisher.fleet.positions.fill(&[free(1, 100.0)]).await.unwrap();
    pair.work(1, 110.0).await;
    assert_eq!((subscribers(&old).await, subscribers(&new).await), (2, 0));

    new.command("REPLICAOF NO ONE").await.unwrap();
    name.lead_to(new.port());
    old.command(&format!("REPLICAOF 127.0.0.1 {}", new.port())).await.unwrap();
    pair.work(1, 120.0).await;
    until("no connection to the old primary", async || (clients(&old).await == 0).then_some(())).await;
    assert_eq!((subscribers(&old).await, subscribers(&new).await), (0, 2));
    for worker in [&pair.publisher, &pair.subscriber] {
        assert!(worker.metric("dispatch_cache_reconnections_total{reason=\"READONLY\"}") > 0);
        until("accepted writes", async || (worker.metric("dispatch_cache_writable ") == 1).then_some(())).await;
    }
    assert_eq!(found(&pair.subscriber.fleet, &[20_000], 9).await, [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_only_publishes_notices_a_failover() {
    let (old, new) = primary_and_replica().await;
    let name = Forwarder::to(old.port()).await.unwrap();
    let pair = Pair::start(&name.redis_url(), None);
    let mut receiver = pair.subscriber.events.listen(&Person::Driver(driver(1))).await.unwrap();
    let mut delivered = async || {
        pair.publisher.events.send(&notification(1)).await.unwrap();
        receiver.try_recv().ok()
    };
    until("the first event", &mut delivered).await;
    new.command("REPLICAOF NO ONE").await.unwrap();
    name.lead_to(new.port());
    // Not a replica of the new primary: events do not cross over, and publishing to either succeeds.
    old.command("REPLICAOF 127.0.0.1 1").await.unwrap();
    until("both subscriptions on the new primary", async || (subscribers(&new).await == 2).then_some(())).await;
    until("an event by the new primary", &mut delivered).await;
    until("no connection to the old primary", async || (clients(&old).await == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_used_by_the_address_of_any_of_its_nodes() {
    let (first, _) = RedisServer::start_in_cluster().await.unwrap();
    let (second, bus) = RedisServer::start_in_cluster().await.unwrap();
    first.command("CLUSTER ADDSLOTSRANGE 0 8191").await.unwrap();
    second.command("CLUSTER ADDSLOTSRANGE 8192 16383").await.unwrap();
    first.command(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", second.port())).await.unwrap();
    for node in [&first, &second] {
        until("a cluster", async || {
            let Ok(Value::BulkString(info)) = node.command("CLUSTER INFO").await else { return None };
            let info = String::from_utf8_lossy(&info).into_owned();
            (info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:2")).then_some(())
        })
        .await;
    }
    for (number, node) in [(1, &first), (2, &second)] {
        let pair = Pair::start(&node.url(), None);
        let entries = [free(number, 100.0 * f64::from(number))];
        until("a filled cache", async || pair.publisher.fleet.positions.fill(&entries).await.ok()).await;
        pair.work(number, 100.0 * f64::from(number) + 5.0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_a_vanished_machine_are_replaced() {
    let (old, new) = primary_and_replica().await;
    let name = Forwarder::to(old.port()).await.unwrap();
    let pair = Pair::start(&name.redis_url(), None);
    pair.publisher.fleet.positions.fill(&[free(1, 100.0)]).await.unwrap();
    pair.work(1, 110.0).await;
    new.command("REPLICAOF NO ONE").await.unwrap();
    name.lead_to(new.port());
    name.silence();
    pair.work(1, 120.0).await;
    assert!(pair.publisher.metric("dispatch_cache_reconnections_total{reason=\"timeout\"}") > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_token_is_read_again_without_a_restart() {
    let server = RedisServer::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "the-first-token\n").unwrap();
    server.command("CONFIG SET requirepass the-first-token").await.unwrap();
    let pair = Pair::start(&server.url(), Some(&TokenSource::File(path.clone())));
    until("a filled cache", async || pair.publisher.fleet.positions.fill(&[free(1, 100.0)]).await.ok()).await;
    pair.work(1, 110.0).await;

    // Existing connections stay authenticated, the operator's too.
    let url = format!("redis://:the-first-token@127.0.0.1:{}", server.port());
    let mut operator = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    for command in [&["CONFIG", "SET", "requirepass", "the-second-token"][..], &["CLIENT", "KILL", "SKIPME", "yes"]] {
        redis::cmd(command[0]).arg(&command[1..]).query_async::<Value>(&mut operator).await.unwrap();
    }
    // Until the mounted Secret has the new token, calls are refused for the moment.
    until("a refused session", async || {
        let code = "dispatch_cache_refusals_total{code=\"WRONGPASS\"}";
        (!pair.publisher.records(1, 115.0).await && pair.publisher.metric(code) > 0).then_some(())
    })
    .await;
    std::fs::write(&path, "the-second-token\n").unwrap();
    pair.work(1, 120.0).await;
    assert!(pair.publisher.metric("dispatch_cache_reconnections_total{reason=\"WRONGPASS\"}") > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_required_from_now_on_is_sent() {
    let server = RedisServer::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "the-token").unwrap();
    // The server refuses a token while it has none.
    let pair = Pair::start(&server.url(), Some(&TokenSource::File(path)));
    until("a refused session", async || (!pair.publisher.records(1, 100.0).await).then_some(())).await;
    server.command("CONFIG SET requirepass the-token").await.unwrap();
    until("a filled cache", async || pair.publisher.fleet.positions.fill(&[free(1, 100.0)]).await.ok()).await;
    pair.work(1, 110.0).await;
}
