//! The order of candidates of spec §8 for arbitrary drivers.

use proptest::prelude::*;

use super::*;
use crate::ranking::rank;

pub(crate) const NOW: EpochMs = EpochMs(1_000_000);

pub(crate) fn pickup() -> Coordinate {
    Coordinate::new(37.5662, 126.9784).unwrap()
}

pub(crate) fn search(asked: Vec<DriverId>) -> Search {
    Search { pickup: pickup(), estimated_fare: 10_000, asked }
}

prop_compose! {
    /// Drivers within about 5 km whose attributes tie often.
    pub(crate) fn drivers()(
        drivers in prop::collection::vec(
            ((0..40_i32, 0..40_i32), 0..3_u8, 0..4_u64, 0..4_u32, any::<bool>(), (0..6_u32, 0..6_u32), any::<bool>()),
            0..30,
        ),
    ) -> Vec<DriverSnapshot> {
        drivers.into_iter().enumerate().map(|(n, (at, availability, idle, limits, auto_accept, answers, resting))| {
            DriverSnapshot {
                id: DriverId::from_suffix(&format!("{n:05}")).unwrap(),
                availability: [PersonStatus::Active, PersonStatus::Dispatched, PersonStatus::Active][usize::from(availability)],
                position: Coordinate::new(
                    37.5662 + f64::from(at.0 - 20) * 0.002,
                    126.9784 + f64::from(at.1 - 20) * 0.002,
                ).unwrap(),
                seen_at: EpochMs(NOW.0 - i64::try_from(idle).unwrap() * 11_000),
                idle_since: EpochMs(i64::try_from(idle).unwrap()),
                max_distance: Metres::from_km(f64::from(limits) * 2.0),
                minimum_fare: limits * 4000,
                auto_accept,
                acceptance: AcceptanceCounts { offered: answers.0.max(answers.1), accepted: answers.0.min(answers.1) },
                resting: resting && n % 4 == 0,
            }
        }).collect()
    }
}

fn literal() -> DispatchPolicy {
    DispatchPolicy { distance_bucket_m: 0, max_candidates: 50, ..DispatchPolicy::default() }
}

fn snapshot<'a>(drivers: &'a [DriverSnapshot], candidate: &Candidate) -> &'a DriverSnapshot {
    drivers.iter().find(|driver| driver.id == candidate.driver_id).unwrap()
}

proptest! {
    #[test]
    fn exactly_the_eligible_are_ranked_and_all_limits_hold(drivers in drivers(), asked in 0..30_usize, max in 1..8_u8) {
        let asked: Vec<DriverId> = drivers.iter().skip(asked).take(2).map(|driver| driver.id.clone()).collect();
        let (search, policy) = (search(asked), DispatchPolicy { max_candidates: max, ..DispatchPolicy::default() });
        let ranked = rank(&drivers, &search, &policy, NOW);
        let eligible = drivers.iter().filter(|driver| eligibility(driver, &search, &policy, NOW).is_ok()).count();
        prop_assert_eq!(ranked.len(), eligible.min(usize::from(max)));
        for (place, candidate) in ranked.iter().enumerate() {
            let driver = snapshot(&drivers, candidate);
            prop_assert_eq!(candidate.priority, place);
            prop_assert_eq!(driver.availability, PersonStatus::Active);
            prop_assert!(!driver.resting && !search.asked.contains(&driver.id));
            prop_assert!(candidate.distance <= driver.max_distance);
            prop_assert!(driver.minimum_fare <= search.estimated_fare);
            prop_assert!(NOW.since_ms(driver.seen_at) <= policy.stale_after_ms);
        }
    }

    /// `distanceBucketMeters: 0`: nearest first, with the later criteria only among equal distances.
    #[test]
    fn without_buckets_the_order_is_the_literal_one(drivers in drivers()) {
        let ranked = rank(&drivers, &search(Vec::new()), &literal(), NOW);
        for pair in ranked.windows(2) {
            let key = |candidate: &Candidate| (!candidate.auto_accept, u32::MAX - candidate.acceptance_rate_per_mille);
            prop_assert!(pair[0].distance <= pair[1].distance);
            if pair[0].distance == pair[1].distance {
                prop_assert!(key(&pair[0]) <= key(&pair[1]));
            }
        }
    }

    #[test]
    fn within_a_bucket_auto_accept_then_acceptance_then_idle_time_decide(drivers in drivers(), width in 50..2000_u32) {
        let policy = DispatchPolicy { distance_bucket_m: width, max_candidates: 50, ..DispatchPolicy::default() };
        let ranked = rank(&drivers, &search(Vec::new()), &policy, NOW);
        let keys: Vec<_> = ranked.iter().map(|candidate| (
            candidate.distance.rounded() / width,
            !candidate.auto_accept,
            u32::MAX - candidate.acceptance_rate_per_mille,
            snapshot(&drivers, candidate).idle_since,
            candidate.driver_id.clone(),
        )).collect();
        prop_assert!(keys.is_sorted(), "{:?}", keys);
    }

    #[test]
    fn the_order_of_the_input_does_not_matter(
        (drivers, shuffled) in drivers().prop_flat_map(|drivers| (Just(drivers.clone()), Just(drivers).prop_shuffle())),
        width in prop_oneof![Just(0_u32), 50..2000_u32],
    ) {
        let policy = DispatchPolicy { distance_bucket_m: width, ..DispatchPolicy::default() };
        let search = search(Vec::new());
        prop_assert_eq!(rank(&drivers, &search, &policy, NOW), rank(&shuffled, &search, &policy, NOW));
    }

    /// Listing more candidates never changes the first ones.
    #[test]
    fn a_shorter_list_is_the_beginning_of_a_longer_one(drivers in drivers(), short in 1..10_u8) {
        let few = DispatchPolicy { max_candidates: short, ..DispatchPolicy::default() };
        let many = DispatchPolicy { max_candidates: 50, ..DispatchPolicy::default() };
        let (few, many) = (rank(&drivers, &search(Vec::new()), &few, NOW), rank(&drivers, &search(Vec::new()), &many, NOW));
        prop_assert!(many.starts_with(&few));
    }
}

#[test]
fn among_equal_distances_the_specified_criteria_decide_in_order() {
    let base = DriverSnapshot {
        id: DriverId::from_suffix("5-id").unwrap(),
        availability: PersonStatus::Active,
        position: pickup(),
        seen_at: NOW,
        idle_since: EpochMs(100),
        max_distance: Metres::from_km(20.0),
        minimum_fare: 0,
        auto_accept: false,
        acceptance: AcceptanceCounts { offered: 10, accepted: 5 },
        resting: false,
    };
    let driver = |name: &str, change: &dyn Fn(&mut DriverSnapshot)| {
        let mut made = DriverSnapshot { id: DriverId::from_suffix(name).unwrap(), ..base.clone() };
        change(&mut made);
        made
    };
    let drivers = [
        driver("6-far", &|driver| driver.position = Coordinate::new(37.5762, 126.9784).unwrap()),
        base.clone(),
        driver("4-idle", &|driver| driver.idle_since = EpochMs(50)),
        driver("3-accepts", &|driver| driver.acceptance.accepted = 9),
        driver("2-auto", &|driver| driver.auto_accept = true),
    ];
    let ranked = rank(&drivers, &search(Vec::new()), &DispatchPolicy::default(), NOW);
    let names: Vec<&str> = ranked.iter().map(|candidate| candidate.driver_id.suffix()).collect();
    assert_eq!(names, ["2-auto", "3-accepts", "4-idle", "5-id", "6-far"]);
}

fn free_driver() -> DriverSnapshot {
    DriverSnapshot {
        id: DriverId::from_suffix("1").unwrap(),
        availability: PersonStatus::Active,
        position: Coordinate::new(37.5762, 126.9784).unwrap(),
        seen_at: NOW,
        idle_since: NOW,
        max_distance: Metres::from_km(20.0),
        minimum_fare: 0,
        auto_accept: false,
        acceptance: AcceptanceCounts::default(),
        resting: false,
    }
}

/// The result for [`free_driver`] with one change.
fn judged(change: impl FnOnce(&mut DriverSnapshot)) -> Result<Metres, Ineligible> {
    let mut driver = free_driver();
    change(&mut driver);
    eligibility(&driver, &search(Vec::new()), &DispatchPolicy::default(), NOW)
}

#[test]
fn an_eligible_driver_comes_with_the_distance_to_the_pickup() {
    // A hundredth of a degree of latitude.
    let distance = judged(|_| {}).unwrap();
    assert!((distance.0 - 1112.3).abs() < 0.1, "{distance:?}");
}

#[test]
fn a_position_is_stale_one_millisecond_after_its_time() {
    let seen = |ago_ms: i64| judged(|driver| driver.seen_at = EpochMs(NOW.0 - ago_ms)).map(|_| ());
    assert_eq!((seen(29_999), seen(30_000)), (Ok(()), Ok(())));
    assert_eq!(seen(30_001), Err(Ineligible::Stale));
    assert_eq!(seen(-5_000), Ok(()), "a clock that is ahead does not exclude a driver");
}

#[test]
fn the_pickup_may_be_exactly_as_far_as_the_driver_goes() {
    let distance = judged(|_| {}).unwrap();
    assert_eq!(judged(|driver| driver.max_distance = distance), Ok(distance));
    assert_eq!(judged(|driver| driver.max_distance = Metres(distance.0 - 0.001)), Err(Ineligible::TooFar));
    assert_eq!(judged(|driver| driver.max_distance = Metres(distance.0 + 0.001)), Ok(distance));
    assert_eq!(judged(|driver| driver.max_distance = Metres(0.0)), Err(Ineligible::TooFar));
}

#[test]
fn the_estimate_may_be_exactly_the_lowest_fare_a_driver_takes() {
    let lowest = |fare| judged(|driver| driver.minimum_fare = fare).map(|_| ());
    assert_eq!((lowest(9_999), lowest(10_000)), (Ok(()), Ok(())));
    assert_eq!(lowest(10_001), Err(Ineligible::FareTooLow));
}

#[test]
fn only_active_drivers_who_were_not_asked_and_do_not_rest_are_eligible() {
    for status in [PersonStatus::Dispatched, PersonStatus::Inactive] {
        assert_eq!(judged(|driver| driver.availability = status), Err(Ineligible::NotActive));
    }
    assert_eq!(judged(|driver| driver.resting = true), Err(Ineligible::Resting));
    let asked = search(vec![free_driver().id]);
    assert_eq!(eligibility(&free_driver(), &asked, &DispatchPolicy::default(), NOW), Err(Ineligible::AlreadyAsked));
}

#[test]
fn the_acceptance_rate_begins_at_a_half_and_follows_the_answers() {
    let rate = |offered, accepted| AcceptanceCounts { offered, accepted }.rate_per_mille();
    // (accepted + 2) of (offered + 4), rounded down.
    assert_eq!((rate(0, 0), rate(4, 4), rate(4, 0)), (500, 750, 250));
    assert_eq!((rate(10, 9), rate(96, 98), rate(1, 0)), (785, 980, 400));
    assert_eq!(rate(3, 5), rate(5, 5), "more accepted than offered counts as offered");
    assert_eq!(rate(u32::MAX, u32::MAX), 999);
}
