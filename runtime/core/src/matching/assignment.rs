//! Sparse minimum-cost assignment, solved separately for each connected component.
//!
//! Successive shortest augmenting paths with column prices, after R. Jonker and A. Volgenant, "A Shortest Augmenting
//! Path Algorithm for Dense and Sparse Linear Assignment Problems", Computing 38 (1987) 325-340. Requests are added one
//! at a time. Dijkstra's algorithm finds the cheapest augmenting path, measured in costs minus prices. The prices of
//! the settled columns are then lowered so that no later path has a negative length.
//!
//! In addition to its drivers, each request has a waiting column of its own. Waiting costs more than the whole
//! component could save by any match, so it is chosen only if no driver is left. Which request waits is then decided by
//! cost.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::{Request, waiting_cost};
use crate::ids::DriverId;

/// Indices of requests and drivers that are connected by edges only with each other.
#[derive(Default)]
struct Component {
    /// Ordered by id.
    requests: Vec<usize>,
    /// Ordered by id.
    drivers: Vec<usize>,
}

/// The connected components of a batch. Drivers are numbered in the order of their ids, so that the result does not
/// depend on the order of the input.
pub(super) struct Components<'a> {
    requests: &'a [Request],
    drivers: Vec<&'a DriverId>,
    /// Driver and cost of the edges of each request.
    edges: Vec<Vec<(usize, u32)>>,
    groups: Vec<Component>,
}

impl<'a> Components<'a> {
    /// The components that result from the first `edges_max` edges of each request.
    pub(super) fn new(requests: &'a [Request], edges_max: usize) -> Self {
        let considered = |request: &'a Request| request.edges.iter().take(edges_max);
        let mut drivers: Vec<&DriverId> = requests.iter().flat_map(considered).map(|edge| &edge.driver).collect();
        drivers.sort_unstable();
        drivers.dedup();
        let number = |driver: &DriverId| drivers.binary_search(&driver).unwrap_or_default();
        let edges: Vec<Vec<(usize, u32)>> = requests
            .iter()
            .map(|request| considered(request).map(|edge| (number(&edge.driver), edge.cost)).collect())
            .collect();
        let groups = connected(requests, &edges, drivers.len());
        Self { requests, drivers, edges, groups }
    }

    /// Whether any component with several requests has at most `ratio` drivers for each request.
    pub(super) fn any_short_of_drivers(&self, ratio: usize) -> bool {
        let short = |component: &Component| component.drivers.len() <= component.requests.len() * ratio;
        self.groups.iter().any(|component| component.requests.len() > 1 && short(component))
    }

    /// The driver of each request.
    pub(super) fn assign(&self) -> Vec<Option<DriverId>> {
        let mut assigned = vec![None; self.requests.len()];
        for component in &self.groups {
            let columns = self.rows_of(component).solve();
            for (request, column) in component.requests.iter().zip(columns) {
                let driver = component.drivers.get(column).map(|driver| self.drivers[*driver].clone());
                assigned[*request] = driver;
            }
        }
        assigned
    }

    /// The component's requests as rows and its drivers as columns, followed by one waiting column for each row.
    fn rows_of(&self, component: &Component) -> Rows {
        let count = component.requests.len();
        let waiting = |request: &usize| i64::try_from(waiting_cost(self.requests[*request].waited_ms)).unwrap_or(0);
        let dearest_edge = component.requests.iter().flat_map(|request| &self.edges[*request]).map(|(_, cost)| *cost);
        let dearest = i64::from(dearest_edge.max().unwrap_or(0));
        let longest = component.requests.iter().map(waiting).max().unwrap_or(0);
        // Serving one more request outweighs everything the others could save.
        let unserved = (dearest + longest) * i64::try_from(count).unwrap_or(i64::MAX) + 1;
        let column = |driver: usize| component.drivers.binary_search(&driver).unwrap_or_default();
        let row = |(place, request): (usize, &usize)| {
            let drivers = self.edges[*request].iter().map(|(driver, cost)| (column(*driver), i64::from(*cost)));
            let waits = (component.drivers.len() + place, unserved + waiting(request));
            drivers.chain([waits]).collect()
        };
        Rows {
            rows: component.requests.iter().enumerate().map(row).collect(),
            columns: component.drivers.len() + count,
        }
    }
}

/// Groups requests that share drivers, directly or indirectly. Requests without a driver are in no group.
fn connected(requests: &[Request], edges: &[Vec<(usize, u32)>], drivers: usize) -> Vec<Component> {
    let mut parents: Vec<usize> = (0..drivers).collect();
    for request in edges {
        for pair in request.windows(2) {
            let (a, b) = (root(&mut parents, pair[0].0), root(&mut parents, pair[1].0));
            parents[a.max(b)] = a.min(b);
        }
    }
    let mut by_root: BTreeMap<usize, Component> = BTreeMap::new();
    for driver in 0..drivers {
        by_root.entry(root(&mut parents, driver)).or_default().drivers.push(driver);
    }
    let mut in_order: Vec<usize> = (0..requests.len()).collect();
    in_order.sort_by_key(|request| &requests[*request].id);
    for request in in_order {
        if let Some((driver, _)) = edges[request].first() {
            by_root.entry(root(&mut parents, *driver)).or_default().requests.push(request);
        }
    }
    by_root.into_values().collect()
}

/// The representative of the group of `driver`, with path halving (union-find).
fn root(parents: &mut [usize], mut driver: usize) -> usize {
    while parents[driver] != driver {
        parents[driver] = parents[parents[driver]];
        driver = parents[driver];
    }
    driver
}

/// A sparse cost matrix in which every row has a column that no other row has.
struct Rows {
    /// Column and cost of each entry.
    rows: Vec<Vec<(usize, i64)>>,
    columns: usize,
}

/// A partial matching.
struct Matching {
    row_of: Vec<Option<usize>>,
    /// The column of each row, and its cost there.
    column_of: Vec<Option<(usize, i64)>>,
    /// Never above zero, and zero for a column that was never assigned.
    prices: Vec<i64>,
}

/// A shortest-path search: for each column, its distance, and the row through which it was reached with that row's
/// cost.
struct Reached {
    over: Vec<Option<(usize, i64)>>,
    distance: Vec<i64>,
    /// Columns whose distance is final, without the end of the path.
    settled: Vec<usize>,
}

impl Rows {
    /// The column of each row.
    fn solve(&self) -> Vec<usize> {
        let mut matching = Matching {
            row_of: vec![None; self.columns],
            column_of: vec![None; self.rows.len()],
            prices: vec![0; self.columns],
        };
        for row in 0..self.rows.len() {
            let (reached, end) = self.shortest_path(&matching, row);
            matching.augment(&reached, end);
        }
        matching.column_of.into_iter().map(|column| column.map_or(usize::MAX, |(column, _)| column)).collect()
    }

    /// The shortest path from a row without a column to a column without a row. There always is one: the row's own
    /// waiting column.
    fn shortest_path(&self, matching: &Matching, from: usize) -> (Reached, usize) {
        let mut reached =
            Reached { over: vec![None; self.columns], distance: vec![i64::MAX; self.columns], settled: Vec::new() };
        let mut nearest = BinaryHeap::new();
        self.relax(matching, (from, 0), &mut reached, &mut nearest);
        while let Some(Reverse((distance, column))) = nearest.pop() {
            if distance > reached.distance[column] {
                continue;
            }
            let Some(row) = matching.row_of[column] else { return (reached, column) };
            reached.settled.push(column);
            let there = matching.column_of[row].map_or(0, |(column, cost)| cost - matching.prices[column]);
            self.relax(matching, (row, distance - there), &mut reached, &mut nearest);
        }
        (reached, usize::MAX)
    }

    /// Relaxes the columns of a row; `base` is added to each cost minus its price.
    fn relax(
        &self,
        matching: &Matching,
        (row, base): (usize, i64),
        reached: &mut Reached,
        nearest: &mut BinaryHeap<Reverse<(i64, usize)>>,
    ) {
        for (column, cost) in &self.rows[row] {
            let distance = base + cost - matching.prices[*column];
            if distance < reached.distance[*column] {
                reached.distance[*column] = distance;
                reached.over[*column] = Some((row, *cost));
                nearest.push(Reverse((distance, *column)));
            }
        }
    }
}

impl Matching {
    /// Assigns each row on the path its next column, and lowers the prices of the settled columns.
    fn augment(&mut self, reached: &Reached, end: usize) {
        let Some(length) = reached.distance.get(end) else { return };
        for column in &reached.settled {
            self.prices[*column] += reached.distance[*column] - length;
        }
        let mut column = end;
        while let Some((row, cost)) = reached.over[column] {
            let before = self.column_of[row].replace((column, cost));
            self.row_of[column] = Some(row);
            // The row that was added had no column before.
            let Some((left, _)) = before else { return };
            column = left;
        }
    }
}
