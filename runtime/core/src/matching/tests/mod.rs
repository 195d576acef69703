//! Tests the assignment against exhaustive search, and the rules around it.

mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::candidate::DriverSnapshot;
use crate::geo::Metres;
use crate::policy::DispatchPolicy;
use crate::time::EpochMs;

fn driver(number: usize) -> DriverId {
    DriverId::from_suffix(&format!("{number:05}")).unwrap()
}

fn request(number: usize, waited_s: u64, edges: &[(usize, u32)]) -> Request {
    let mut edges: Vec<Edge> =
        edges.iter().map(|(number, cost)| Edge { driver: driver(*number), cost: *cost }).collect();
    edges.sort_by(|a, b| (a.cost, &a.driver).cmp(&(b.cost, &b.driver)));
    Request { id: DispatchId::from_suffix(&format!("{number:05}")).unwrap(), waited_ms: waited_s * 1000, edges }
}

prop_compose! {
    /// Up to `most` requests for up to `drivers` drivers, with costs that tie often.
    fn batches(most: usize, drivers: usize)(
        requests in prop::collection::vec(
            (0..4_u64, prop::collection::btree_map(0..drivers, prop_oneof![0..5_u32, 0..3000_u32], 0..=drivers)),
            0..=most,
        ),
    ) -> Vec<Request> {
        requests.into_iter().enumerate().map(|(number, (waited, edges))| {
            request(number, waited * 20, &edges.into_iter().collect::<Vec<_>>())
        }).collect()
    }
}

/// The number of requests served, and the cost of the assignment. Panics on an invalid assignment.
fn value(requests: &[Request], assigned: &[Option<DriverId>]) -> (usize, u64) {
    let mut taken = BTreeSet::new();
    let (mut served, mut cost) = (0, 0);
    for (request, driver) in requests.iter().zip(assigned) {
        let Some(driver) = driver else {
            cost += waiting_cost(request.waited_ms);
            continue;
        };
        assert!(taken.insert(driver), "{driver} is assigned twice");
        let edge = request.edges.iter().find(|edge| edge.driver == *driver).expect("one of the request's drivers");
        (served, cost) = (served + 1, cost + u64::from(edge.cost));
    }
    (served, cost)
}

/// The best of all assignments, by exhaustive search.
fn brute_force(requests: &[Request], taken: &mut BTreeSet<DriverId>) -> (usize, u64) {
    let Some((first, rest)) = requests.split_first() else { return (0, 0) };
    let better = |a: (usize, u64), b: (usize, u64)| if (b.0, a.1) > (a.0, b.1) { b } else { a };
    let (served, cost) = brute_force(rest, taken);
    let mut best = (served, cost + waiting_cost(first.waited_ms));
    for edge in &first.edges {
        if taken.insert(edge.driver.clone()) {
            let (served, cost) = brute_force(rest, taken);
            best = better(best, (served + 1, cost + u64::from(edge.cost)));
            taken.remove(&edge.driver);
        }
    }
    best
}

/// Each request takes its cheapest remaining driver, in order.
fn greedy(requests: &[Request]) -> Vec<Option<DriverId>> {
    let mut taken = BTreeSet::new();
    let mut one = |request: &Request| {
        let edge = request.edges.iter().find(|edge| !taken.contains(&edge.driver))?;
        taken.insert(edge.driver.clone());
        Some(edge.driver.clone())
    };
    requests.iter().map(&mut one).collect()
}

proptest! {
    #[test]
    fn no_assignment_serves_more_or_as_many_at_a_lower_cost(requests in batches(5, 6)) {
        prop_assert_eq!(value(&requests, &assign(&requests)), brute_force(&requests, &mut BTreeSet::new()));
    }

    #[test]
    fn greedy_matching_is_never_better(requests in batches(40, 30)) {
        let ((served, cost), (one_by_one, costs)) = (value(&requests, &assign(&requests)), value(&requests, &greedy(&requests)));
        prop_assert!(served > one_by_one || (served == one_by_one && cost <= costs), "{served} {cost}, {one_by_one} {costs}");
    }

    #[test]
    fn the_order_of_requests_and_edges_does_not_matter(
        (requests, shuffled) in batches(20, 15).prop_flat_map(|requests| (Just(requests.clone()), Just(requests).prop_shuffle()))
    ) {
        let by_id = |requests: &[Request]| -> BTreeMap<DispatchId, Option<DriverId>> {
            requests.iter().map(|request| request.id.clone()).zip(assign(requests)).collect()
        };
        let turned: Vec<Request> = shuffled.into_iter().map(|request| {
            Request { edges: request.edges.into_iter().rev().collect(), ..request }
        }).collect();
        prop_assert_eq!(by_id(&requests), by_id(&turned));
    }

    #[test]
    fn requests_that_share_no_driver_do_not_affect_each_other(near in batches(8, 6), far in batches(8, 6)) {
        let move_away = |request: &Request| {
            let edges: Vec<Edge> = request.edges.iter().map(|edge| {
                Edge { driver: DriverId::from_suffix(&format!("far-{}", edge.driver.suffix())).unwrap(), cost: edge.cost }
            }).collect();
            Request { id: DispatchId::from_suffix(&format!("far-{}", request.id.suffix())).unwrap(), edges, ..*request }
        };
        let far: Vec<Request> = far.iter().map(move_away).collect();
        let both: Vec<Request> = near.iter().chain(&far).cloned().collect();
        let apart: Vec<Option<DriverId>> = assign(&near).into_iter().chain(assign(&far)).collect();
        prop_assert_eq!(assign(&both), apart);
    }

    #[test]
    fn a_small_batch_loses_nothing_to_the_edge_limit(requests in batches(12, 32)) {
        if let Plan::Assigned(planned) = plan(&requests) {
            let value_of_costs = |assigned| value(&requests, assigned);
            let longest = requests.iter().map(|request| request.edges.len()).max().unwrap_or(0);
            prop_assert!(longest <= usize::from(LIST_MAX));
            prop_assert_eq!(value_of_costs(&planned), value_of_costs(&assign(&requests)));
        }
    }
}

#[test]
fn the_second_rider_does_not_pay_for_a_small_gain_of_the_first() {
    // Driver 1 is between the riders, driver 2 behind the first one.
    let requests = [request(1, 0, &[(1, 300), (2, 400)]), request(2, 0, &[(1, 350), (2, 4000)])];
    assert_eq!(greedy(&requests), [Some(driver(1)), Some(driver(2))]);
    assert_eq!(assign(&requests), [Some(driver(2)), Some(driver(1))]);
    assert_eq!(plan(&requests), Plan::Assigned(vec![Some(driver(2)), Some(driver(1))]));
}

#[test]
fn single_requests_and_requests_with_enough_drivers_keep_their_order() {
    let alone = request(1, 0, &[(1, 10)]);
    assert_eq!(plan(&[]), Plan::Single);
    assert_eq!(plan(std::slice::from_ref(&alone)), Plan::Single);
    let drivers = |count: usize| (0..count).map(|number| (number, 10)).collect::<Vec<_>>();
    assert_eq!(plan(&[request(1, 0, &drivers(7)), request(2, 0, &drivers(7))]), Plan::Plentiful);
    assert!(matches!(plan(&[request(1, 0, &drivers(6)), request(2, 0, &drivers(6))]), Plan::Assigned(_)));
    // Two requests that share no driver count as single requests.
    assert_eq!(plan(&[alone, request(2, 0, &[(2, 10)])]), Plan::Plentiful);
}

#[test]
fn longer_waits_outweigh_distance_and_finally_everything() {
    let near = request(1, 0, &[(1, 500)]);
    for (waited_s, served) in [(0, [true, false]), (60, [false, true])] {
        let far = request(2, waited_s, &[(1, 1500)]);
        let assigned = assign(&[near.clone(), far]);
        assert_eq!([assigned[0].is_some(), assigned[1].is_some()], served, "{waited_s} s");
    }
    // The longest search outweighs the largest default ring.
    assert!(waiting_cost(900_000) > 20_000);
    assert_eq!(waiting_cost(u64::MAX), waiting_cost(900_000));
}

#[test]
fn a_request_in_a_bad_place_is_served_although_better_ones_keep_arriving() {
    // One driver is free in each window of two seconds: 3 km from the old request and 200 m from a new one.
    let served = (1..450).find(|window| {
        let patient = request(0, window * 2, &[(1, 3000)]);
        assign(&[patient, request(1, 0, &[(1, 200)])])[0].is_some()
    });
    assert_eq!(served, Some(57), "2800 m at 25 m for each second");
}

#[test]
fn costs_of_any_size_do_not_overflow() {
    let most = u32::MAX;
    let requests: Vec<Request> = (0..200)
        .map(|number| request(number, u64::MAX / 1000, &[(number / 2, most), (number / 2 + 1, most)]))
        .collect();
    assert_eq!(value(&requests, &assign(&requests)).0, 101);
}

#[test]
fn a_low_acceptance_rate_costs_one_bucket_and_idle_time_weighs_less() {
    let policy = DispatchPolicy::default();
    let cost = |pickup_m, rate, idle_min: u64| {
        let facts = EdgeFacts { pickup_m, acceptance_rate_per_mille: rate, idle_ms: idle_min * 60_000 };
        edge_cost(facts, &policy)
    };
    assert_eq!(cost(1000, 1000, 30), 1000);
    assert_eq!(cost(1000, 0, 30), 1200);
    assert_eq!(cost(1000, 500, 30), 1100);
    assert_eq!(cost(1000, 1000, 0), 1050);
    assert_eq!(cost(1000, 1000, 15), 1025);
    assert_eq!(cost(1000, 1000, 600), 1000);
    assert_eq!(cost(u32::MAX, 0, 0), u32::MAX);
    let literal = DispatchPolicy { distance_bucket_m: 0, ..policy };
    let worst = EdgeFacts { pickup_m: 7, acceptance_rate_per_mille: 0, idle_ms: 0 };
    assert_eq!(edge_cost(worst, &literal), 7);
}

#[test]
fn the_assigned_driver_comes_first_and_drivers_of_others_last() {
    let candidate = |number: usize| Candidate {
        driver_id: driver(number),
        distance: crate::geo::Metres(number as f64),
        priority: number,
        auto_accept: false,
        acceptance_rate_per_mille: 500,
    };
    let ranked: Vec<Candidate> = (0..5).map(candidate).collect();
    let (first, second, third) = (driver(0), driver(3), driver(4));
    let taken = BTreeSet::from([&first, &second, &third]);
    let numbers = |ordered: &[Candidate]| {
        let suffix = |candidate: &Candidate| candidate.driver_id.suffix().trim_start_matches('0').to_owned();
        ordered.iter().map(suffix).collect::<Vec<_>>().join(",")
    };
    let ordered = offer_order(ranked.clone(), Some(&second), &taken, 5);
    assert_eq!(numbers(&ordered), "3,1,2,,4");
    assert!(ordered.iter().enumerate().all(|(place, candidate)| candidate.priority == place));
    assert_eq!(numbers(&offer_order(ranked.clone(), Some(&second), &taken, 2)), "3,1");
    assert_eq!(numbers(&offer_order(ranked, None, &taken, 5)), "1,2");
}

/// Requests and drivers at random in a square of 5 km, each request with its nearest drivers.
fn neighbourhood(requests: usize, drivers: usize, edges: usize) -> Vec<Request> {
    let mut random = trace::Random(7);
    let places: Vec<(u32, u32)> = (0..drivers).map(|_| (random.below(5000), random.below(5000))).collect();
    let mut one = |number: usize| {
        let (x, y) = (random.below(5000), random.below(5000));
        let mut near: Vec<(usize, u32)> =
            places.iter().enumerate().map(|(number, at)| (number, at.0.abs_diff(x) + at.1.abs_diff(y))).collect();
        near.sort_by_key(|(_, distance)| *distance);
        near.truncate(edges);
        request(number, 0, &near)
    };
    (0..requests).map(&mut one).collect()
}

#[test]
fn the_largest_batches_are_solved_and_their_time_is_printed() {
    for (requests, drivers, edges) in [(200, 400, 8), (200, 400, 32), (200, 100, 8), (200, 100, 32), (1000, 400, 32)] {
        let batch = neighbourhood(requests, drivers, edges);
        let started = Instant::now();
        let assigned = assign(&batch);
        let took = started.elapsed();
        let (served, cost) = value(&batch, &assigned);
        let (one_by_one, costs) = value(&batch, &greedy(&batch));
        println!(
            "{requests} requests, {drivers} drivers, {edges} edges each: {took:?}, {served} served at {} m each; greedy: \
             {one_by_one} at {} m",
            cost / served as u64,
            costs / one_by_one as u64,
        );
        assert!(served >= one_by_one);
    }
}

#[test]
fn as_many_as_possible_are_served_at_any_cost() {
    // Free of cost, or dear although all have waited long: waiting is never cheaper than a driver.
    for (cost, waited_s) in [(0, 0), (0, 900), (5, 900), (40_000, 0), (40_000, 900)] {
        assert_eq!(assign(&[request(1, waited_s, &[(1, cost)])]), [Some(driver(1))], "{cost} m, {waited_s} s");
        // Each request but the last could leave its second driver for its first one, which the next one needs.
        let count = 12;
        let chain: Vec<Request> = (0..count)
            .map(|number| match number {
                0 => request(number, waited_s, &[(1, cost)]),
                _ => request(number, waited_s, &[(number, 0), (number + 1, cost)]),
            })
            .collect();
        let assigned = assign(&chain);
        let expected: Vec<Option<DriverId>> = (0..count).map(|number| Some(driver(number + 1))).collect();
        assert_eq!(assigned, expected, "{cost} m, {waited_s} s");
    }
}

#[test]
fn edges_are_costs_of_candidates_cheapest_first() {
    const NOW: EpochMs = EpochMs(100_000_000);
    let policy = DispatchPolicy { distance_bucket_m: 400, ..DispatchPolicy::default() };
    let candidate = |number: usize, metres: f64, auto_accept, rate| Candidate {
        driver_id: driver(number),
        distance: Metres(metres),
        priority: 0,
        auto_accept,
        acceptance_rate_per_mille: rate,
    };
    let snapshot = |number: usize, idle_min: i64| DriverSnapshot {
        id: driver(number),
        availability: crate::person::PersonStatus::Active,
        position: crate::geo::Coordinate::new(37.5, 127.0).unwrap(),
        seen_at: NOW,
        idle_since: EpochMs(NOW.0 - idle_min * 60_000),
        max_distance: Metres(0.0),
        minimum_fare: 0,
        auto_accept: false,
        acceptance: crate::candidate::AcceptanceCounts::default(),
        resting: false,
    };
    let ranked = [
        candidate(1, 1000.0, false, 500),
        candidate(2, 1000.0, true, 500),
        candidate(3, 900.4, false, 1000),
        candidate(4, 700.0, false, 250),
        candidate(5, 700.0, false, 250),
    ];
    let drivers = [snapshot(1, 30), snapshot(2, 30), snapshot(3, 15), snapshot(4, 30), snapshot(5, 30)];
    let costs = |policy: &DispatchPolicy, drivers: &[DriverSnapshot]| -> Vec<(usize, u32)> {
        let number = |edge: &Edge| edge.driver.suffix().parse().unwrap();
        edges(&ranked, drivers, policy, NOW).iter().map(|edge| (number(edge), edge.cost)).collect()
    };
    // A driver who accepts automatically is never refused; half of the idle time is worth half of a quarter.
    assert_eq!(costs(&policy, &drivers), [(3, 950), (2, 1000), (4, 1000), (5, 1000), (1, 1200)]);
    let answering = DispatchPolicy { auto_accept: false, ..policy.clone() };
    assert_eq!(costs(&answering, &drivers), [(3, 950), (4, 1000), (5, 1000), (1, 1200), (2, 1200)]);
    // A driver who is not among the snapshots counts as not idle.
    assert_eq!(costs(&policy, &drivers[1..]), [(3, 950), (2, 1000), (4, 1000), (5, 1000), (1, 1300)]);
}

#[test]
fn shortness_is_judged_for_each_group_of_requests_that_share_drivers() {
    let drivers = |range: std::ops::Range<usize>| range.map(|number| (number, 10)).collect::<Vec<_>>();
    let plentiful = [request(1, 0, &drivers(0..7)), request(2, 0, &drivers(0..7))];
    let short = [request(3, 0, &drivers(10..12)), request(4, 0, &drivers(11..13))];
    let three = [request(3, 0, &drivers(10..15)), request(4, 0, &drivers(11..16)), request(5, 0, &drivers(12..20))];
    assert_eq!(plan(&plentiful), Plan::Plentiful);
    assert!(matches!(plan(&[plentiful.as_slice(), &short].concat()), Plan::Assigned(_)));
    assert_eq!(plan(&three), Plan::Plentiful, "ten drivers for three requests");
    let nine = [request(3, 0, &drivers(10..15)), request(4, 0, &drivers(11..16)), request(5, 0, &drivers(12..19))];
    assert!(matches!(plan(&nine), Plan::Assigned(_)));
}

#[test]
fn waiting_costs_25_metres_a_second() {
    assert_eq!([0, 1_000, 2_500, 900_000, 900_001].map(waiting_cost), [0, 25, 62, 22_500, 22_500]);
}
