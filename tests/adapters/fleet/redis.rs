//! The fleet in Redis, and what only a real server can show.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dispatch_api::worker_config::CacheConfig;
use dispatch_runtime::city::parse_timestamp;
use dispatch_runtime::clock::SystemClock;
use dispatch_runtime::fleet::{RedisConnector, RedisFleet};
use dispatch_runtime::messaging::RedisEvents;
use dispatch_runtime::metrics::Metrics;
use dispatch_runtime::port::{
    EventStreams as _, Fleet, FleetEntry, Notification, NotificationBody, NotificationKind, Person, PortError,
};
use dispatch_tests::redis::RedisServer;
use redis::AsyncCommands as _;
use tokio_util::sync::CancellationToken;

use super::{driver, found, free, north, now};
use crate::support::{seoul, until};

/// A running server and a fleet in it.
pub struct Running {
    pub fleet: Arc<dyn Fleet>,
    pub connector: RedisConnector,
    client: redis::Client,
    _server: RedisServer,
}

impl Running {
    pub async fn start() -> Self {
        let server = RedisServer::start().await.expect("redis-server starts");
        let connector = RedisConnector::new(&CacheConfig { url: server.url(), auth_token_env: None }).unwrap();
        let fleet = Arc::new(RedisFleet::new(&connector, seoul(), Arc::new(SystemClock)).unwrap());
        let client = redis::Client::open(server.url()).unwrap();
        Self { fleet, connector, client, _server: server }
    }

    pub async fn wipe(&self) {
        let () = redis::cmd("FLUSHALL").query_async(&mut self.connection().await).await.unwrap();
    }

    pub async fn connection(&self) -> redis::aio::MultiplexedConnection {
        self.client.get_multiplexed_async_connection().await.unwrap()
    }
}

#[tokio::test]
async fn a_drivers_entry_has_the_seeds_fields_and_formats() {
    let server = Running::start().await;
    let seen_at = parse_timestamp("2025-05-25T15:29:00+09:00").unwrap();
    let position = dispatch_core::geo::Coordinate::new(37.565, 126.978).unwrap();
    server.fleet.put(&[FleetEntry { seen_at, position, ..free(1, 0.0) }]).await.unwrap();
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

#[tokio::test]
async fn whatever_stands_in_redis_is_a_candidate_or_is_not() {
    let server = Running::start().await;
    server.fleet.fill(&[free(1, 100.0), free(2, 200.0), free(3, 300.0)]).await.unwrap();
    let mut connection = server.connection().await;
    let () = connection.hset("drv:{seoul}:driver#00001", "lat", "somewhere").await.unwrap();
    let () = connection.del("drv:{seoul}:driver#00002").await.unwrap();
    let () = redis::cmd("GEOADD")
        .arg("geo:{seoul}")
        .arg(&["126.9784", "37.5662", "no driver"])
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(found(server.fleet.as_ref(), &[1500], 9).await, [3]);
}

#[tokio::test]
async fn a_server_that_hangs_or_is_gone_is_told_apart_from_an_empty_one_in_time() {
    let server = Running::start().await;
    server.fleet.fill(&[free(1, 100.0)]).await.unwrap();
    let client = server.client.clone();
    let asleep = tokio::spawn(async move {
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let () = redis::cmd("CLIENT").arg(&["PAUSE", "3000", "ALL"]).query_async(&mut connection).await.unwrap();
    });
    asleep.await.unwrap();
    let began = Instant::now();
    let hanging = server.fleet.nearby(north(0.0), &[700], 5, now()).await;
    assert!(matches!(hanging, Err(PortError::Unavailable { .. })), "{:?}", hanging.err());
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let found =
        until("the server's return", async || server.fleet.nearby(north(0.0), &[700], 5, now()).await.ok().flatten())
            .await;
    assert_eq!(found[0].id, driver(1));

    let Running { fleet, _server: child, .. } = server;
    drop(child);
    let began = Instant::now();
    let gone = fleet.nearby(north(0.0), &[700], 5, now()).await;
    assert!(matches!(gone, Err(PortError::Unavailable { .. })), "{:?}", gone.err());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

fn told(number: usize) -> Notification {
    Notification {
        id: number.to_string(),
        recipient: "driver#00001".to_owned(),
        kind: NotificationKind::Offer,
        body: NotificationBody {
            message: "새로운 배차 요청이 있습니다".to_owned(),
            dispatch_id: "dispatch#00001".to_owned(),
            pickup_address: None,
            destination_address: None,
            estimated_fare: None,
            estimated_distance: None,
            offer_seq: None,
            timeout_at: None,
            status: None,
        },
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_streams_reach_other_replicas_and_come_back_after_a_cut() {
    let server = Running::start().await;
    let metrics = Arc::new(Metrics::new());
    let replica = || Arc::new(RedisEvents::new(server.connector.clone(), "seoul", Arc::clone(&metrics)).unwrap());
    let (here, there) = (replica(), replica());
    let shutdown = CancellationToken::new();
    let (runner, end) = (Arc::clone(&there), shutdown.clone());
    let running = tokio::spawn(async move { runner.run(&end).await });
    let mut receiver = there.listen(&Person::Driver(driver(1))).await.unwrap();
    let mut stranger = there.listen(&Person::Driver(driver(2))).await.unwrap();

    // Until the subscription stands, what is sent is lost: that is pub/sub.
    let first = until("the first notification", async || {
        here.send(&told(0)).await.unwrap();
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
        here.send(&told(1)).await.unwrap();
        receiver.try_recv().ok().filter(|told| told.id == "1")
    })
    .await;
    assert!(stranger.try_recv().is_err());

    // Who does not read is let go, and that is counted.
    for number in 0..200 {
        here.send(&told(number)).await.unwrap();
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
async fn a_subscription_whose_other_end_is_silent_is_made_anew() {
    let server = Running::start().await;
    let events = RedisEvents::new(server.connector.clone(), "seoul", Arc::new(Metrics::new())).unwrap();
    let shutdown = CancellationToken::new();
    let end = shutdown.clone();
    let running = tokio::spawn(async move { events.run(&end).await });
    let mut connection = server.connection().await;
    // The number of the subscribing connection; none while the server is silent.
    let mut subscriber = async || {
        let mut list = redis::cmd("CLIENT");
        let list = list.arg(&["LIST", "TYPE", "pubsub"]).query_async::<String>(&mut connection).await.ok()?;
        list.split_whitespace().find_map(|word| word.strip_prefix("id=")).map(str::to_owned)
    };
    let first = until("a subscription", &mut subscriber).await;
    // Longer than it is left unasked, with an answer missing.
    let () =
        redis::cmd("CLIENT").arg(&["PAUSE", "13000", "ALL"]).query_async(&mut server.connection().await).await.unwrap();
    until("another subscription", async || subscriber().await.filter(|id| *id != first)).await;
    shutdown.cancel();
    running.await.unwrap();
}
