//! Driving times, exploration, and the order that follows from a record.

use proptest::prelude::*;

use super::*;
use crate::candidate::tests::{NOW, drivers, pickup, search};
use crate::person::PersonStatus;

fn many(share: u8) -> DispatchPolicy {
    DispatchPolicy { max_candidates: 50, exploration_share_percent: share, ..DispatchPolicy::default() }
}

/// A driver `metres` north of the pickup who takes every ride.
fn at(name: &str, metres: f64) -> DriverSnapshot {
    DriverSnapshot {
        id: DriverId::from_suffix(name).unwrap(),
        availability: PersonStatus::Active,
        position: Coordinate::new(37.5662 + metres / 111_226.0, 126.9784).unwrap(),
        seen_at: NOW,
        idle_since: NOW,
        max_distance: Metres::from_km(20.0),
        minimum_fare: 0,
        auto_accept: false,
        acceptance: AcceptanceCounts::default(),
        resting: false,
    }
}

prop_compose! {
    fn times()(seconds in prop::collection::vec((0..400_u32, any::<bool>()), 0..20)) -> Vec<PickupTime> {
        seconds.into_iter().map(|(seconds, router)| PickupTime {
            seconds,
            source: if router { TimeSource::Router } else { TimeSource::StraightLine },
        }).collect()
    }
}

fn exploration() -> impl Strategy<Value = Exploration> {
    prop_oneof![Just(Exploration::Exploit), Just(Exploration::Explore)]
}

proptest! {
    /// A record stores distances in whole metres.
    #[test]
    fn replaying_a_record_gives_the_same_order(
        drivers in drivers(),
        times in times(),
        exploration in exploration(),
        width in prop_oneof![Just(0_u32), 1..2000_u32],
        most in 1..12_u8,
    ) {
        let policy = DispatchPolicy { distance_bucket_m: width, max_candidates: most, ..many(0) };
        let shortlist = Shortlist::new(&drivers, &search(Vec::new()), &policy, NOW).with_times(times);
        let mut ranking = shortlist.rank(&policy, exploration);
        let order: Vec<DriverId> = ranking.order.iter().map(|entrant| entrant.driver_id.clone()).collect();
        for entrant in &mut ranking.order {
            entrant.distance = Metres(entrant.distance.rounded().into());
        }
        prop_assert_eq!(replay(&ranking), order.clone());
        ranking.order.reverse();
        prop_assert_eq!(replay(&ranking), order, "whatever the order of the record");
    }

    /// The criteria of spec §8 as written: distance, `autoAccept`, acceptance rate. The additional criteria follow.
    #[test]
    fn without_buckets_the_order_is_a_sort_by_the_specified_criteria(drivers in drivers()) {
        let policy = DispatchPolicy { distance_bucket_m: 0, ..many(0) };
        let search = search(Vec::new());
        let mut literal: Vec<&DriverSnapshot> =
            drivers.iter().filter(|driver| eligibility(driver, &search, &policy, NOW).is_ok()).collect();
        literal.sort_by(|a, b| {
            let distance = |driver: &DriverSnapshot| driver.position.distance_to(pickup()).0;
            distance(a)
                .total_cmp(&distance(b))
                .then_with(|| b.auto_accept.cmp(&a.auto_accept))
                .then_with(|| b.acceptance.rate_per_mille().cmp(&a.acceptance.rate_per_mille()))
                .then_with(|| a.idle_since.cmp(&b.idle_since))
                .then_with(|| a.id.cmp(&b.id))
        });
        let ranking = Shortlist::new(&drivers, &search, &policy, NOW).rank(&policy, Exploration::Exploit);
        let ranked: Vec<&DriverId> = ranking.order.iter().map(|entrant| &entrant.driver_id).collect();
        prop_assert_eq!(ranked, literal.iter().map(|driver| &driver.id).collect::<Vec<_>>());
    }

    #[test]
    fn every_driver_is_eligible_or_counted_with_a_reason(drivers in drivers()) {
        let policy = DispatchPolicy { max_candidates: 3, ..many(0) };
        let ranking = Shortlist::new(&drivers, &search(Vec::new()), &policy, NOW).rank(&policy, Exploration::Exploit);
        let LeftOut { not_active, stale, already_asked, resting, too_far, fare_too_low } = ranking.left_out;
        let left_out = not_active + stale + already_asked + resting + too_far + fare_too_low;
        prop_assert_eq!(ranking.eligible + left_out as usize, drivers.len());
        prop_assert_eq!(ranking.order.len(), ranking.eligible.min(3));
    }

    #[test]
    fn times_decide_before_distances_and_drivers_without_a_time_come_last(drivers in drivers(), times in times()) {
        let shortlist = Shortlist::new(&drivers, &search(Vec::new()), &many(0), NOW);
        let asked = shortlist.nearest(times.len()).len();
        let ranking = shortlist.with_times(times.clone()).rank(&many(0), Exploration::Exploit);
        let (timed, others) = ranking.order.split_at(asked);
        prop_assert!(timed.iter().all(|entrant| entrant.time.is_some()));
        prop_assert!(timed.is_sorted_by_key(|entrant| entrant.time.map(|time| time.seconds / TIME_BUCKET_S)));
        if !times.is_empty() {
            prop_assert!(others.is_sorted_by(|a, b| a.distance <= b.distance));
        }
    }

    /// Exploration puts one new driver first and does not reorder the others.
    #[test]
    fn a_new_driver_is_put_first_only_if_about_as_near_as_the_best(drivers in drivers()) {
        let shortlist = Shortlist::new(&drivers, &search(Vec::new()), &many(0), NOW);
        let best = shortlist.rank(&many(0), Exploration::Exploit);
        let new = shortlist.rank(&many(0), Exploration::Explore);
        let wanted = best.order.iter().find(|entrant| {
            entrant.acceptance.offered < NEW_DRIVER_OFFERS && entrant.bucket <= best.order[0].bucket + 1
        });
        match wanted {
            None => prop_assert_eq!(&new.order, &best.order),
            Some(wanted) => {
                prop_assert_eq!(&new.order[0], wanted);
                let rest: Vec<&Entrant> = best.order.iter().filter(|entrant| *entrant != wanted).collect();
                prop_assert_eq!(new.order[1..].iter().collect::<Vec<_>>(), rest);
            }
        }
    }
}

#[test]
fn the_configured_share_of_dispatches_explores() {
    for share in [0, 10, 30, 50] {
        let policy = many(share);
        let explored = (0..10_000)
            .filter(|number| {
                let id = DispatchId::from_suffix(&format!("{number:05}")).unwrap();
                exploration_for(&id, &policy) == Exploration::Explore
            })
            .count();
        let expected = usize::from(share) * 100;
        let allowed = if share == 0 { 0 } else { 300 };
        assert!(explored.abs_diff(expected) <= allowed, "{explored} of 10000 with {share} %");
    }
    let id = DispatchId::from_suffix("01JQ").unwrap();
    assert_eq!(exploration_for(&id, &many(50)), exploration_for(&id, &many(50)), "the choice is stable for a dispatch");
}

#[test]
fn a_new_driver_follows_the_best_without_exploration() {
    let driver = |name: &str, metres: f64, offered: u32| DriverSnapshot {
        id: DriverId::from_suffix(name).unwrap(),
        availability: PersonStatus::Active,
        position: Coordinate::new(37.5662 + metres / 111_226.0, 126.9784).unwrap(),
        seen_at: NOW,
        idle_since: NOW,
        max_distance: Metres::from_km(20.0),
        minimum_fare: 0,
        auto_accept: false,
        acceptance: AcceptanceCounts { offered, accepted: offered },
        resting: false,
    };
    let drivers = [driver("old", 150.0, 40), driver("new", 350.0, 4), driver("newer", 450.0, 0)];
    let first = |exploration: Exploration| {
        let ranking = Shortlist::new(&drivers, &search(Vec::new()), &many(0), NOW).rank(&many(0), exploration);
        ranking.order[0].driver_id.suffix().to_owned()
    };
    assert_eq!((first(Exploration::Exploit), first(Exploration::Explore)), ("old".to_owned(), "new".to_owned()));
}

#[test]
fn a_modified_record_gives_another_order() {
    let drivers = [1_u32, 2].map(|number| DriverSnapshot {
        id: DriverId::from_suffix(&number.to_string()).unwrap(),
        availability: PersonStatus::Active,
        position: pickup(),
        seen_at: NOW,
        idle_since: NOW,
        max_distance: Metres::from_km(20.0),
        minimum_fare: 0,
        auto_accept: number == 1,
        acceptance: AcceptanceCounts::default(),
        resting: false,
    });
    let mut ranking = Shortlist::new(&drivers, &search(Vec::new()), &many(0), NOW).rank(&many(0), Exploration::Exploit);
    let order: Vec<DriverId> = ranking.order.iter().map(|entrant| entrant.driver_id.clone()).collect();
    assert_eq!(replay(&ranking), order);
    ranking.order[1].auto_accept = true;
    ranking.order[1].acceptance = AcceptanceCounts { offered: 3, accepted: 3 };
    assert_ne!(replay(&ranking), order);
}

/// Computed from the published definitions of FNV-1a and of `MurmurHash3`'s `fmix64`. A change would move dispatches in
/// progress between exploring and not.
#[test]
fn the_hash_has_its_published_values() {
    assert_eq!(uniform_hash(""), 0xefd0_1f60_ba99_2926);
    assert_eq!(uniform_hash("dispatch#01JQ"), 0x372c_1684_0469_cd39);
    assert_eq!(uniform_hash("dispatch#00001"), 0x6bb5_5729_b1ea_b0fd);
}

#[test]
fn a_share_is_that_many_of_a_hundred_places() {
    let explores =
        |id: &str, share| exploration_for(&DispatchId::from_suffix(id).unwrap(), &many(share)) == Exploration::Explore;
    // Ids whose places of the hundred are 0, 10 and 30.
    for (id, place) in [("00112", 0), ("00121", 10), ("00297", 30)] {
        assert!(!explores(id, place) && explores(id, place + 1), "{id} has place {place}");
    }
}

#[test]
fn nearness_follows_from_the_policy_and_from_known_times() {
    let drivers = [at("1", 100.0)];
    let with = |width| DispatchPolicy { distance_bucket_m: width, ..many(0) };
    let nearness = |width, times: &[PickupTime]| {
        let shortlist = Shortlist::new(&drivers, &search(Vec::new()), &with(width), NOW).with_times(times.to_vec());
        shortlist.rank(&with(width), Exploration::Exploit).nearness
    };
    assert_eq!((nearness(0, &[]), nearness(150, &[])), (Nearness::Exact, Nearness::Distance { width_m: 150 }));
    let time = PickupTime { seconds: 90, source: TimeSource::Router };
    assert_eq!(
        (nearness(0, &[time]), nearness(150, &[time])),
        (Nearness::Time { width_s: 30 }, Nearness::Time { width_s: 30 })
    );
}

#[test]
fn a_shortlist_shows_its_time_and_its_nearest_positions() {
    let drivers = [at("far", 900.0), at("near", 100.0), at("middle", 500.0)];
    let shortlist = Shortlist::new(&drivers, &search(Vec::new()), &many(0), NOW);
    assert_eq!((shortlist.now(), shortlist.is_empty()), (NOW, false));
    assert_eq!(shortlist.nearest(2), [drivers[1].position, drivers[2].position]);
    assert_eq!(shortlist.nearest(9).len(), 3);
    assert!(Shortlist::new(&[], &search(Vec::new()), &many(0), NOW).is_empty());
}

#[test]
fn each_bucket_and_place_is_counted_from_the_nearest() {
    let drivers = [at("1", 100.0), at("2", 100.0), at("3", 450.0), at("4", 650.0)];
    let buckets = |width| {
        let policy = DispatchPolicy { distance_bucket_m: width, ..many(0) };
        let ranking = Shortlist::new(&drivers, &search(Vec::new()), &policy, NOW).rank(&policy, Exploration::Exploit);
        ranking.order.iter().map(|entrant| entrant.bucket).collect::<Vec<_>>()
    };
    assert_eq!(buckets(0), [0, 0, 1, 2]);
    assert_eq!(buckets(200), [0, 0, 2, 3]);
    let times = [59, 60, 95, 119].map(|seconds| PickupTime { seconds, source: TimeSource::Router });
    let shortlist = Shortlist::new(&drivers, &search(Vec::new()), &many(0), NOW).with_times(times);
    let ranking = shortlist.rank(&many(0), Exploration::Exploit);
    assert_eq!(ranking.order.iter().map(|entrant| entrant.bucket).collect::<Vec<_>>(), [1, 2, 3, 3]);
}

#[test]
fn drivers_who_are_left_out_are_counted_by_their_reason() {
    let changed = |name: &str, change: &dyn Fn(&mut DriverSnapshot)| {
        let mut driver = at(name, 100.0);
        change(&mut driver);
        driver
    };
    let drivers = [
        at("eligible", 100.0),
        changed("off", &|driver| driver.availability = PersonStatus::Inactive),
        changed("silent", &|driver| driver.seen_at = EpochMs(0)),
        at("asked", 100.0),
        changed("rests", &|driver| driver.resting = true),
        changed("near", &|driver| driver.max_distance = Metres(1.0)),
        changed("dear", &|driver| driver.minimum_fare = 90_000),
    ];
    let asked = vec![DriverId::from_suffix("asked").unwrap()];
    let ranking = Shortlist::new(&drivers, &search(asked), &many(0), NOW).rank(&many(0), Exploration::Exploit);
    let one_each = LeftOut { not_active: 1, stale: 1, already_asked: 1, resting: 1, too_far: 1, fare_too_low: 1 };
    assert_eq!((ranking.left_out, ranking.eligible), (one_each, 1));
}
