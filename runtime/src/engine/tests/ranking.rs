//! Driving times from the router, exploration, and the record of each ranking.

use parking_lot::Mutex;
use std::io::Write;

use dispatch_api::worker_config::{RouterConfig, RouterKind};
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::explain::{Tally, explain};

fn routed() -> Settings {
    let router = RouterConfig { kind: RouterKind::Osrm, url: "http://osrm:5000".to_owned() };
    Settings { router: Some(router), ..settings() }
}

/// Where [`World::driver`] puts a driver.
fn place_of(number: u32) -> Coordinate {
    Coordinate::new(37.5662 + f64::from(number) * 0.003, 126.9784).unwrap()
}

#[tokio::test]
async fn the_driver_with_the_shortest_driving_time_is_offered_first() {
    let world = World::by_with_drivers(routed(), 3).await;
    world.router.set(place_of(1), Some(900));
    world.router.set(place_of(2), Some(300));
    world.request().await;
    world.stream().await;
    assert_eq!(world.offered().await, Some(3), "188 s, while the nearest driver needs a quarter of an hour");
    assert_eq!(world.router.asked(), [3], "one request for one search");
}

#[tokio::test]
async fn without_the_routers_answer_the_nearest_is_offered_first() {
    let world = World::by_with_drivers(routed(), 3).await;
    world.router.set(place_of(1), Some(900));
    world.roads.set_down(true);
    world.request().await;
    world.stream().await;
    assert_eq!(world.offered().await, Some(1));
    assert!(world.engine.metrics.encode().unwrap().contains("dispatch_eta_estimated_total 3"));
}

#[tokio::test]
async fn a_driver_without_a_route_is_estimated_by_the_straight_line() {
    let world = World::by_with_drivers(routed(), 2).await;
    world.router.set(place_of(1), None);
    world.router.set(place_of(2), Some(300));
    world.request().await;
    world.stream().await;
    assert_eq!(world.offered().await, Some(1));
    assert!(world.engine.metrics.encode().unwrap().contains("dispatch_eta_estimated_total 1"));
}

#[tokio::test]
async fn a_router_is_asked_only_about_the_nearest_and_only_if_needed() {
    let mut few = routed();
    few.policy.eta_top_k = 2;
    for (settings, drivers, asked) in [(few, 4, vec![2]), (routed(), 1, vec![]), (settings(), 4, vec![])] {
        let world = World::by_with_drivers(settings, drivers).await;
        world.request().await;
        world.stream().await;
        assert_eq!(world.offered().await, Some(1));
        assert_eq!(world.router.asked(), asked);
    }
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn every_order_is_recorded_and_can_be_replayed() {
    for json in [true, false] {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(lines.clone());
        let _written = if json {
            tracing::subscriber::set_default(subscriber.json().flatten_event(true).finish())
        } else {
            tracing::subscriber::set_default(subscriber.finish())
        };
        let world = World::by_with_drivers(routed(), 3).await;
        world.router.set(place_of(1), Some(900));
        world.driver(4, true).await;
        world.request().await;
        world.stream().await;
        let written = lines.0.lock().clone();
        let mut table = Vec::new();
        let tally = explain(written.as_slice(), &mut table, Some("dispatch#00001")).unwrap();
        let (table, written) = (String::from_utf8(table).unwrap(), String::from_utf8(written).unwrap());
        assert_eq!(tally, Tally { found: 1, wrong: 0 }, "{table} of {written}");
        assert!(table.contains("driving time in buckets of 30 s"), "{table}");
        for secret in ["37.5", "126.9", "0101234", "명동", "12가3456"] {
            assert!(!written.contains(secret), "{secret} in {written}");
        }
    }
}
