//! The fleet in Redis, and behaviour that only a real server shows.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dispatch_api::worker_config::CacheConfig;
use dispatch_core::time::EpochMs;
use dispatch_http_types::{Notification, NotificationBody, NotificationKind};
use dispatch_runtime::adapters::fleet::{RedisConnector, RedisFleet};
use dispatch_runtime::adapters::messaging::RedisEvents;
use dispatch_runtime::city::parse_timestamp;
use dispatch_runtime::ports::clock::SystemClock;
use dispatch_runtime::ports::{EventStreams as _, FleetEntry, FleetPorts, Person, Ping, PortError};
use dispatch_runtime::telemetry::metrics::Metrics;
use dispatch_tests::redis::RedisServer;
use redis::AsyncCommands as _;
use tokio_util::sync::CancellationToken;

use super::{driver, found, free, memory_fleet, north, now, ping};
use crate::support::{seoul, until};

/// A running server and the ports on it.
pub(super) struct RedisFixture {
    pub fleet: FleetPorts,
    pub connector: RedisConnector,
    client: redis::Client,
    _server: RedisServer,
}

impl RedisFixture {
    pub(super) async fn start() -> Self {
        let server = RedisServer::start().await.expect("redis-server starts");
        let connector = RedisConnector::new(&CacheConfig { url: server.url(), auth_token_env: None }).unwrap();
        let fleet = RedisFleet::new(&connector, seoul(), Arc::new(SystemClock));
        let fleet = FleetPorts::new(&Arc::new(fleet));
        let client = redis::Client::open(server.url()).unwrap();
        Self { fleet, connector, client, _server: server }
    }

    pub(super) async fn wipe(&self) {
        let () = redis::cmd("FLUSHALL").query_async(&mut self.connection().await).await.unwrap();
    }

    pub(super) async fn connection(&self) -> redis::aio::MultiplexedConnection {
        self.client.get_multiplexed_async_connection().await.unwrap()
    }
}

#[tokio::test]
async fn a_drivers_entry_has_the_specified_fields_and_formats() {
    let server = RedisFixture::start().await;
    let seen_at = parse_timestamp("2025-05-25T15:29:00+09:00").unwrap();
    let position = dispatch_core::geo::Coordinate::new(37.565, 126.978).unwrap();
    server.fleet.positions.put(&[FleetEntry { seen_at, position, ..free(1, 0.0) }]).await.unwrap();
    let entry: HashMap<String, String> = server.connection().await.hgetall("drv:{seoul}:driver#00001").await.unwrap();
    for (field, value) in
        [("lat", "37.565"), ("lng", "126.978"), ("lastUpdate", "2025-05-25T15:29:00+09:00"), ("status", "ACTIVE")]
    {
        assert_eq!(entry[field], value, "{field}");
    }
    let members: Vec<String> = redis::cmd("GEOSEARCH")
        .arg("geo:{seoul}")
        .arg(&["FROMLONLAT", "126.978", "37.565", "BYRADIUS", "1", "km", "ASC"])
        .query_async(&mut server.connection().await)
        .await
        .unwrap();
    assert_eq!(members, ["driver#00001"]);
}

/// A reproducible random generator.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from((self.0 >> 33) % bound).unwrap()
    }
}

/// Pings of a few drivers who drive, stand, jump and return, in order and out of order, from phones whose clocks are
/// right, wrong, reset or missing.
fn wild_pings(dice: &mut Dice, begin: EpochMs, count: i64) -> Vec<Ping> {
    let wild = (0..count).map(|number| {
        let at = EpochMs(begin.0 + number * 1500 - dice.below(4000) + [0, 40_000][usize::from(dice.below(12) == 0)]);
        let phone_at = match dice.below(4) {
            0 => None,
            1 => Some(EpochMs(at.0 - 900_000)),
            _ => Some(EpochMs(at.0 + 77 - dice.below(6000))),
        };
        let home_m = [0.0, 0.0, 0.0, 6000.0, 90_000.0][usize::try_from(dice.below(5)).unwrap()];
        let driver = u32::try_from(1 + dice.below(3)).unwrap();
        Ping { phone_at, ..ping(driver, home_m + dice.below(400) as f64, at) }
    });
    wild.collect()
}

#[tokio::test]
async fn the_script_and_the_ping_filter_in_core_agree() {
    let (server, memory) = (RedisFixture::start().await, memory_fleet());
    let memory_ports = FleetPorts::new(&memory);
    let mut seen = HashMap::new();
    for seed in 0..40 {
        server.wipe().await;
        memory.wipe();
        let begin = now();
        let entries = [1, 2, 3].map(|number| FleetEntry { seen_at: begin, ..free(number, 0.0) });
        for fleet in [&server.fleet, &memory_ports] {
            fleet.positions.fill(&entries).await.unwrap();
        }
        for some in wild_pings(&mut Dice(seed), begin, 120).chunks(7) {
            let (real, pure) = (
                server.fleet.positions.record(some).await.unwrap(),
                memory_ports.positions.record(some).await.unwrap(),
            );
            assert_eq!(real, pure, "seed {seed}");
            for answer in pure {
                *seen.entry(format!("{answer:?}")).or_insert(0) += 1;
            }
        }
        let (real, pure) = (found(&server.fleet, &[200_000], 9).await, found(&memory_ports, &[200_000], 9).await);
        assert_eq!(real, pure, "seed {seed}");
    }
    for answer in ["Seen", "Outdated", "Implausible"] {
        assert!(seen.get(answer).is_some_and(|count| *count > 300), "{seen:?}");
    }
}

#[tokio::test]
async fn corrupt_entries_are_skipped_by_searches() {
    let server = RedisFixture::start().await;
    server.fleet.positions.fill(&[free(1, 100.0), free(2, 200.0), free(3, 300.0)]).await.unwrap();
    let mut connection = server.connection().await;
    let () = connection.hset("drv:{seoul}:driver#00001", "lat", "somewhere").await.unwrap();
    let () = connection.del("drv:{seoul}:driver#00002").await.unwrap();
    let () = redis::cmd("GEOADD")
        .arg("geo:{seoul}")
        .arg(&["126.9784", "37.5662", "no driver"])
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(found(&server.fleet, &[1500], 9).await, [3]);
}

#[tokio::test]
async fn a_hanging_or_unreachable_server_is_an_error_in_time_and_not_an_empty_result() {
    let server = RedisFixture::start().await;
    server.fleet.positions.fill(&[free(1, 100.0)]).await.unwrap();
    let client = server.client.clone();
    let asleep = tokio::spawn(async move {
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let () = redis::cmd("CLIENT").arg(&["PAUSE", "3000", "ALL"]).query_async(&mut connection).await.unwrap();
    });
    asleep.await.unwrap();
    let began = Instant::now();
    let hanging = server.fleet.search.nearby(north(0.0), &[700], 5, now()).await;
    assert!(matches!(hanging, Err(PortError::Unavailable { .. })), "{:?}", hanging.err());
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let found = until("the server's return", async || {
        server.fleet.search.nearby(north(0.0), &[700], 5, now()).await.ok().flatten()
    })
    .await;
    assert_eq!(found[0].id, driver(1));

    let RedisFixture { fleet, _server: child, .. } = server;
    drop(child);
    let began = Instant::now();
    let gone = fleet.search.nearby(north(0.0), &[700], 5, now()).await;
    assert!(matches!(gone, Err(PortError::Unavailable { .. })), "{:?}", gone.err());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

pub(super) fn notification(number: usize) -> Notification {
    Notification {
        id: number.to_string(),
        recipient: "driver#00001".to_owned(),
        kind: NotificationKind::Offer,
        body: NotificationBody {
            message: "새로운 배차 요청이 있습니다".to_owned(),
            dispatch_id: Some("dispatch#00001".to_owned()),
            pickup_address: None,
            destination_address: None,
            estimated_fare: None,
            metered_fare: None,
            actual_fare: None,
            estimated_distance: None,
            offer_seq: None,
            timeout_at: None,
            status: None,
        },
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_streams_reach_other_replicas_and_come_back_after_a_cut() {
    let server = RedisFixture::start().await;
    let metrics = Arc::new(Metrics::new());
    let replica = || Arc::new(RedisEvents::new(server.connector.clone(), "seoul", Arc::clone(&metrics)));
    let (here, there) = (replica(), replica());
    let shutdown = CancellationToken::new();
    let (runner, end) = (Arc::clone(&there), shutdown.clone());
    let running = tokio::spawn(async move { runner.run(&end).await });
    let mut receiver = there.listen(&Person::Driver(driver(1))).await.unwrap();
    let mut stranger = there.listen(&Person::Driver(driver(2))).await.unwrap();

    // Pub/sub loses messages until the subscription is established.
    let first = until("the first notification", async || {
        here.send(&notification(0)).await.unwrap();
        receiver.try_recv().ok()
    });
    assert_eq!(first.await.id, "0");
    let () = redis::cmd("CLIENT")
        .arg(&["KILL", "TYPE", "pubsub"])
        .query_async::<u32>(&mut server.connection().await)
        .await
        .map(|killed| assert_eq!(killed, 1))
        .unwrap();
    while receiver.try_recv().is_ok() {}
    until("the subscription's return", async || {
        here.send(&notification(1)).await.unwrap();
        receiver.try_recv().ok().filter(|received| received.id == "1")
    })
    .await;
    assert!(stranger.try_recv().is_err());

    // A listener that does not read is dropped and counted.
    for number in 0..200 {
        here.send(&notification(number)).await.unwrap();
    }
    until("the end of a listener who does not read", async || {
        let text = metrics.encode().unwrap();
        text.contains("dispatch_event_receivers_dropped_total 1").then_some(())
    })
    .await;
    shutdown.cancel();
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_to_a_silent_server_is_replaced() {
    let server = RedisFixture::start().await;
    let events = RedisEvents::new(server.connector.clone(), "seoul", Arc::new(Metrics::new()));
    let shutdown = CancellationToken::new();
    let end = shutdown.clone();
    let running = tokio::spawn(async move { events.run(&end).await });
    let mut connection = server.connection().await;
    // The id of the subscribing connection; `None` while the server is paused.
    let mut subscriber = async || {
        let mut list = redis::cmd("CLIENT");
        let list = list.arg(&["LIST", "TYPE", "pubsub"]).query_async::<String>(&mut connection).await.ok()?;
        list.split_whitespace().find_map(|word| word.strip_prefix("id=")).map(str::to_owned)
    };
    let first = until("a subscription", &mut subscriber).await;
    // Longer than the interval between two health checks plus the time limit of an answer.
    let () =
        redis::cmd("CLIENT").arg(&["PAUSE", "13000", "ALL"]).query_async(&mut server.connection().await).await.unwrap();
    until("another subscription", async || subscriber().await.filter(|id| *id != first)).await;
    shutdown.cancel();
    running.await.unwrap();
}
