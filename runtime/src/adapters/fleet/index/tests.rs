use proptest::prelude::*;

use super::*;

fn driver(position: Coordinate, seen_at: i64) -> LiveDriver {
    LiveDriver {
        status: PersonStatus::Active,
        position,
        seen_at: EpochMs(seen_at),
        idle_since: EpochMs(0),
        max_distance: Metres(20_000.0),
        minimum_fare: 0,
        auto_accept: false,
        acceptance: AcceptanceCounts::default(),
        held_until: EpochMs(0),
        rests_until: EpochMs(0),
    }
}

fn id(number: usize) -> DriverId {
    DriverId::parse(format!("driver#{number:05}")).unwrap()
}

fn at(lat: f64, lng: f64) -> Coordinate {
    let lng = if lng > 180.0 {
        lng - 360.0
    } else if lng < -180.0 {
        lng + 360.0
    } else {
        lng
    };
    Coordinate::new(lat.clamp(-90.0, 90.0), lng).unwrap()
}

/// The expected result: a scan of every driver.
fn by_full_scan(index: &DriverIndex, wanted: NearestQuery) -> Vec<(DriverId, f64)> {
    let mut all: Vec<(DriverId, f64)> = index
        .drivers
        .iter()
        .filter(|(_, entry)| entry.driver.status == PersonStatus::Active)
        .map(|(id, entry)| (id.clone(), wanted.center.distance_to(entry.driver.position).0))
        .filter(|(_, distance)| *distance <= wanted.within.0)
        .collect();
    all.sort_by(|a, b| a.1.total_cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
    all.truncate(wanted.enough);
    all
}

fn by_index(index: &DriverIndex, wanted: NearestQuery) -> Vec<(DriverId, f64)> {
    index.nearest(wanted, |_| true).iter().map(|found| (found.id.clone(), found.distance.0)).collect()
}

/// Cities, the middle of the map, one of H3's twelve pentagons (off Norway), the date line, and the far north, where a
/// flat map is useless.
const PLACES: [(f64, f64); 7] = [
    (37.5665, 126.978),
    (35.1796, 129.0756),
    (0.0, 0.0),
    (64.7, 10.536),
    (-16.8, 179.999),
    (69.65, 18.95),
    (78.22, 15.6),
];

/// Drivers around a place: some in a crowd, some far out.
fn drivers_around(place: (f64, f64)) -> impl Strategy<Value = Vec<(f64, f64)>> {
    let crowd = (-0.02..0.02_f64, -0.02..0.02_f64);
    let wide = (-0.4..0.4_f64, -0.4..0.4_f64);
    let one = prop_oneof![3 => crowd, 1 => wide];
    prop::collection::vec(one.prop_map(move |(north, east)| (place.0 + north, place.1 + east)), FEW + 1..1500)
}

#[derive(Debug, Clone)]
struct City {
    place: (f64, f64),
    drivers: Vec<(f64, f64)>,
    searches: Vec<((f64, f64), f64, usize)>,
}

fn cities() -> impl Strategy<Value = City> {
    (0..PLACES.len()).prop_flat_map(|which| {
        let place = PLACES[which];
        let search = ((-0.3..0.3_f64, -0.3..0.3_f64), 200.0..100_000.0_f64, 1..40_usize);
        (drivers_around(place), prop::collection::vec(search, 1..120)).prop_map(move |(drivers, searches)| City {
            place,
            drivers,
            searches,
        })
    })
}

proptest! {
    // About 10,000 searches.
    #![proptest_config(ProptestConfig::with_cases(170))]

    #[test]
    fn the_index_finds_what_a_full_scan_finds(city in cities()) {
        let mut index = DriverIndex::default();
        for (number, (lat, lng)) in city.drivers.iter().enumerate() {
            prop_assert!(index.put(id(number), driver(at(*lat, *lng), 0)));
        }
        for ((north, east), within, enough) in city.searches {
            let center = at(city.place.0 + north, city.place.1 + east);
            let wanted = NearestQuery { center, within: Metres(within), enough };
            prop_assert_eq!(by_index(&index, wanted), by_full_scan(&index, wanted));
        }
    }

    /// Moves, status changes and removals in any order leave every driver in exactly the right cells.
    #[test]
    fn the_index_follows_every_change(
        changes in prop::collection::vec((0..400_usize, 0..6_u8, -0.05..0.05_f64, -0.05..0.05_f64), 600..1200)
    ) {
        let mut index = DriverIndex::default();
        for (time, (who, what, north, east)) in (1..).zip(changes) {
            let place = at(37.5665 + north, 126.978 + east);
            match what {
                0 | 1 => prop_assert!(index.put(id(who), driver(place, time))),
                2 => { index.ping(&id(who), place, EpochMs(time)); }
                3 => { index.change(&id(who), |driver| driver.status = PersonStatus::Dispatched); }
                4 => { index.change(&id(who), |driver| driver.status = PersonStatus::Active); }
                _ => index.remove(&id(who)),
            }
        }
        let wanted = NearestQuery { center: at(37.5665, 126.978), within: Metres(50_000.0), enough: 1000 };
        prop_assert_eq!(by_index(&index, wanted), by_full_scan(&index, wanted));
        let laid: usize = index.drivers.values().filter(|entry| { entry.places[0].cell }.is_some()).count();
        let free = index.drivers.values().filter(|entry| entry.driver.status == PersonStatus::Active).count();
        prop_assert_eq!(laid, free);
    }
}

#[test]
fn an_older_ping_moves_no_driver() {
    let mut index = DriverIndex::default();
    index.put(id(1), driver(at(37.5, 127.0), 1000));
    assert!(index.ping(&id(1), at(37.6, 127.0), EpochMs(999)));
    assert_eq!(index.get(&id(1)).map(|driver| driver.position), Some(at(37.5, 127.0)));
    assert!(!index.ping(&id(2), at(37.6, 127.0), EpochMs(2000)), "unknown");
}

#[test]
fn a_held_or_resting_driver_is_shown_as_resting() {
    let free = driver(at(37.5, 127.0), 1000);
    let now = EpochMs(5000);
    assert!(!free.snapshot(&id(1), now).resting);
    assert!(LiveDriver { held_until: EpochMs(5001), ..free.clone() }.snapshot(&id(1), now).resting);
    assert!(LiveDriver { rests_until: EpochMs(5001), ..free.clone() }.snapshot(&id(1), now).resting);
    assert!(!LiveDriver { rests_until: now, ..free }.snapshot(&id(1), now).resting);
}
