//! A city in virtual time, played once by each arm with the same riders, drivers and answers.

mod arm;
mod batch;
mod bill;
mod broadcast;
mod ledger;
mod limits;
mod outcome;
mod sequential;
mod trace;
mod world;

use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context as _, ensure};

use crate::Size;
use crate::plot::{Arrangement, Bars, Group};
use crate::report::{Goal, Plot, Section, Table};
use crate::search::Costs;
use crate::seoul::Seoul;
use crate::stats::{Spread, number};

pub(crate) use arm::Arm;
pub(crate) use outcome::Metric;
use outcome::Outcome;
use trace::{Scenario, Trace, WaitTolerance};
use world::{Setup, World};

/// Seed of the first repetition; the following repetitions count up.
const SEED: u64 = 20_261_125;

/// The scenario of the plots and of the costs, if it is played.
const MAIN: &str = "10,000 drivers";
/// The one in which drivers are scarce.
const SCARCE: &str = "10,000 drivers, too few";

const PLENTY: f64 = 0.6;
const TOO_FEW: f64 = 1.15;

fn scenarios(size: Size) -> Vec<Scenario> {
    let small = Scenario {
        name: "1,000 drivers",
        drivers: 1_000,
        demand: PLENTY,
        patience: WaitTolerance::Long,
        warm_up_s: 300,
        counted_s: 900,
    };
    let main = Scenario { name: MAIN, drivers: 10_000, counted_s: 600, ..small };
    match size {
        Size::Quick => {
            let tiny = Scenario { drivers: 400, warm_up_s: 60, counted_s: 240, ..small };
            vec![Scenario { name: MAIN, ..tiny }, Scenario { name: SCARCE, demand: TOO_FEW, ..tiny }]
        }
        Size::Trial => vec![Scenario { counted_s: 120, ..small }, Scenario { name: SCARCE, demand: TOO_FEW, ..small }],
        Size::Full => vec![
            small,
            main,
            Scenario { name: "10,000 drivers, short patience", patience: WaitTolerance::Short, ..main },
            Scenario { name: SCARCE, demand: TOO_FEW, ..main },
            Scenario { name: "50,000 drivers", drivers: 50_000, warm_up_s: 200, counted_s: 400, ..small },
        ],
    }
}

fn repetitions(size: Size) -> u64 {
    match size {
        Size::Quick => 2,
        Size::Trial => 3,
        Size::Full => 5,
    }
}

/// All runs of one scenario.
pub(crate) struct Played {
    scenario: Scenario,
    /// Requests per second, and the mean time of a ride, s.
    traffic: (f64, f64),
    outcomes: Vec<(Arm, Vec<Outcome>)>,
}

impl Played {
    fn values(&self, arm: Arm, metric: Metric) -> Vec<f64> {
        let runs = self.outcomes.iter().filter(|(other, _)| *other == arm).flat_map(|(_, runs)| runs);
        runs.filter_map(|run| run.get(&metric).copied()).collect()
    }

    fn spread(&self, arm: Arm, metric: Metric) -> Spread {
        Spread::of(self.values(arm, metric))
    }

    pub(crate) fn name(&self) -> &'static str {
        self.scenario.name
    }

    /// Median over the repetitions.
    pub(crate) fn median(&self, arm: Arm, metric: Metric) -> f64 {
        self.spread(arm, metric).median
    }
}

pub(crate) fn play(size: Size, costs: Costs) -> anyhow::Result<Vec<Played>> {
    let seoul = Seoul::new()?;
    let mut all = Vec::new();
    for scenario in scenarios(size) {
        let begun = Instant::now();
        let played = play_one(&seoul, scenario, repetitions(size), costs)?;
        eprintln!("  {}: {:.1} s", scenario.name, begun.elapsed().as_secs_f64());
        check(&played)?;
        all.push(played);
    }
    if size == Size::Quick {
        repeats(&seoul, costs)?;
    }
    Ok(all)
}

/// Plays one scenario with every arm and every seed, on all cores. Runs share no state.
fn play_one(seoul: &Seoul, scenario: Scenario, repetitions: u64, costs: Costs) -> anyhow::Result<Played> {
    let jobs: Vec<(Arm, u64)> =
        Arm::ALL.into_iter().flat_map(|arm| (0..repetitions).map(move |repetition| (arm, SEED + repetition))).collect();
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some((arm, seed)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)).copied() {
            let outcome = run(Setup { arm, scenario: &scenario, seoul, seed, costs });
            done.lock().push((arm, seed, outcome));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut done = done.into_inner();
    // Ratios compare runs of the same seed, so the order must not depend on which run ended first.
    done.sort_by_key(|(arm, seed, _)| (*arm, *seed));
    ensure!(done.len() == jobs.len(), "a run failed");
    let mut outcomes: Vec<(Arm, Vec<Outcome>)> = Arm::ALL.into_iter().map(|arm| (arm, Vec::new())).collect();
    for (arm, seed, outcome) in done {
        let outcome = outcome.with_context(|| format!("{} with seed {seed}", arm.name()))?;
        outcomes.iter_mut().filter(|(other, _)| *other == arm).for_each(|(_, runs)| runs.push(outcome.clone()));
    }
    let trace = Trace::of(seoul, &scenario, SEED);
    Ok(Played { scenario, traffic: (trace.rate, trace.busy_s), outcomes })
}

/// Plays one run and audits it.
fn run(setup: Setup<'_>) -> anyhow::Result<Outcome> {
    let mut world = World::new(setup)?;
    world.run()?;
    let violations = world.ledger.violations();
    ensure!(violations == 0, "{violations} drivers on two rides at once, or requests accepted twice");
    let at_once = world.ledger.offers_at_once();
    ensure!(!setup.arm.reserves() || at_once == 0, "{at_once} offers to drivers who had another open offer");
    Ok(outcome::of(&world))
}

/// Checks what must hold in every run, independent of the figures.
fn check(played: &Played) -> anyhow::Result<()> {
    let median = |arm, metric| played.median(arm, metric);
    for arm in Arm::ALL {
        let served = median(arm, Metric::Served);
        ensure!(served > 0.0 && served <= 1.0, "{}: {served} served", arm.name());
        ensure!(median(arm, Metric::Offers) >= 1.0, "{}: fewer offers than rides", arm.name());
    }
    if played.scenario.demand < 1.0 {
        // With scarce drivers the number of drivers decides, not the time-out.
        let waited = |arm| median(arm, Metric::Waited);
        let (slow, quick) = (waited(Arm::C), waited(Arm::D));
        ensure!(quick < slow, "riders wait {quick} s with 15 s, {slow} s with 120 s");
        let (slow, quick) = (median(Arm::C, Metric::Soon), median(Arm::D, Metric::Soon));
        ensure!(quick > slow, "{quick} have a driver soon with 15 s, {slow} with 120 s");
    }
    let (one, five) = (median(Arm::D, Metric::Offers), median(Arm::F, Metric::Offers));
    ensure!(one < five, "{one} offers one after the other, {five} with five at once");
    ensure!(median(Arm::D, Metric::WritesThrottled) <= 0.0, "an index partition would have throttled writes of arm D");
    ensure!(median(Arm::D, Metric::ReadUnits) < median(Arm::A, Metric::ReadUnits), "the index needs read units");
    Ok(())
}

/// Checks that equal seeds give equal runs.
fn repeats(seoul: &Seoul, costs: Costs) -> anyhow::Result<()> {
    let Some(scenario) = scenarios(Size::Quick).into_iter().next() else { return Ok(()) };
    for arm in Arm::ALL {
        let setup = Setup { arm, scenario: &scenario, seoul, seed: SEED, costs };
        let (first, second) = (run(setup)?, run(setup)?);
        ensure!(format!("{first:?}") == format!("{second:?}"), "{}: equal seeds, different figures", arm.name());
    }
    Ok(())
}

/// The scenario of the plots and the costs.
pub(crate) fn main_one(played: &[Played]) -> Option<&Played> {
    played.iter().find(|played| played.scenario.name == MAIN).or_else(|| played.first())
}

/// The report of all scenarios.
pub(crate) fn section(played: &[Played]) -> anyhow::Result<Section> {
    let main = main_one(played);
    let mut tables = Vec::new();
    for played in played {
        tables.extend([riders(played), drivers(played)]);
        tables.push(ratios(played));
    }
    tables.extend(main.map(calls));
    Ok(Section {
        title: "A city in virtual time",
        text: text(played),
        tables,
        plots: main.map(plots).transpose()?.unwrap_or_default(),
        goals: goals(played),
    })
}

fn text(played: &[Played]) -> Vec<String> {
    let repetitions = played.first().and_then(|played| played.outcomes.first()).map_or(0, |(_, runs)| runs.len());
    vec![
        format!(
            "Discrete events in virtual time. Riders request rides by a Poisson process. Drivers cruise, ping every 4 \
             s, and accept (58 %), reject (25 %) or ignore (17 %) an offer, after a log-normal time with a median of 6 \
             s. The answers are drawn from the random seed for each pair of request and driver, so they are equal in \
             all arms. A ride takes the straight line times 1.3 at 25 km/h. Every figure is the median of \
             {repetitions} seeds, with minimum and maximum. A and B use `rank` and `step` of core with the \
             specification's literal rules, A with the table and B with Redis. C, D and E use the same functions with \
             our rules. F has rules of its own."
        ),
        "Modelled for all arms: 0.3 s from a stored change to the algorithm, and 0.3 s from an offer to the screen. \
         Modelled for A: one partition of GSI1 serves 3,000 read units a second, with a reserve of one second; a page \
         takes 4 ms, and reading it the time measured above. Searches wait in order while the partition is exhausted, \
         without the errors and retries of a real client. Positions are as fresh as ours, although the specification's \
         table has none between rides. Modelled for B: searches share one Redis thread, each for the time measured \
         above. The specification reserves no driver, so a driver may receive offers of several rides at the same \
         time; the first acceptance that the table's condition admits takes effect."
            .to_owned(),
        "Riders give up: with *short* patience as in Kakao's published figures (9.8 % within 15 s, 28.8 % within 18 \
         s), otherwise four times as slowly. *Served* and *gave up* are shares of the requests in the counted time. \
         The times to a match cover served requests only, so an arm that serves few appears better there than it is; \
         *waited* covers all requests, until a driver accepts or the request ends. *Wasted* offers went to drivers who \
         could not have got the ride, because another driver got it or they already had one. After every run all rides \
         and offers are audited: no driver was on two rides, no request was accepted twice, and with C, D and E no \
         driver had two offers. The Gini coefficients cover all drivers in the counted time, most of whom receive no \
         offer; they compare arms, not cities."
            .to_owned(),
    ]
}

const RIDERS: [(Metric, &str); 9] = [
    (Metric::Served, "Served"),
    (Metric::Soon, "In 30 s"),
    (Metric::GaveUp, "Gave up"),
    (Metric::Waited, "Waited mean, s"),
    (Metric::MatchMean, "Match mean, s"),
    (Metric::MatchP50, "p50, s"),
    (Metric::MatchP95, "p95, s"),
    (Metric::PickupMean, "Pickup mean, m"),
    (Metric::PickupP95, "p95, m"),
];

const DRIVERS: [(Metric, &str); 6] = [
    (Metric::Offers, "Offers per ride"),
    (Metric::Wasted, "Wasted offers per ride"),
    (Metric::AtOnce, "Overlapping offers per request"),
    (Metric::GiniOffers, "Gini of offers"),
    (Metric::GiniIdle, "Gini of idle time"),
    (Metric::Throttled, "Delayed searches per request"),
];

fn riders(played: &Played) -> Table {
    let (rate, busy_s) = played.traffic;
    let title = format!(
        "{}, riders: {} requests/s, {} min per ride, {} free drivers per open request (median with D)",
        played.name(),
        number(rate),
        number(busy_s / 60.0),
        number(played.median(Arm::D, Metric::Supply))
    );
    quality(played, title, &RIDERS)
}

fn drivers(played: &Played) -> Table {
    quality(played, format!("{}, drivers", played.name()), &DRIVERS)
}

fn quality(played: &Played, title: String, columns: &[(Metric, &str)]) -> Table {
    let head: Vec<&str> = std::iter::once("Arm").chain(columns.iter().map(|(_, name)| *name)).collect();
    let mut table = Table::new(title, &head);
    for arm in Arm::ALL {
        let cells = columns.iter().map(|(metric, _)| played.spread(arm, *metric).shown(|value| metric.show(value)));
        table.row(std::iter::once(arm.name().to_owned()).chain(cells));
    }
    table
}

/// Batching must cost riders almost nothing while drivers are plentiful, and shorten the pickup while they are scarce.
fn goals(played: &[Played]) -> Vec<Goal> {
    let mut goals = Vec::new();
    for (name, limit) in [(MAIN, 1.05), (SCARCE, 1.0)] {
        let Some(played) = played.iter().find(|played| played.name() == name) else { continue };
        let ratio = |metric| played.median(Arm::E, metric) / played.median(Arm::D, metric);
        let pickup = format!("Mean pickup distance, batched to sequential, {name}");
        goals.push(Goal::at_most(pickup, limit, ratio(Metric::PickupMean), "times"));
        let served = format!("Riders served, batched to sequential, {name}");
        goals.push(Goal::at_least(served, 0.95, ratio(Metric::Served), "times"));
    }
    goals
}

fn ratios(played: &Played) -> Table {
    const OF: [(Metric, &str); 6] = [
        (Metric::Served, "served"),
        (Metric::Soon, "in 30 s"),
        (Metric::Waited, "waited mean"),
        (Metric::MatchMean, "match mean"),
        (Metric::PickupMean, "pickup mean"),
        (Metric::Offers, "offers"),
    ];
    let mut head = vec!["Arm".to_owned()];
    for base in ["A", "B"] {
        head.extend(OF.iter().map(|(_, name)| format!("{name} / {base}")));
    }
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    let mut table = Table::new(format!("{}: ratios to A and B", played.scenario.name), &head);
    for arm in [Arm::C, Arm::D, Arm::E, Arm::F] {
        let cells = [Arm::A, Arm::B].into_iter().flat_map(|base| {
            OF.map(|(metric, _)| {
                let pairs = played.values(arm, metric).into_iter().zip(played.values(base, metric));
                Spread::of(pairs.map(|(ours, theirs)| ours / theirs).collect()).text()
            })
        });
        table.row(std::iter::once(arm.name().to_owned()).chain(cells));
    }
    table
}

const CALLS: [(Metric, &str); 4] = [
    (Metric::Reads, "DynamoDB reads"),
    (Metric::Writes, "DynamoDB writes"),
    (Metric::Sqs, "SQS"),
    (Metric::Sns, "SNS"),
];

fn calls(played: &Played) -> Table {
    const UNITS: [(Metric, &str); 5] = [
        (Metric::ReadUnits, "Read units"),
        (Metric::WriteUnits, "Write units, table"),
        (Metric::IndexUnits, "Write units, indexes"),
        (Metric::RouteWrites, "Route: writes"),
        (Metric::RouteUnits, "Route: write units, table"),
    ];
    let columns: Vec<(Metric, &str)> = CALLS.into_iter().chain(UNITS).collect();
    let head: Vec<&str> = ["Arm", "Calls"].into_iter().chain(columns.iter().map(|(_, name)| *name)).collect();
    let title = format!("{}: AWS calls per accepted ride, counted in the model", played.scenario.name);
    let mut table = Table::new(title, &head);
    for arm in Arm::ALL {
        let all: f64 = CALLS.iter().map(|(metric, _)| played.median(arm, *metric)).sum();
        let cells = columns.iter().map(|(metric, _)| number(played.median(arm, *metric)));
        table.row([arm.name().to_owned(), number(all)].into_iter().chain(cells));
    }
    table
}

fn plots(played: &Played) -> anyhow::Result<Vec<Plot>> {
    let group = |arm: Arm, metrics: &[Metric]| Group {
        name: arm.name().to_owned(),
        values: metrics.iter().map(|metric| played.median(arm, *metric)).collect(),
    };
    let times = Bars {
        title: format!("Waiting for a driver, {}", played.name()),
        x: "seconds, median of all seeds",
        legend: vec!["mean of all riders", "half of those served", "95 % of those served"],
        arrangement: Arrangement::Grouped,
        groups: Arm::ALL.map(|arm| group(arm, &[Metric::Waited, Metric::MatchP50, Metric::MatchP95])).into(),
    };
    let calls = Bars {
        title: format!("AWS calls per accepted ride, {}", played.name()),
        x: "calls, counted in the model",
        legend: CALLS.map(|(_, name)| name).into(),
        arrangement: Arrangement::Stacked,
        groups: Arm::ALL.map(|arm| group(arm, &CALLS.map(|(metric, _)| metric))).into(),
    };
    Ok(vec![
        Plot { file: "match.svg", alt: "Waiting time for a driver, by arm".to_owned(), svg: times.svg()? },
        Plot { file: "calls.svg", alt: "AWS calls per accepted ride, by arm".to_owned(), svg: calls.svg()? },
    ])
}
