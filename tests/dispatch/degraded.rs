//! Outages of the services that a city depends on. Rides continue where possible, other callers get `Retry-After`,
//! nothing is lost, and healthy processes stay alive and ready.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dispatch_tests::recorder::{Fate, Recorded};
use dispatch_tests::support::until;
use futures::future::join_all;
use reqwest::{Method, StatusCode};
use tokio::time::{Duration, Instant, sleep};

use crate::bench::Bench;
use crate::trip::{Call, Caller, Reply, ride_request};

/// Concurrent rides.
const RIDES: usize = 3;
/// Duration of an outage.
const OUTAGE: Duration = Duration::from_secs(5);
const PROBE_INTERVAL: Duration = Duration::from_millis(250);
/// Maximum attempts of a write, which the store retries, and of other calls, which the SDK retries.
const WRITE_ATTEMPTS: usize = 5;
const SDK_ATTEMPTS: usize = 3;

impl Bench {
    /// Plays rides during a fault. The process must stay alive and ready, and every ride must end.
    async fn ride_through(&mut self, fault: impl AsyncFnOnce(&Self)) {
        let (apps, worker) = (&self.apps, &self.worker);
        let riding = async {
            // The fault begins first.
            sleep(Duration::from_millis(200)).await;
            let names: Vec<String> = (0..RIDES).map(|number| format!("{}-{number}", self.name)).collect();
            join_all(names.iter().map(|name| apps.ride(name))).await
        };
        let watching = async {
            loop {
                assert_eq!(worker.admin("livez").await, Some(200));
                assert_eq!(worker.admin("readyz").await, Some(200));
                sleep(PROBE_INTERVAL).await;
            }
        };
        let rides = tokio::select! {
            (rides, ()) = async { tokio::join!(riding, fault(self)) } => rides,
            never = watching => never,
        };
        self.rides.extend(rides);
        println!("{:?}", self.apps.answers());
        self.audit().await;
    }

    /// Failed calls of other services, as the process counts them.
    async fn failures(&self) -> u64 {
        let metrics = self.worker.metrics().await;
        let lines = metrics.lines().filter(|line| line.starts_with("dispatch_port_errors_total{"));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// Applies `rule` to all calls for the duration of an outage.
    async fn outage(&self, rule: impl Fn(&Recorded) -> Fate + Send + Sync + 'static) {
        self.recorder.interfere(rule);
        sleep(OUTAGE).await;
        self.recorder.stop_interfering();
    }

    async fn redis(&self, command: &str, arguments: &[&str]) {
        let client = redis::Client::open(self.city.redis.lock().await.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        redis::cmd(command).arg(arguments).query_async::<()>(&mut connection).await.unwrap();
    }
}

fn refusal(status: u16, kind: &str) -> Fate {
    let body = format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{kind}","message":"for a test"}}"#);
    Fate::Answer { status, kind: "application/x-amz-json-1.0", body }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_is_down_drivers_are_found_in_the_table_and_nothing_is_lost() {
    let mut bench = Bench::open("redis-down").await;
    bench
        .ride_through(async |bench| {
            bench.city.redis.lock().await.kill();
            sleep(OUTAGE).await;
            bench.city.redis.lock().await.revive().await.unwrap();
        })
        .await;
    assert!(bench.failures().await > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_refuses_writes_rides_continue_from_the_table() {
    let mut bench = Bench::open("redis-refusing").await;
    bench
        .ride_through(async |bench| {
            for (begin, end) in [
                (["maxmemory", "1"], ["maxmemory", "0"]),
                (["min-replicas-to-write", "1"], ["min-replicas-to-write", "0"]),
            ] {
                bench.redis("CONFIG", &["SET", begin[0], begin[1]]).await;
                // Longer than the cache is used while it refuses writes.
                sleep(2 * OUTAGE).await;
                bench.redis("CONFIG", &["SET", end[0], end[1]]).await;
            }
        })
        .await;
    assert!(!bench.apps.answers().contains_key("500"), "{:?}", bench.apps.answers());
    for code in ["OOM", "NOREPLICAS"] {
        let line = format!("dispatch_cache_refusals_total{{code=\"{code}\"}}");
        assert!(bench.worker.metric(&line).await > 0, "{code}");
    }
    until("accepted writes", async || (bench.worker.metric("dispatch_cache_writable").await == 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demoted_redis_is_left_and_rides_continue_without_a_restart() {
    let mut bench = Bench::open("redis-demoted").await;
    bench
        .ride_through(async |bench| {
            bench.redis("REPLICAOF", &["127.0.0.1", "1"]).await;
            sleep(OUTAGE).await;
            bench.redis("REPLICAOF", &["NO", "ONE"]).await;
        })
        .await;
    assert!(!bench.apps.answers().contains_key("500"), "{:?}", bench.apps.answers());
    assert!(bench.worker.metric("dispatch_cache_reconnections_total{reason=\"READONLY\"}").await > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unresponsive_redis_delays_no_request_for_long() {
    let mut bench = Bench::open("redis-slow").await;
    let begun = Instant::now();
    bench.ride_through(async |bench| bench.redis("CLIENT", &["PAUSE", "5000", "ALL"]).await).await;
    println!("rides took {:?}", begun.elapsed());
    assert!(bench.failures().await > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_redis_is_refilled_and_no_ride_is_lost() {
    let mut bench = Bench::open("redis-wiped").await;
    bench
        .ride_through(async |bench| {
            for _ in 0..10 {
                bench.redis("FLUSHALL", &[]).await;
                sleep(OUTAGE / 10).await;
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttled_table_delays_rides_and_loses_none() {
    let mut bench = Bench::open("dynamodb-throttled").await;
    let throttled = Arc::new(AtomicUsize::new(0));
    let (count, counting) = (AtomicUsize::new(0), Arc::clone(&throttled));
    let half = move |call: &Recorded| {
        let odd = (count.fetch_add(1, Ordering::SeqCst).wrapping_mul(2_654_435_761) >> 7) & 1 == 1;
        if call.service != "dynamodb" || !odd {
            return Fate::Pass;
        }
        counting.fetch_add(1, Ordering::SeqCst);
        refusal(400, "ThrottlingException")
    };
    bench.ride_through(async move |bench| bench.outage(half).await).await;
    assert!(throttled.load(Ordering::SeqCst) > 20);
    assert!(bench.worker.metric("dispatch_store_retries_total{because=\"throttled\"}").await > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflicting_writes_are_retried_and_lose_no_ride() {
    let mut bench = Bench::open("conflicts").await;
    // Every second write of each dispatch fails. Counted over all dispatches, one write could fail in all its attempts.
    let tries: Mutex<HashMap<String, usize>> = Mutex::default();
    let every_other = move |call: &Recorded| {
        if call.operation != "TransactWriteItems" {
            return Fate::Pass;
        }
        let mut tries = tries.lock();
        let tries = tries.entry(call.item.clone()).or_default();
        *tries += 1;
        if tries.is_multiple_of(2) {
            return Fate::Pass;
        }
        let body = r#"{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException","Message":"for a test",
            "CancellationReasons":[{"Code":"TransactionConflict","Message":"busy"},{"Code":"None"}]}"#;
        Fate::Answer { status: 400, kind: "application/x-amz-json-1.0", body: body.to_owned() }
    };
    bench.ride_through(async move |bench| bench.outage(every_other).await).await;
    assert!(!bench.apps.answers().contains_key("503"), "a single conflict must not reach the caller");
    assert!(bench.worker.metric("dispatch_store_retries_total{because=\"conflict\"}").await > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_whose_responses_are_lost_are_recognised_and_not_repeated() {
    let mut bench = Bench::open("answers-lost").await;
    let (table, count) = (bench.city.config.table.name.clone(), AtomicUsize::new(0));
    let every_third = move |call: &Recorded| {
        let writes = call.resource == table || call.operation == "TransactWriteItems";
        if !(writes && call.writes()) || count.fetch_add(1, Ordering::SeqCst) % 3 > 0 {
            return Fate::Pass;
        }
        Fate::CutAfter
    };
    bench.ride_through(async move |bench| bench.outage(every_third).await).await;
    assert!(bench.worker.metric("dispatch_store_retries_total{because=\"in_doubt\"}").await > 0);
    assert!(bench.worker.metric("dispatch_store_lost_answers_total").await > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_table_fails_callers_get_a_retry_after() {
    let mut bench = Bench::open("dynamodb-failing").await;
    let all = |call: &Recorded| match call.service.as_str() {
        "dynamodb" => refusal(500, "InternalServerError"),
        _ => Fate::Pass,
    };
    bench.ride_through(async move |bench| bench.outage(all).await).await;
    assert!(bench.apps.answers().contains_key("503"));
    assert!(bench.failures().await > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_sns_fails_rides_continue_without_pushes() {
    let mut bench = Bench::open("sns-failing").await;
    let all = |call: &Recorded| match call.service.as_str() {
        "sns" => Fate::Answer { status: 503, kind: "text/xml", body: String::new() },
        _ => Fate::Pass,
    };
    bench.ride_through(async move |bench| bench.outage(all).await).await;
    assert!(!bench.apps.answers().contains_key("503"), "no caller waits for a push");
    assert!(bench.failures().await > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_sqs_fails_rides_continue_by_local_timers_and_the_sweeper() {
    let mut bench = Bench::open("sqs-failing").await;
    let all = |call: &Recorded| match call.service.as_str() {
        "sqs" => refusal(503, "ServiceUnavailable"),
        _ => Fate::Pass,
    };
    bench.ride_through(async move |bench| bench.outage(all).await).await;
    assert!(bench.failures().await > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_aws_hangs_requests_time_out_and_every_loop_stays_alive() {
    let mut bench = Bench::open("aws-hanging").await;
    bench
        .ride_through(async |bench| {
            bench.recorder.interfere(|_| Fate::HoldBefore);
            let asked = Instant::now();
            let reply = bench.apps.once(Caller::User("user#unknown"), &ride_request("unknown")).await;
            assert!(matches!(reply, Reply::Answer { status: StatusCode::SERVICE_UNAVAILABLE, .. }));
            assert!(asked.elapsed() < Duration::from_secs(11), "{:?}", asked.elapsed());
            bench.recorder.stop_interfering();
        })
        .await;
    assert!(bench.failures().await > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_is_retried_in_two_layers() {
    let bench = Bench::open("retries").await;
    bench.apps.people("rider").await;
    let (table, count) = (bench.city.config.table.name.clone(), Arc::new(AtomicUsize::new(0)));
    let cases = [
        ("TransactWriteItems", Caller::User("user#rider"), ride_request("rider"), WRITE_ATTEMPTS),
        (
            "GetItem",
            Caller::Operations,
            Call::new(Method::GET, "/v1/dispatches/01JW3Q4X5Y6Z7A8B9C0D1E2F3G".to_owned()),
            SDK_ATTEMPTS,
        ),
    ];
    for (operation, caller, call, attempts_max) in cases {
        for answer in [refusal(400, "ThrottlingException"), refusal(500, "InternalServerError")] {
            count.store(0, Ordering::SeqCst);
            let (counting, table, shown) = (Arc::clone(&count), table.clone(), answer.clone());
            bench.recorder.interfere(move |call| {
                if call.operation != operation || call.resource != table {
                    return Fate::Pass;
                }
                counting.fetch_add(1, Ordering::SeqCst);
                answer.clone()
            });
            let reply = bench.apps.once(caller, &call).await;
            let attempts = count.load(Ordering::SeqCst);
            let Reply::Answer { status, .. } = reply else {
                panic!("{call:?} was not answered after {attempts} attempts")
            };
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{call:?}: {attempts} attempts against {shown:?}");
            assert!((2..=attempts_max).contains(&attempts), "{operation}: {attempts} attempts against {shown:?}");
        }
    }
    bench.recorder.stop_interfering();
}
