//! Points in polygons.

use proptest::prelude::*;

use super::*;

fn at(lng: f64, lat: f64) -> Coordinate {
    Coordinate::new(lat, lng).unwrap()
}

fn ring(positions: &[[f64; 2]]) -> Vec<Vec<f64>> {
    positions.iter().map(|position| position.to_vec()).collect()
}

/// A rectangle, counter-clockwise.
fn rectangle(west: f64, south: f64, east: f64, north: f64) -> Vec<Vec<f64>> {
    ring(&[[west, south], [east, south], [east, north], [west, north], [west, south]])
}

fn area(polygons: &[Rings]) -> ServiceArea {
    ServiceArea::from_polygons(polygons).unwrap()
}

fn problem(polygons: &[Rings]) -> String {
    ServiceArea::from_polygons(polygons).unwrap_err().to_string()
}

/// Seoul, roughly, with a hole.
fn seoul() -> ServiceArea {
    area(&[vec![rectangle(126.76, 37.42, 127.19, 37.70), rectangle(126.9, 37.5, 126.95, 37.55)]])
}

#[test]
fn a_hole_is_outside_and_every_edge_inside() {
    let seoul = seoul();
    assert!(seoul.contains(at(126.9784, 37.5662)));
    assert!(!seoul.contains(at(129.04, 35.11)), "Busan");
    assert!(!seoul.contains(at(126.92, 37.52)), "in the hole");
    for (lng, lat) in
        [(126.76, 37.42), (126.76, 37.5), (127.0, 37.70), (127.19, 37.70), (126.9, 37.52), (126.95, 37.55)]
    {
        assert!(seoul.contains(at(lng, lat)), "{lng} {lat} is on an edge");
    }
    assert!(!seoul.contains(at(126.76 - 1e-6, 37.5)), "a decimetre outside");
    assert!(seoul.contains(at(126.76 + 1e-6, 37.5)));
}

#[test]
fn concave_outlines_and_several_polygons_count() {
    let u = ring(&[
        [0.0, 0.0],
        [3.0, 0.0],
        [3.0, 3.0],
        [2.0, 3.0],
        [2.0, 1.0],
        [1.0, 1.0],
        [1.0, 3.0],
        [0.0, 3.0],
        [0.0, 0.0],
    ]);
    let area = area(&[vec![u], vec![rectangle(10.0, 10.0, 11.0, 11.0)]]);
    for (lng, lat, inside) in [
        (0.5, 2.0, true),
        (1.5, 0.5, true),
        (1.5, 2.0, false),
        (2.5, 2.9, true),
        (1.5, 3.0, false),
        (1.5, 1.0, true),
        // On the height of corners, where a ray meets two edges.
        (-1.0, 0.0, false),
        (-1.0, 1.0, false),
        (-1.0, 3.0, false),
        (0.5, 1.0, true),
        (10.5, 10.5, true),
        (5.0, 5.0, false),
    ] {
        assert_eq!(area.contains(at(lng, lat)), inside, "{lng} {lat}");
    }
}

#[test]
fn an_area_across_the_antimeridian_has_two_polygons() {
    let fiji = area(&[vec![rectangle(176.0, -20.0, 180.0, -15.0)], vec![rectangle(-180.0, -20.0, -178.0, -15.0)]]);
    for (lng, inside) in [(179.0, true), (180.0, true), (-180.0, true), (-179.0, true), (-177.0, false), (0.0, false)] {
        assert_eq!(fiji.contains(at(lng, -17.0)), inside, "{lng}");
    }
    let west = area(&[vec![rectangle(176.0, -20.0, 180.0, -15.0)]]);
    assert!(west.contains(at(-180.0, -17.0)), "the same place as 180");
    let crossing = ring(&[[177.0, -20.0], [-178.0, -20.0], [-178.0, -15.0], [177.0, -15.0], [177.0, -20.0]]);
    assert_eq!(
        problem(&[vec![crossing]]),
        "[0][0][1] must not be more than 180 degrees east or west of the position before it; cut an area that crosses \
         the antimeridian into two polygons, which end at 180 and -180"
    );
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let good = rectangle(0.0, 0.0, 1.0, 1.0);
    let mut open = good.clone();
    open.pop();
    open.push(vec![0.5, 0.5]);
    assert_eq!(problem(&[]), "has no polygon");
    assert_eq!(problem(&[vec![good.clone()], vec![]]), "[1] must have a ring, the outline");
    let short = "a ring must have at least 4 positions, of which the last repeats the first";
    assert_eq!(problem(&[vec![vec![]]]), format!("[0][0] {short}"));
    assert_eq!(problem(&[vec![ring(&[[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])]]), format!("[0][0] {short}"));
    assert_eq!(problem(&[vec![good.clone(), open]]), "[0][1][4] the last position of a ring must repeat the first");
    let flat = "[0][0] a ring must enclose an area";
    assert_eq!(problem(&[vec![ring(&[[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [0.0, 0.0]])]]), flat);
    assert_eq!(problem(&[vec![ring(&[[3.0, 3.0]; 5])]]), flat);
    let position = "a position is [longitude, latitude] in degrees, -180 to 180 and -90 to 90";
    for wrong in [vec![], vec![1.0], vec![1.0, 2.0, 30.0], vec![181.0, 0.0], vec![0.0, f64::NAN], vec![100.0, 100.0]] {
        let mut ring = good.clone();
        ring[2] = wrong;
        assert_eq!(problem(&[vec![ring]]), format!("[0][0][2] {position}"));
    }
    let swapped = ring(&[[37.42, 126.76], [37.42, 127.19], [37.70, 127.19], [37.42, 126.76]]);
    assert_eq!(
        problem(&[vec![swapped]]),
        "[0][0][0] a position is [longitude, latitude] in degrees; this one has the latitude first"
    );
    let many = vec![good; POSITIONS_MAX / 5 + 1];
    assert_eq!(problem(&[many]), "has 2005 positions, at most 2000 are allowed; simplify the outline");
}

#[test]
fn exchanged_numbers_are_recognised_by_the_time_zone() {
    let around = |lng: f64, lat: f64| area(&[vec![rectangle(lng - 0.2, lat - 0.2, lng + 0.2, lat + 0.2)]]);
    // Hours from UTC, longitude, latitude.
    for (zone, lng, lat) in [
        (9.0, 126.98, 37.57),
        (1.0, 11.58, 48.14),
        (1.0, 2.35, 48.86),
        (0.0, -0.13, 51.51),
        (-5.0, -74.01, 40.71),
        (-3.0, -72.27, -50.34),
        (8.0, 75.99, 39.47),
        (13.0, -171.77, -13.83),
        (14.0, -157.4, 1.87),
        (10.0, 151.21, -33.87),
        (-10.0, -176.65, 51.88),
    ] {
        assert!(!around(lng, lat).looks_swapped(15.0 * zone), "{lng} {lat}");
    }
    for (zone, lng, lat) in [(1.0, 11.58, 48.14), (1.0, 2.35, 48.86), (0.0, -0.13, 51.51), (-5.0, -74.01, 40.71)] {
        assert!(around(lat, lng).looks_swapped(15.0 * zone), "{lng} {lat}");
    }
}

/// A convex ring around a centre: corners on a circle by rising angles.
fn convex() -> impl Strategy<Value = Vec<[f64; 2]>> {
    prop::collection::vec(0.05_f64..1.0, 3..30).prop_map(|steps| {
        let all: f64 = steps.iter().sum();
        let mut angle = 0.0;
        let mut corners: Vec<[f64; 2]> = Vec::new();
        for step in steps {
            corners.push([20.0 + 10.0 * f64::cos(angle), 40.0 + 10.0 * f64::sin(angle)]);
            angle += step / all * std::f64::consts::TAU;
        }
        corners.push(corners[0]);
        corners
    })
}

/// The smallest distance to the left of the edges of a counter-clockwise ring; negative outside a convex one.
fn inside_by(corners: &[[f64; 2]], lng: f64, lat: f64) -> f64 {
    let left = |edge: &[[f64; 2]]| {
        let ([ax, ay], [bx, by]) = (edge[0], edge[1]);
        ((bx - ax) * (lat - ay) - (by - ay) * (lng - ax)) / (bx - ax).hypot(by - ay)
    };
    corners.windows(2).map(left).fold(f64::INFINITY, f64::min)
}

proptest! {
    #[test]
    fn a_convex_polygon_is_what_is_left_of_all_its_edges(
        corners in convex(),
        lng in 8.0_f64..32.0,
        lat in 28.0_f64..52.0,
        turn in 0_usize..30,
    ) {
        let by = inside_by(&corners, lng, lat);
        prop_assume!(by.abs() > 1e-7);
        let inside = area(&[vec![ring(&corners)]]).contains(at(lng, lat));
        prop_assert_eq!(inside, by > 0.0);
        // Neither the first corner nor the direction matters.
        let mut turned = corners[1..].to_vec();
        let turn = turn % turned.len();
        turned.rotate_left(turn);
        turned.reverse();
        turned.push(turned[0]);
        prop_assert_eq!(area(&[vec![ring(&turned)]]).contains(at(lng, lat)), inside);
        // As a hole it takes away what it would have.
        let with_hole = area(&[vec![rectangle(0.0, 0.0, 60.0, 60.0), ring(&corners)]]);
        prop_assert_eq!(with_hole.contains(at(lng, lat)), !inside);
    }

    #[test]
    fn the_corners_and_edges_of_a_ring_belong_to_it(corners in convex(), edge in 0_usize..30, along in 0.0_f64..=1.0) {
        let edge = edge % (corners.len() - 1);
        let ([ax, ay], [bx, by]) = (corners[edge], corners[edge + 1]);
        let area = area(&[vec![ring(&corners)]]);
        prop_assert!(area.contains(at(ax, ay)));
        prop_assert!(area.contains(at(ax + along * (bx - ax), ay + along * (by - ay))));
    }

    /// Unit squares of a grid as polygons: a place is in the area if its square is.
    #[test]
    fn many_polygons_are_their_union(
        chosen in prop::collection::vec(any::<bool>(), 36),
        column in 0_usize..6,
        row in 0_usize..6,
        dx in 0.01_f64..0.99,
        dy in 0.01_f64..0.99,
    ) {
        prop_assume!(chosen.iter().any(|chosen| *chosen));
        let squares = chosen.iter().enumerate().filter(|(_, chosen)| **chosen).map(|(number, _)| {
            let (x, y) = ((number % 6) as f64, (number / 6) as f64);
            vec![rectangle(x, y, x + 1.0, y + 1.0)]
        });
        let area = area(&squares.collect::<Vec<Rings>>());
        prop_assert_eq!(area.contains(at(column as f64 + dx, row as f64 + dy)), chosen[row * 6 + column]);
        prop_assert_eq!(ServiceArea::from_polygons(&area.polygons()), Ok(area));
    }

    #[test]
    fn no_description_panics(polygons in prop::collection::vec(
        prop::collection::vec(prop::collection::vec(prop::collection::vec(prop::num::f64::ANY, 0..4), 0..6), 0..3), 0..3,
    )) {
        if let Ok(area) = ServiceArea::from_polygons(&polygons) {
            area.contains(at(0.0, 0.0));
        }
    }
}
