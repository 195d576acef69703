//! The driver cache: one contract suite for the adapters in memory, in Redis and with an index.

mod broken_keys;
mod clocks;
mod contract;
mod failover;
mod index;
mod redis;
mod refusals;
mod repairs;

use std::sync::Arc;

use dispatch_core::geo::Coordinate;
use dispatch_core::ids::{DispatchId, DriverId};
use dispatch_core::person::{DriverPreferences, PersonStatus};
use dispatch_core::time::EpochMs;
use dispatch_runtime::adapters::fleet::fake::FakeFleet;
use dispatch_runtime::ports::clock::SystemClock;
use dispatch_runtime::ports::{Clock as _, FleetEntry, FleetPorts, Ping};

use crate::support::seoul;

/// Runs every scenario in memory, each as a separate test, and all of them on one Redis, which is wiped between them.
macro_rules! contract {
    ($($scenario:ident),* $(,)?) => {
        mod memory {
            use dispatch_runtime::ports::FleetPorts;

            $(
                #[tokio::test]
                async fn $scenario() {
                    super::contract::$scenario(&FleetPorts::new(&super::memory_fleet())).await;
                }
            )*
        }

        #[tokio::test]
        async fn redis_keeps_the_whole_contract() {
            let server = redis::RedisFixture::start().await;
            $(
                eprintln!("scenario: {}", stringify!($scenario));
                server.wipe().await;
                contract::$scenario(&server.fleet).await;
            )*
        }

        #[tokio::test]
        async fn the_index_keeps_the_whole_contract() {
            let server = redis::RedisFixture::start().await;
            $(
                eprintln!("scenario: {}", stringify!($scenario));
                server.wipe().await;
                contract::$scenario(&index::SyncedIndex::start(&server).await.ports()).await;
            )*
        }
    };
}

contract!(
    a_cold_cache_has_no_answer_until_it_is_filled,
    drivers_come_ring_by_ring_and_nearest_first,
    only_free_drivers_are_found,
    pings_are_recorded_once_and_in_order,
    signs_of_life_are_positions_and_becoming_active,
    unanswered_offers_in_a_row_are_counted,
    a_phones_time_orders_its_pings,
    a_teleport_is_hidden_with_the_second_ping_and_believed_with_the_fifth,
    a_hidden_driver_stays_hidden_whatever_the_table_holds,
    a_driver_without_pings_is_dropped,
    a_hold_belongs_to_one_offer_until_its_release,
    a_hold_expires,
    a_resting_driver_is_shown_and_not_held,
    answers_are_counted_for_the_window,
    the_table_does_not_overwrite_fresher_pings,
    a_route_is_returned_in_chunks,
    a_route_with_a_lost_counter_continues_above,
    a_place_beyond_the_projection_affects_no_other_driver,
);

fn memory_fleet() -> Arc<FakeFleet> {
    Arc::new(FakeFleet::new(seoul(), Arc::new(SystemClock)))
}

fn now() -> EpochMs {
    SystemClock.now()
}

fn ago(ms: i64) -> EpochMs {
    EpochMs(now().0 - ms)
}

fn driver(number: u32) -> DriverId {
    DriverId::parse(format!("driver#{number:05}")).unwrap()
}

fn dispatch(number: u32) -> DispatchId {
    DispatchId::parse(format!("dispatch#{number:05}")).unwrap()
}

/// A place `metres` north of the pickup.
fn north(metres: f64) -> Coordinate {
    Coordinate::new(37.5662 + metres / 111_226.0, 126.9784).unwrap()
}

/// A free driver `metres` north of the pickup, seen now.
fn free(number: u32, metres: f64) -> FleetEntry {
    FleetEntry {
        driver: driver(number),
        status: PersonStatus::Active,
        dispatch: None,
        position: north(metres),
        seen_at: now(),
        preferences: DriverPreferences {
            default_ride_type: None,
            preferred_regions: vec!["중구".to_owned(), "종로구".to_owned()],
            max_distance: 20.0,
            auto_accept: true,
            minimum_fare: 8000,
        },
    }
}

fn ping(number: u32, metres: f64, at: EpochMs) -> Ping {
    Ping { driver: driver(number), position: north(metres), at, phone_at: None }
}

/// The numbers of the drivers found around the pickup, in the order of the result.
async fn found(fleet: &FleetPorts, rings_m: &[u32], enough: usize) -> Vec<u32> {
    let found = fleet.search.nearby(north(0.0), rings_m, enough, now()).await.unwrap().expect("the cache is warm");
    found.iter().map(|driver| driver.id.suffix().parse().unwrap()).collect()
}
