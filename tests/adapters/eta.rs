//! [`Eta`]: one contract suite for the straight line, the router in memory and routers over HTTP; then failures of
//! routers.

mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use dispatch_api::worker_config::{RouterConfig, RouterKind};
use dispatch_core::fare::FareTable;
use dispatch_core::geo::Coordinate;
use dispatch_core::policy::DispatchPolicy;
use dispatch_runtime::adapters::eta::fake::FakeRouter;
use dispatch_runtime::adapters::eta::{Routers, StraightLine};
use dispatch_runtime::city::{City, Settings};
use dispatch_runtime::ports::{Eta, PortError};
use dispatch_runtime::telemetry::metrics::Metrics;
use dispatch_runtime::testing::faults::{Failing, Faults};
use jiff::tz::TimeZone;
use tokio::sync::watch;

use crate::support::seoul;
use server::{Behaviour, RoadServer, sea};

const KINDS: [RouterKind; 2] = [RouterKind::Osrm, RouterKind::Valhalla];

fn pickup() -> Coordinate {
    Coordinate::new(37.5662, 126.9784).unwrap()
}

fn north(metres: f64) -> Coordinate {
    Coordinate::new(37.5662 + metres / 111_226.0, 126.9784).unwrap()
}

/// A process whose city has a router.
struct Process {
    eta: Routers,
    metrics: Arc<Metrics>,
    settings: watch::Sender<Arc<Settings>>,
}

fn settings(kind: RouterKind, url: &str, timeout_ms: u64) -> Settings {
    let policy = DispatchPolicy { eta_timeout_ms: timeout_ms, ..DispatchPolicy::default() };
    let router = Some(RouterConfig { kind, url: url.to_owned() });
    Settings { router, ..Settings::new(policy, FareTable::default()) }
}

impl Process {
    /// With a time limit of two seconds, which is enough on a loaded machine.
    fn asking(kind: RouterKind, url: &str) -> Self {
        Self::by(settings(kind, url, 2000))
    }

    fn by(settings: Settings) -> Self {
        let (settings, receiver) = watch::channel(Arc::new(settings));
        let city = City::new("seoul", "KRW", TimeZone::get("Asia/Seoul").unwrap(), receiver);
        let metrics = Arc::new(Metrics::new());
        Self { eta: Routers::new(city, Arc::clone(&metrics)), metrics, settings }
    }

    fn count(&self, outcome: &str) -> u64 {
        let name = format!("dispatch_eta_requests_total{{outcome=\"{outcome}\"}} ");
        let text = self.metrics.encode().unwrap();
        text.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |count| count.parse().unwrap())
    }
}

async fn keeps_the_contract(eta: &dyn Eta) {
    let seconds = eta.seconds(&[north(900.0), north(100.0), north(500.0)], pickup()).await.unwrap();
    let [Some(far), Some(near), Some(middle)] = seconds[..] else { panic!("{seconds:?}") };
    assert!(near < middle && middle < far, "each answer in the place of its question: {seconds:?}");
    assert_eq!(eta.seconds(&[], pickup()).await.unwrap(), []);
    assert_eq!(eta.seconds(&[pickup()], pickup()).await.unwrap(), [Some(0)]);
    let many: Vec<Coordinate> = (0..50_i32).map(|n| north(f64::from(n) * 100.0)).collect();
    let seconds = eta.seconds(&many, pickup()).await.unwrap();
    assert_eq!(seconds.len(), 50);
    assert!(seconds.is_sorted() && seconds.iter().all(Option::is_some), "{seconds:?}");
}

#[tokio::test]
async fn the_straight_line_and_the_router_in_memory_keep_the_contract() {
    keeps_the_contract(&StraightLine::new(seoul())).await;
    keeps_the_contract(&FakeRouter::default()).await;
    keeps_the_contract(&Failing::new(FakeRouter::default(), Faults::default())).await;
    let (_, receiver) = watch::channel(Arc::new(Settings::new(DispatchPolicy::default(), FareTable::default())));
    let city = City::new("seoul", "KRW", TimeZone::get("Asia/Seoul").unwrap(), receiver);
    keeps_the_contract(&Routers::new(city, Arc::default())).await;
}

#[tokio::test]
async fn routers_over_http_keep_the_contract() {
    for kind in KINDS {
        let server = RoadServer::start().await;
        let process = Process::asking(kind, &server.url());
        keeps_the_contract(&process.eta).await;
        assert_eq!((process.count("answered"), server.asked()), (3, 3), "no request without places");
    }
}

#[tokio::test]
async fn a_router_behind_a_path_is_found() {
    let server = RoadServer::start().await;
    for kind in KINDS {
        let process = Process::asking(kind, &format!("{}/roads/seoul", server.url()));
        assert_eq!(process.eta.seconds(&[pickup()], pickup()).await.unwrap(), [Some(0)], "{kind:?}");
    }
}

#[tokio::test]
async fn a_place_without_a_way_has_no_time_and_the_others_have_theirs() {
    let memory = FakeRouter::default();
    memory.set(sea(), None);
    assert_eq!(memory.seconds(&[sea(), pickup()], pickup()).await.unwrap(), [None, Some(0)]);
    let server = RoadServer::start().await;
    for kind in KINDS {
        let process = Process::asking(kind, &server.url());
        assert_eq!(process.eta.seconds(&[sea(), pickup()], pickup()).await.unwrap(), [None, Some(0)], "{kind:?}");
    }
}

/// The text of an error and of its causes.
fn whole_text(error: &PortError) -> String {
    let mut texts = vec![format!("{error} {error:?}")];
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        texts.push(format!("{error} {error:?}"));
        cause = error.source();
    }
    texts.join(" ")
}

#[tokio::test]
async fn wrong_answers_are_errors_without_a_place_in_them() {
    let server = RoadServer::start().await;
    for kind in KINDS {
        for (behaviour, outcome, may_pass) in [
            (Behaviour::Status(400), "refused", false),
            (Behaviour::Status(404), "failed", false),
            (Behaviour::Status(429), "failed", true),
            (Behaviour::Status(503), "failed", true),
            (Behaviour::Redirect, "failed", false),
            (Behaviour::NotOk, "failed", false),
            (Behaviour::Text, "failed", false),
            (Behaviour::FewerRows, "failed", false),
            (Behaviour::MoreColumns, "failed", false),
            (Behaviour::Huge, "failed", false),
            (Behaviour::BreaksOff, "failed", true),
        ] {
            server.behave(behaviour);
            let process = Process::asking(kind, &server.url());
            let before = server.asked();
            let error = process.eta.seconds(&[north(100.0), north(200.0)], pickup()).await.unwrap_err();
            let text = whole_text(&error);
            assert_eq!(matches!(error, PortError::Unavailable { .. }), may_pass, "{kind:?} {behaviour:?}: {text}");
            assert_eq!(process.count(outcome), 1, "{kind:?} {behaviour:?}: {text}");
            assert!(!text.contains("37.5") && !text.contains("126.9"), "{text}");
            assert_eq!(server.asked(), before + 1, "{kind:?} {behaviour:?}: one search asks once");
        }
    }
}

#[tokio::test]
async fn an_absurd_time_is_none() {
    let server = RoadServer::start().await;
    server.behave(Behaviour::Absurd);
    for kind in KINDS {
        let process = Process::asking(kind, &server.url());
        let seconds = process.eta.seconds(&[north(100.0), north(200.0)], pickup()).await.unwrap();
        assert_eq!(seconds, [None, None], "{kind:?}");
    }
}

#[tokio::test]
async fn a_silent_router_is_given_up_in_time() {
    let server = RoadServer::start().await;
    server.behave(Behaviour::Silent);
    for kind in KINDS {
        let process = Process::by(settings(kind, &server.url(), 50));
        let began = Instant::now();
        let error = process.eta.seconds(&[north(100.0)], pickup()).await.unwrap_err();
        assert!(matches!(error, PortError::Unavailable { .. }), "{error:?}");
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        assert_eq!(process.count("timed_out"), 1);
    }
}

#[tokio::test]
async fn a_router_that_keeps_failing_is_left_alone_and_one_that_refuses_is_not() {
    let server = RoadServer::start().await;
    for (behaviour, asked) in [(Behaviour::Status(503), 5), (Behaviour::Status(400), 12)] {
        server.behave(behaviour);
        let process = Process::asking(RouterKind::Osrm, &server.url());
        let before = server.asked();
        for _ in 0..12 {
            process.eta.seconds(&[north(100.0)], pickup()).await.unwrap_err();
        }
        assert_eq!(server.asked() - before, asked);
        assert_eq!(process.count("left_alone"), 12 - asked as u64);
    }
}

#[tokio::test]
async fn a_change_of_the_router_needs_no_restart() {
    let (broken, other) = (RoadServer::start().await, RoadServer::start().await);
    broken.behave(Behaviour::Status(503));
    let process = Process::asking(RouterKind::Osrm, &broken.url());
    for _ in 0..6 {
        process.eta.seconds(&[north(100.0)], pickup()).await.unwrap_err();
    }
    process.settings.send_replace(Arc::new(settings(RouterKind::Valhalla, &other.url(), 2000)));
    process.eta.seconds(&[north(100.0)], pickup()).await.unwrap();
    assert_eq!(other.asked(), 1, "what the other router did is not held against it");
}
