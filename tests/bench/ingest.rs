//! Positions in batches over HTTP: how many one process accepts per second, how old they are when the index of another
//! process has them, and the calls they cause elsewhere.
//!
//! Everything is real except DynamoDB, an endpoint that counts calls and rejects them; there must be none. Redis, the
//! load and both processes share the machine, so a dedicated process would accept more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use axum::Router;
use axum::http::StatusCode;
use dispatch_api::worker_config::{CacheConfig, LimitsConfig, RateConfig};
use dispatch_core::geo::Coordinate;
use dispatch_core::ids::DriverId;
use dispatch_core::person::{DriverPreferences, PersonStatus};
use dispatch_core::time::EpochMs;
use dispatch_dev_keys::{Claims, SigningKey};
use dispatch_runtime::adapters::eta::StraightLine;
use dispatch_runtime::adapters::fleet::{RedisConnector, indexed_fleet};
use dispatch_runtime::adapters::messaging::fake::{FakeDevices, FakeEvents, FakeNotifier, FakeResponses, FakeTimers};
use dispatch_runtime::adapters::store::DynamoStore;
use dispatch_runtime::auth::{Authenticator, KeySource};
use dispatch_runtime::engine::Engine;
use dispatch_runtime::http::listener::{Bounds, Setup, serve};
use dispatch_runtime::http::{Access, AppState, HttpRole, Rates, router};
use dispatch_runtime::ports::clock::SystemClock;
use dispatch_runtime::ports::{Clock as _, DriverSearch, FleetEntry, Ports};
use dispatch_runtime::telemetry::metrics::Metrics;
use dispatch_tests::redis::RedisServer;
use dispatch_tests::support::{sdk, seoul};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::Size;
use crate::report::{Goal, Section, Table};
use crate::stats::{Spread, number};

/// Length of one degree of latitude, m.
const DEGREE_M: f64 = 111_226.0;
/// Longest time until the other index has a ping.
const KNOWN_WITHIN: Duration = Duration::from_secs(10);
/// Pause between two searches for a ping in the other index: the error of a staleness.
const POLL_INTERVAL: Duration = Duration::from_micros(500);
/// Drivers registered in one call.
const REGISTERED_AT_ONCE: usize = 1000;
/// Maximum size of an answer, bytes.
const ANSWER_BYTES_MAX: usize = 4096;

/// Runs of a full measurement.
const RUNS: usize = 3;
/// Goal, pings per second.
const RATE_GOAL: f64 = 50_000.0;

/// The load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IngestPlan {
    pub drivers: u32,
    /// Pings per request, at most 500.
    pub batch: u32,
    /// Connections, each of which sends a request when the previous one is answered.
    pub connections: u32,
    /// Further drivers, with one connection each, whose pings are searched for in the other index.
    pub probes: u32,
    /// Duration.
    pub length: Duration,
}

/// The measurements of one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IngestReport {
    /// Accepted pings.
    pub pings: u64,
    pub pings_per_s: f64,
    /// Dropped pings, and those of refused requests.
    pub dropped: u64,
    /// Median time from sending a ping until the index of another process has it, ms.
    pub staleness_p50_ms: f64,
    /// 99th percentile of that time, ms.
    pub staleness_p99_ms: f64,
    /// Number of pings whose staleness was measured.
    pub followed: usize,
    /// CPU cores used by Redis.
    pub redis_cpu: f64,
    /// Pings per Redis call.
    pub pings_per_call: f64,
    /// DynamoDB calls, reads and writes.
    pub dynamodb_calls: u64,
}

pub(crate) async fn ingest(plan: IngestPlan) -> anyhow::Result<IngestReport> {
    let stage = Stage::open(plan).await?;
    let before = stage.redis_usage().await?;
    let (counts, begun) = (Arc::new(Counts::default()), Instant::now());
    let mut load = JoinSet::new();
    for number in 0..plan.connections {
        load.spawn(send(stage.connect().await?, Share::of(plan, number, &stage.token), Arc::clone(&counts)));
    }
    let mut probes = JoinSet::new();
    for number in 0..plan.probes {
        let probe =
            Probe { number: plan.drivers + number, other: Arc::clone(&stage.other), token: stage.token.clone() };
        probes.spawn(probe.follow(stage.connect().await?, begun + plan.length));
    }
    let mut staleness_ms = Vec::new();
    while let Some(followed) = probes.join_next().await {
        staleness_ms.extend(followed??);
    }
    counts.stop.store(true, Ordering::Relaxed);
    while let Some(sent) = load.join_next().await {
        sent??;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let after = stage.redis_usage().await?;
    let pings = counts.accepted.load(Ordering::Relaxed);
    staleness_ms.sort_by(f64::total_cmp);
    let quantile = |percent: usize| staleness_ms.get(staleness_ms.len() * percent / 100).copied().unwrap_or(f64::NAN);
    Ok(IngestReport {
        pings,
        pings_per_s: pings as f64 / seconds,
        dropped: counts.dropped.load(Ordering::Relaxed),
        staleness_p50_ms: quantile(50),
        staleness_p99_ms: quantile(99),
        followed: staleness_ms.len(),
        redis_cpu: (after.cpu_s - before.cpu_s) / seconds,
        pings_per_call: pings as f64 / (after.calls - before.calls),
        dynamodb_calls: stage.dynamodb_calls.load(Ordering::Relaxed),
    })
}

/// Redis, a process that accepts positions, the index of another one, and a table that must not be called.
struct Stage {
    address: std::net::SocketAddr,
    token: String,
    other: Arc<dyn DriverSearch>,
    dynamodb_calls: Arc<AtomicU64>,
    client: redis::Client,
    _redis: RedisServer,
    _stop: DropGuard,
}

struct Usage {
    cpu_s: f64,
    calls: f64,
}

impl Stage {
    async fn open(plan: IngestPlan) -> anyhow::Result<Self> {
        let redis = RedisServer::start().await?;
        let connector = RedisConnector::new(&CacheConfig { url: redis.url(), auth_token_env: None })?;
        let (city, clock) = (seoul(), Arc::new(SystemClock));
        let (metrics, stop) = (Arc::new(Metrics::new()), CancellationToken::new());
        let (fleet, _) = indexed_fleet(&connector, city.clone(), clock.clone(), Arc::clone(&metrics));
        let entries: Vec<FleetEntry> = (0..plan.drivers + plan.probes).map(free).collect::<anyhow::Result<_>>()?;
        for some in entries.chunks(REGISTERED_AT_ONCE) {
            fleet.positions.fill(some).await?;
        }
        let (other, follower) = indexed_fleet(&connector, city.clone(), clock.clone(), Arc::new(Metrics::new()));
        let end = stop.clone();
        tokio::spawn(async move { follower.run(&end).await });

        let (dynamodb, dynamodb_calls) = refusing_endpoint().await?;
        let client = aws_sdk_dynamodb::Client::new(&sdk(&dynamodb).await);
        let store = Arc::new(DynamoStore::new(client, "table", 1, city.clone()));
        let ports = Ports {
            dispatches: store.clone(),
            profiles: store.clone(),
            fleet,
            timers: Arc::new(FakeTimers::default()),
            responses: Arc::new(FakeResponses::default()),
            notifier: Arc::new(FakeNotifier::default()),
            devices: Arc::new(FakeDevices::default()),
            streams: Arc::new(FakeEvents::default()),
            eta: Arc::new(StraightLine::new(seoul())),
            clock,
        };
        let key = SigningKey::generate("https://login.example.com", "dispatch")?;
        let keys = KeySource::document(key.jwks().to_string().as_bytes())?;
        let authenticator = Arc::new(Authenticator::with_keys(&key.trusted_by("unused"), keys));
        let rate = RateConfig { per_second: 100_000, burst: 100_000 };
        let limits = LimitsConfig {
            per_subject: rate,
            per_address: rate,
            address_share_percent: 100,
            ..LimitsConfig::default()
        };
        let access = Access { authenticator, rates: Arc::new(Rates::new(&limits)) };
        let setup = Setup { bounds: Bounds::default(), metrics: Arc::clone(&metrics), name: "http" };
        let engine = Arc::new(Engine::new(ports, city, metrics));
        let routes = router(AppState::new(engine, access, store, stop.clone()), &[HttpRole::StatusUpdate].into());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(serve(listener, routes, setup, stop.clone()));

        let claims = Claims { subject: "gateway", scopes: &["operations"], lifetime: Duration::from_hours(1) };
        let token = key.token(&claims, SystemClock.now())?;
        let client = redis::Client::open(redis.url())?;
        Ok(Self {
            address,
            token,
            other: other.search,
            dynamodb_calls,
            client,
            _redis: redis,
            _stop: stop.drop_guard(),
        })
    }

    async fn connect(&self) -> anyhow::Result<TcpStream> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn redis_usage(&self) -> anyhow::Result<Usage> {
        let mut connection = self.client.get_multiplexed_async_connection().await?;
        let mut number = async |section: &str, line: &str| -> anyhow::Result<f64> {
            let text: String = redis::cmd("INFO").arg(section).query_async(&mut connection).await?;
            let rest = text.lines().find_map(|found| found.strip_prefix(line)).with_context(|| line.to_owned())?;
            Ok(rest.split(',').next().unwrap_or(rest).trim().parse()?)
        };
        let cpu_s = number("cpu", "used_cpu_user:").await? + number("cpu", "used_cpu_sys:").await?;
        let calls = number("commandstats", "cmdstat_evalsha:calls=").await?;
        Ok(Usage { cpu_s, calls })
    }
}

/// Starts an endpoint that counts calls and rejects them.
async fn refusing_endpoint() -> anyhow::Result<(String, Arc<AtomicU64>)> {
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let refuse = move || async move {
        counted.fetch_add(1, Ordering::Relaxed);
        StatusCode::BAD_REQUEST
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    // Runs until the program ends; after the measurement it is only an idle socket.
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(refuse)).await });
    Ok((endpoint, calls))
}

/// The position of a driver: rows of a hundred, 200 m apart.
fn home(number: u32) -> anyhow::Result<Coordinate> {
    let (row, column) = (f64::from(number / 100), f64::from(number % 100));
    Ok(Coordinate::new(37.3 + row * 200.0 / DEGREE_M, 126.9 + column * 0.0023)?)
}

/// The position of a driver, moved to the north.
fn moved(number: u32, north_m: f64) -> anyhow::Result<Coordinate> {
    let home = home(number)?;
    Ok(Coordinate::new(home.lat() + north_m / DEGREE_M, home.lng())?)
}

fn free(number: u32) -> anyhow::Result<FleetEntry> {
    Ok(FleetEntry {
        driver: DriverId::parse(format!("driver#{number:06}"))?,
        status: PersonStatus::Active,
        dispatch: None,
        position: home(number)?,
        seen_at: SystemClock.now(),
        preferences: DriverPreferences {
            default_ride_type: None,
            preferred_regions: vec!["중구".to_owned()],
            max_distance: 20.0,
            auto_accept: true,
            minimum_fare: 8000,
        },
    })
}

#[derive(Default)]
struct Counts {
    accepted: AtomicU64,
    dropped: AtomicU64,
    stop: AtomicBool,
}

/// A request that is built once and sent many times with different timestamps.
struct Body {
    request: Vec<u8>,
    /// Offsets of the timestamps.
    times: Vec<usize>,
    pings: u64,
}

impl Body {
    /// A request with one ping of each driver, `north_m` north of the driver's position.
    fn of(drivers: impl Iterator<Item = u32>, north_m: f64, token: &str) -> anyhow::Result<Self> {
        let (mut entries, mut pings) = (Vec::new(), 0);
        for number in drivers {
            let place = moved(number, north_m)?;
            entries.push(format!(
                r#"{{"driverId":"driver#{number:06}","lat":{:.6},"lng":{:.6},"accuracyMeters":8.5,"timestamp":"{}"}}"#,
                place.lat(),
                place.lng(),
                time_text(EpochMs(0)),
            ));
            pings += 1;
        }
        let json = format!(r#"{{"locations":[{}]}}"#, entries.join(","));
        let request = format!(
            "POST /v1/locations/batch HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{json}",
            json.len()
        );
        let before = "\"timestamp\":\"";
        let times = request.match_indices(before).map(|(at, _)| at + before.len()).collect();
        Ok(Self { request: request.into_bytes(), times, pings })
    }

    fn made_at(&mut self, at: EpochMs) -> &[u8] {
        let text = time_text(at);
        for start in &self.times {
            self.request[*start..*start + text.len()].copy_from_slice(text.as_bytes());
        }
        &self.request
    }
}

/// A timestamp of constant length.
fn time_text(at: EpochMs) -> String {
    let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
    format!("{at:.3}")
}

/// The requests of one connection.
struct Share {
    /// The same drivers in each round, alternately at their position and 20 m away.
    bodies: Vec<Body>,
    wrong: Option<anyhow::Error>,
}

impl Share {
    fn of(plan: IngestPlan, connection: u32, token: &str) -> Self {
        let own: Vec<u32> = (connection..plan.drivers).step_by(plan.connections as usize).collect();
        let made: anyhow::Result<Vec<Body>> = [0.0, 20.0]
            .into_iter()
            .flat_map(|north_m| own.chunks(plan.batch as usize).map(move |some| (north_m, some)))
            .map(|(north_m, some)| Body::of(some.iter().copied(), north_m, token))
            .collect();
        match made {
            Ok(bodies) => Self { bodies, wrong: None },
            Err(error) => Self { bodies: Vec::new(), wrong: Some(error) },
        }
    }
}

/// Sends requests one after the other until `counts.stop` is set.
async fn send(mut stream: TcpStream, share: Share, counts: Arc<Counts>) -> anyhow::Result<()> {
    let Share { mut bodies, wrong } = share;
    if let Some(error) = wrong {
        return Err(error);
    }
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    while !counts.stop.load(Ordering::Relaxed) {
        for body in &mut bodies {
            let (status, accepted) = ask(&mut stream, body.made_at(SystemClock.now()), &mut answer).await?;
            ensure!(status == 202 || status == 503, "answered {status}");
            counts.accepted.fetch_add(accepted, Ordering::Relaxed);
            counts.dropped.fetch_add(body.pings - accepted, Ordering::Relaxed);
            if counts.stop.load(Ordering::Relaxed) {
                break;
            }
        }
    }
    Ok(())
}

/// Sends a request; returns the status and the number of accepted pings.
async fn ask(stream: &mut TcpStream, request: &[u8], answer: &mut [u8]) -> anyhow::Result<(u16, u64)> {
    stream.write_all(request).await?;
    let mut filled = 0;
    loop {
        let read = stream.read(&mut answer[filled..]).await?;
        ensure!(read > 0, "the connection was closed");
        filled += read;
        let text = std::str::from_utf8(&answer[..filled])?;
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() < length.context("no length")?.parse()? {
            continue;
        }
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        let accepted = body.split_once("\"accepted\":").map_or("", |(_, rest)| rest);
        let accepted = accepted.split([',', '}']).next().and_then(|count| count.parse().ok()).unwrap_or(0);
        return Ok((status, accepted));
    }
}

/// A driver whose pings are searched for in the other index.
struct Probe {
    number: u32,
    other: Arc<dyn DriverSearch>,
    token: String,
}

impl Probe {
    /// Pings until `end`; returns the staleness of each ping, ms.
    async fn follow(self, mut stream: TcpStream, end: Instant) -> anyhow::Result<Vec<f64>> {
        let mut answer = vec![0; ANSWER_BYTES_MAX];
        let mut took = Vec::new();
        let mut bodies = Vec::new();
        for north_m in [60.0, 90.0] {
            bodies.push((moved(self.number, north_m)?, Body::of(std::iter::once(self.number), north_m, &self.token)?));
        }
        while Instant::now() < end {
            for (place, body) in &mut bodies {
                let request = body.made_at(SystemClock.now());
                let begun = Instant::now();
                let (status, accepted) = ask(&mut stream, request, &mut answer).await?;
                ensure!(status == 202 && accepted == 1, "a followed ping was answered {status}, {accepted} accepted");
                timeout(KNOWN_WITHIN, self.until_known(*place))
                    .await
                    .context("the other index did not get a ping in time")??;
                took.push(begun.elapsed().as_secs_f64() * 1000.0);
            }
        }
        Ok(took)
    }

    async fn until_known(&self, place: Coordinate) -> anyhow::Result<()> {
        loop {
            let near = self.other.nearby(place, &[10], 1, SystemClock.now()).await?.unwrap_or_default();
            if !near.is_empty() {
                return Ok(());
            }
            sleep(POLL_INTERVAL).await;
        }
    }
}

/// Measures a size and reports it.
pub(crate) async fn measure(size: Size) -> anyhow::Result<Section> {
    let plan = match size {
        Size::Quick | Size::Trial => {
            IngestPlan { drivers: 2_000, batch: 100, connections: 2, probes: 2, length: Duration::from_secs(2) }
        }
        Size::Full => {
            IngestPlan { drivers: 50_000, batch: 500, connections: 8, probes: 4, length: Duration::from_secs(15) }
        }
    };
    // A run without results is a defect of the harness.
    let mut runs = Vec::new();
    for _ in 0..if size == Size::Full { RUNS } else { 1 } {
        let report = ingest(plan).await?;
        ensure!(report.pings > 0 && report.followed > 0, "no ping was accepted or followed: {report:?}");
        ensure!(report.dynamodb_calls == 0, "positions caused {} DynamoDB calls", report.dynamodb_calls);
        runs.push(report);
    }
    let of = |figure: fn(&IngestReport) -> f64| Spread::of(runs.iter().map(figure).collect());
    let mut table = Table::new("Positions in batches", &["What", "Median (minimum to maximum)"]);
    let rate = of(|run| run.pings_per_s);
    table.row(["pings a second".to_owned(), rate.text()]);
    table.row(["pings dropped".to_owned(), of(|run| run.dropped as f64).text()]);
    table.row([
        "time until another process's index has a ping, p50, ms".to_owned(),
        of(|run| run.staleness_p50_ms).text(),
    ]);
    table.row([
        "time until another process's index has a ping, p99, ms".to_owned(),
        of(|run| run.staleness_p99_ms).text(),
    ]);
    table.row(["CPU cores used by Redis".to_owned(), of(|run| run.redis_cpu).text()]);
    table.row(["pings per Redis call".to_owned(), of(|run| run.pings_per_call).text()]);
    table.row(["DynamoDB calls".to_owned(), of(|run| run.dynamodb_calls as f64).text()]);
    let mut section = Section { title: "Positions", tables: vec![table], ..Section::default() };
    section.text.push(format!(
        "`POST /v1/locations/batch` over HTTP with tokens: {} pings per request, {} connections, {} drivers, {} s, {} \
         runs. The API, the index of another process, Redis and the load share the machine. DynamoDB is an endpoint \
         that counts calls and rejects them.",
        plan.batch,
        plan.connections,
        number(plan.drivers.into()),
        plan.length.as_secs(),
        runs.len(),
    ));
    if size == Size::Full {
        section.goals.push(Goal::at_least("Pings a second, in batches", RATE_GOAL, rate.median, ""));
        section.goals.push(Goal::at_most(
            "DynamoDB calls for positions",
            0.0,
            of(|run| run.dynamodb_calls as f64).most,
            "",
        ));
    }
    Ok(section)
}
