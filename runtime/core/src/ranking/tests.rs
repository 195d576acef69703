//! Driving times, exploration, and the order that follows from a record.

use proptest::prelude::*;

use super::*;
use crate::candidate::tests::{NOW, drivers, pickup, search};
use crate::person::PersonStatus;

fn many(share: u8) -> DispatchPolicy {
    DispatchPolicy { max_candidates: 50, exploration_share_percent: share, ..DispatchPolicy::default() }
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
