//! SIGTERM at a hundred requests a second: the worker answers every request it has accepted and releases its leases.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use dispatch_tests::support::until;
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, MissedTickBehavior, interval, sleep};

use crate::bench::Bench;
use crate::process::free_port;

const REQUEST_INTERVAL: Duration = Duration::from_millis(10);
/// Duration of the load before the signal.
const LOAD_BEFORE: Duration = Duration::from_secs(3);
/// The program's own limit for a shutdown, and room for a busy machine. Kubernetes grants 30 s.
const ENDS_WITHIN: Duration = Duration::from_secs(15);

/// Requests by their outcome.
#[derive(Default)]
struct Counts {
    answered: AtomicUsize,
    /// The port was closed.
    refused: AtomicUsize,
    /// The connection was accepted and closed without a complete answer.
    cut: AtomicUsize,
}

/// Sends a request on a new connection, at once after it was accepted.
async fn request(port: u16, head: &str, counts: &Counts) {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await else {
        counts.refused.fetch_add(1, Ordering::SeqCst);
        return;
    };
    let mut answer = Vec::new();
    let sent = stream.write_all(head.as_bytes()).await;
    let read = stream.read_to_end(&mut answer).await;
    let whole = sent.is_ok() && read.is_ok() && answer.starts_with(b"HTTP/1.1 200");
    let kind = if whole { &counts.answered } else { &counts.cut };
    kind.fetch_add(1, Ordering::SeqCst);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_terminated_under_load_answers_accepted_requests_and_releases_its_leases() {
    let mut bench = Bench::open("drained").await;
    let other = bench.surroundings.start("other", "all", free_port()).await;
    let ride = bench.apps.ride("rider").await;
    let head = bench.apps.read_request_head(&ride);
    bench.rides.push(ride);
    let (counts, ended) = (Arc::new(Counts::default()), Arc::new(AtomicBool::new(false)));
    let load = tokio::spawn({
        let (counts, ended, port) = (Arc::clone(&counts), Arc::clone(&ended), bench.port);
        async move {
            let mut requests = JoinSet::new();
            let mut ticks = interval(REQUEST_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            while !ended.load(Ordering::SeqCst) {
                ticks.tick().await;
                let (head, counts) = (head.clone(), Arc::clone(&counts));
                requests.spawn(async move { request(port, &head, &counts).await });
                while requests.try_join_next().is_some() {}
            }
            while requests.join_next().await.is_some() {}
        }
    });
    sleep(LOAD_BEFORE).await;
    let signalled = Instant::now();
    bench.worker.signal(Signal::TERM);
    let status = until("the worker to end", async || bench.worker.child.try_wait().unwrap()).await;
    let took = signalled.elapsed();
    ended.store(true, Ordering::SeqCst);
    load.await.unwrap();
    assert!(status.success() && took < ENDS_WITHIN, "{status} after {took:?}");
    let count = |of: &AtomicUsize| of.load(Ordering::SeqCst);
    println!(
        "{} answered, {} cut, {} refused after the shutdown, which took {took:?}",
        count(&counts.answered),
        count(&counts.cut),
        count(&counts.refused)
    );
    assert!(count(&counts.answered) > 100);
    assert_eq!(count(&counts.cut), 0);
    for lease in bench.city.scan(&bench.city.config.lease_table).await {
        assert!(!text(&lease, "leaseOwner").starts_with("drained/"), "{lease}");
    }
    bench.worker = other;
    bench.audit().await;
}

fn text<'a>(item: &'a Value, name: &str) -> &'a str {
    item[name].as_str().unwrap_or_default()
}
