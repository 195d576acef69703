//! The memory of a worker under steady traffic: after its warm-up it does not grow.

use std::process::{Child, Command, Stdio};

use tokio::time::{Duration, Instant, sleep_until};

use crate::process::{Surroundings, free_port, number, simulator};
use crate::support::City;

/// Duration of the short run; `DISPATCH_MEMORY_SECONDS` sets another one. A run of seconds shows only that the figures
/// are made; growth is judged from [`JUDGED_FROM`] on.
const SECONDS: u64 = 8;
/// Drivers of the traffic, and requests per second: a load that a small machine serves beside its emulator.
const DRIVERS: u64 = 40;
const RATE: &str = "0.5";
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// The share of a run that counts as warm-up: pools, caches and buffers grow to the size that the traffic needs.
const WARM_UP_PERCENT: usize = 30;
/// Shortest run whose growth is judged.
const JUDGED_FROM: Duration = Duration::from_mins(5);
/// Most growth between the first and the last fifth of the samples after the warm-up, KiB. The allocator's own steps
/// are as large; a leak of one kilobyte per request exceeds it within the hour.
const GROWTH_MAX_KIB: i64 = 16 * 1024;
/// Most growth as a slope, KiB per hour, for runs of an hour and more.
const SLOPE_MAX_KIB: f64 = 16.0 * 1024.0;

/// Resident memory over time.
#[derive(Debug, Default)]
struct Samples(Vec<(Duration, u64)>);

/// What the samples after the warm-up show.
#[derive(Debug, PartialEq)]
struct Growth {
    /// Medians of the first and the last fifth, KiB.
    first: u64,
    last: u64,
    /// Slope of the least-squares line, KiB per hour.
    per_hour: f64,
}

impl Samples {
    /// The growth after the warm-up; `None` with fewer than five samples.
    fn growth(&self) -> Option<Growth> {
        let warm = &self.0[self.0.len() * WARM_UP_PERCENT / 100..];
        let fifth = warm.len() / 5;
        if fifth == 0 {
            return None;
        }
        let median = |part: &[(Duration, u64)]| {
            let mut values: Vec<u64> = part.iter().map(|(_, kib)| *kib).collect();
            values.sort_unstable();
            values[values.len() / 2]
        };
        let points: Vec<(f64, f64)> = warm.iter().map(|(at, kib)| (at.as_secs_f64() / 3600.0, *kib as f64)).collect();
        let count = points.len() as f64;
        let (mean_x, mean_y) =
            (points.iter().map(|(x, _)| x).sum::<f64>() / count, points.iter().map(|(_, y)| y).sum::<f64>() / count);
        let covariance: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
        let variance: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
        Some(Growth {
            first: median(&warm[..fifth]),
            last: median(&warm[warm.len() - fifth..]),
            per_hour: covariance / variance,
        })
    }
}

/// The simulator, killed when dropped.
struct Traffic(Child);

impl Traffic {
    fn start(city: &City, port: u16, seconds: u64) -> Self {
        let child = Command::new("nice")
            .args(["-n", "5"])
            .arg(simulator())
            .env("DISPATCH_SIGNING_KEY", city.signing_key())
            .args(["--api", &format!("http://127.0.0.1:{port}"), "--drivers", &DRIVERS.to_string(), "--rate", RATE])
            .args(["--for", &format!("{seconds}s"), "--seed", "11"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("dispatch-simulator is built");
        Self(child)
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        // Both fail only if the process has already ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_of_a_worker_under_steady_traffic_stays_flat() {
    let seconds = number("DISPATCH_MEMORY_SECONDS", SECONDS);
    let city = City::create().await;
    let surroundings = Surroundings::new(&city.config.to_json_pretty().unwrap(), city.ministack.endpoint(), None);
    let port = free_port();
    let worker = surroundings.start("memory", "all", port).await;
    let mut traffic = Traffic::start(&city, port, seconds);
    let (begun, length) = (Instant::now(), Duration::from_secs(seconds));
    let mut samples = Samples::default();
    for at in 1.. {
        sleep_until(begun + SAMPLE_INTERVAL * at).await;
        if begun.elapsed() >= length {
            break;
        }
        assert!(traffic.0.try_wait().unwrap().is_none(), "the traffic ended early");
        samples.0.push((begun.elapsed(), worker.memory_kib()));
    }
    let requests = worker.metric("dispatch_requests_total").await;
    drop(traffic);
    let growth = samples.growth().expect("samples");
    println!(
        "memory: {seconds} s, {DRIVERS} drivers, {requests} requests, {} samples: {} KiB at first, {} KiB at last, \
         slope {:.0} KiB/h, {} KiB at most",
        samples.0.len(),
        growth.first,
        growth.last,
        growth.per_hour,
        samples.0.iter().map(|(_, kib)| *kib).max().unwrap_or_default()
    );
    assert!(requests > 0, "no traffic");
    if length >= JUDGED_FROM {
        let grown = growth.last.cast_signed() - growth.first.cast_signed();
        assert!(grown < GROWTH_MAX_KIB, "{grown} KiB more after {seconds} s");
    }
    if length >= Duration::from_hours(1) {
        assert!(growth.per_hour < SLOPE_MAX_KIB, "{:.0} KiB more per hour", growth.per_hour);
    }
}

#[test]
fn growth_is_measured_after_the_warm_up() {
    let samples = |kib: fn(u64) -> u64| Samples((0..100).map(|n| (Duration::from_secs(36 * n), kib(n))).collect());
    let flat = samples(|n| if n < 30 { n } else { 1_000 }).growth().unwrap();
    assert_eq!(flat, Growth { first: 1_000, last: 1_000, per_hour: 0.0 });
    let leaking = samples(|n| 1_000 + 10 * n).growth().unwrap();
    assert!((leaking.per_hour - 1_000.0).abs() < 0.01, "{leaking:?}");
    assert!(leaking.last > leaking.first + 500);
    assert_eq!(Samples::default().growth(), None);
}
