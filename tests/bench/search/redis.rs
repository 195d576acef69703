//! Searches in Redis, in one sorted set of all free drivers: those of arm B, and our own while the index is behind.

use std::time::Instant;

use anyhow::ensure;
use dispatch_core::geo::Coordinate;
use dispatch_core::policy::DispatchPolicy;
use dispatch_tests::redis::RedisServer;
use redis::aio::MultiplexedConnection;

use super::process::nearest_of_all;
use super::{Latency, SEED, WANTED, WITHIN_KM};
use crate::Size;
use crate::seoul::{Seoul, driver_id};

const KEY: &str = "geo:{seoul}";
/// Drivers added with one call.
const ADDED_AT_ONCE: u32 = 1_000;
/// Redis stores positions in 52 bits; its results may be farther than the nearest drivers by this distance, m.
const ROUNDING_M: f64 = 2.0;

/// The measurements of one fleet.
pub(super) struct Measured {
    /// The rings of the default policy until five drivers are found: our fallback.
    pub rings: Latency,
    /// The nearest five within 5 km.
    pub flat_5km: Latency,
    /// All drivers within 20 km, nearest first.
    pub flat_20km: Latency,
    /// Time of the Redis thread in a search of 20 km, microseconds.
    pub flat_20km_server_us: f64,
}

/// The parameters of a search.
#[derive(Clone, Copy)]
struct Kind {
    radius_m: u32,
    count: Option<usize>,
}

/// Fills a real server, checks its answers and measures it.
pub(super) async fn measure(
    seoul: &Seoul,
    drivers: u32,
    places: &[Coordinate],
    size: Size,
) -> anyhow::Result<Measured> {
    let server = RedisServer::start().await?;
    let mut connection = redis::Client::open(server.url())?.get_multiplexed_async_connection().await?;
    let homes: Vec<Coordinate> = (0..drivers).map(|driver| seoul.home(SEED, driver)).collect();
    fill(&mut connection, &homes).await?;
    let near = Kind { radius_m: 5_000, count: Some(WANTED) };
    for place in places.iter().take(50) {
        check(&mut connection, &homes, *place).await?;
    }
    let few = match size {
        Size::Quick => 10,
        Size::Trial => 50,
        // Some 10 s of the slowest search for each fleet.
        Size::Full => (5_000_000 / drivers as usize).clamp(50, 1_000),
    };
    let many = places.len().min(few * 10);
    let rings = rings(&mut connection, &places[..many]).await?;
    let flat_5km = timed(&mut connection, near, &places[..many.min(few * 4)]).await?;
    redis::cmd("CONFIG").arg("RESETSTAT").exec_async(&mut connection).await?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a constant of 20 km")]
    let wide = Kind { radius_m: (WITHIN_KM * 1000.0) as u32, count: None };
    let flat_20km = timed(&mut connection, wide, &places[..few.min(places.len())]).await?;
    let flat_20km_server_us = server_us(&mut connection).await?;
    Ok(Measured { rings, flat_5km, flat_20km, flat_20km_server_us })
}

async fn fill(connection: &mut MultiplexedConnection, homes: &[Coordinate]) -> anyhow::Result<()> {
    for (first, homes) in (0..).step_by(ADDED_AT_ONCE as usize).zip(homes.chunks(ADDED_AT_ONCE as usize)) {
        let mut add = redis::cmd("GEOADD");
        add.arg(KEY);
        for (number, home) in (first..).zip(homes) {
            add.arg(home.lng()).arg(home.lat()).arg(driver_id(number)?.as_str());
        }
        add.exec_async(connection).await?;
    }
    Ok(())
}

fn search(place: Coordinate, kind: Kind) -> redis::Cmd {
    let mut search = redis::cmd("GEOSEARCH");
    search.arg(KEY).arg("FROMLONLAT").arg(place.lng()).arg(place.lat()).arg("BYRADIUS").arg(kind.radius_m).arg("m");
    search.arg("ASC");
    if let Some(count) = kind.count {
        search.arg("COUNT").arg(count);
    }
    search
}

async fn timed(connection: &mut MultiplexedConnection, kind: Kind, places: &[Coordinate]) -> anyhow::Result<Latency> {
    let mut micros = Vec::with_capacity(places.len());
    for place in places {
        let begun = Instant::now();
        let found: Vec<String> = search(*place, kind).query_async(connection).await?;
        micros.push(begun.elapsed().as_secs_f64() * 1e6);
        ensure!(kind.count.is_none_or(|count| found.len() <= count), "{} drivers found", found.len());
    }
    Ok(Latency::of(micros))
}

async fn rings(connection: &mut MultiplexedConnection, places: &[Coordinate]) -> anyhow::Result<Latency> {
    let policy = DispatchPolicy::default();
    let mut micros = Vec::with_capacity(places.len());
    for place in places {
        let begun = Instant::now();
        for radius_m in &policy.search_rings_m {
            let kind = Kind { radius_m: *radius_m, count: Some(WANTED) };
            let found: Vec<String> = search(*place, kind).query_async(connection).await?;
            if found.len() >= WANTED {
                break;
            }
        }
        micros.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    Ok(Latency::of(micros))
}

/// Mean time of the Redis thread per search since the last reset, microseconds.
async fn server_us(connection: &mut MultiplexedConnection) -> anyhow::Result<f64> {
    let info: String = redis::cmd("INFO").arg("commandstats").query_async(connection).await?;
    let line = info.lines().find(|line| line.starts_with("cmdstat_geosearch:")).unwrap_or_default();
    let value = line.split(',').find_map(|field| field.strip_prefix("usec_per_call="));
    Ok(value.unwrap_or_default().parse()?)
}

/// Checks that a search of 20 km begins with the nearest drivers.
async fn check(connection: &mut MultiplexedConnection, homes: &[Coordinate], place: Coordinate) -> anyhow::Result<()> {
    let kind = Kind { radius_m: 20_000, count: Some(WANTED) };
    let found: Vec<String> = search(place, kind).query_async(connection).await?;
    let truth = nearest_of_all(homes, place);
    ensure!(found.len() == truth.len(), "Redis found {}", found.len());
    for (id, nearest) in found.iter().zip(truth) {
        let number: usize = id.trim_start_matches("driver#").parse()?;
        let further = place.distance_to(homes[number]).0 - place.distance_to(homes[nearest as usize]).0;
        ensure!(further.abs() <= ROUNDING_M, "Redis found {id}, {further} m further than the nearest");
    }
    Ok(())
}
