//! A worker is told to end while a hundred requests a second come in: what it has taken it answers, and others have the rest.

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

/// Time between two requests.
const EVERY: Duration = Duration::from_millis(10);
/// Load before the signal.
const BEFORE: Duration = Duration::from_secs(3);
/// What the program allows itself at the end, and room for a busy machine. Kubernetes gives it 30 s.
const ENDS_WITHIN: Duration = Duration::from_secs(15);

/// What became of the requests.
#[derive(Default)]
struct Counts {
    answered: AtomicUsize,
    /// Nobody took them: the port is closed.
    refused: AtomicUsize,
    /// A connection that was taken and ended without an answer.
    cut: AtomicUsize,
}

/// A request on a connection of its own, whose first byte is sent as soon as somebody took it.
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
async fn a_worker_told_to_end_under_load_answers_what_it_took_and_gives_everything_back() {
    let mut bench = Bench::open("drained").await;
    let other = bench.surroundings.start("other", "all", free_port()).await;
    let ride = bench.apps.ride("rider").await;
    let head = bench.apps.head_of_a_look(&ride);
    bench.rides.push(ride);
    let (counts, ended) = (Arc::new(Counts::default()), Arc::new(AtomicBool::new(false)));
    let load = tokio::spawn({
        let (counts, ended, port) = (Arc::clone(&counts), Arc::clone(&ended), bench.port);
        async move {
            let mut requests = JoinSet::new();
            let mut ticks = interval(EVERY);
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
    sleep(BEFORE).await;
    let told = Instant::now();
    bench.worker.signal(Signal::TERM);
    let status = until("the worker to end", async || bench.worker.child.try_wait().unwrap()).await;
    let took = told.elapsed();
    ended.store(true, Ordering::SeqCst);
    load.await.unwrap();
    assert!(status.success() && took < ENDS_WITHIN, "{status} after {took:?}");
    let count = |of: &AtomicUsize| of.load(Ordering::SeqCst);
    println!(
        "{} answered, {} cut, {} refused behind the end, which took {took:?}",
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
