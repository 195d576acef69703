//! A city in which one stored item is broken: whatever another service does to it, everyone else's rides complete.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use dispatch_core::dispatch::DispatchStatus;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::*;
use crate::ports::Reservations as _;

type Item = HashMap<String, AttributeValue>;

/// Drivers and users of the city. The pickups are far enough apart that each driver is nearest to one user.
const PEOPLE: u32 = 3;

/// Mutations per run of the tests. `BROKEN_MUTATIONS` sets another number, `BROKEN_SEED` other mutations.
const MUTATIONS: u32 = 1_000;
const SEED: u64 = 20_250_525;

fn number<T: std::str::FromStr>(variable: &str, default: T) -> T {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// How often each kind of mutation had each outcome.
#[derive(Default)]
pub(super) struct Outcomes(RefCell<BTreeMap<(String, String), u32>>);

impl Outcomes {
    pub(super) fn count(&self, kind: &str, outcome: &str) {
        *self.0.borrow_mut().entry((kind.to_owned(), outcome.to_owned())).or_default() += 1;
    }

    /// Prints the table. There must be each of these outcomes: the mutations must not all have been harmless.
    pub(super) fn finish(&self, expected: &[&str]) {
        let outcomes = self.0.borrow();
        for ((kind, outcome), times) in outcomes.iter() {
            println!("broken: {kind:<24} {outcome:<12} {times:>7}");
        }
        for outcome in expected {
            assert!(outcomes.keys().any(|(_, found)| found == outcome), "no mutation was {outcome}");
        }
    }
}

/// Runs a test for many drawn values, one after another on a runtime with a paused clock.
pub(super) fn for_all<S: Strategy>(values: &S, test: impl AsyncFn(S::Value)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let config =
        Config { cases: number("BROKEN_MUTATIONS", MUTATIONS), failure_persistence: None, ..Config::default() };
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number("BROKEN_SEED", SEED).to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let ran = runner.run(values, |value| {
        runtime.block_on(test(value));
        Ok(())
    });
    ran.unwrap_or_else(|error| panic!("{error}"));
}

/// When something is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// Before the requests.
    Idle,
    /// While the requests wait for a driver.
    Requested,
    /// While the offers are open.
    Offered,
    /// While the drivers drive to the pickups.
    Accepted,
}

pub(super) fn when() -> impl Strategy<Value = When> {
    prop::sample::select(vec![When::Idle, When::Requested, When::Offered, When::Accepted])
}

/// What happens to an attribute.
#[derive(Debug, Clone)]
pub(super) enum Mutation {
    Removed,
    Replaced(AttributeValue),
    /// A number out of range.
    Scaled(f64),
}

impl Mutation {
    pub(super) fn apply(&self, item: &mut Item, path: &[String]) {
        let Some((name, parents)) = path.split_last() else { return };
        let mut map = item;
        for parent in parents {
            let Some(AttributeValue::M(child)) = map.get_mut(parent) else { return };
            map = child;
        }
        match self {
            Self::Removed => {
                map.remove(name);
            }
            Self::Replaced(value) => {
                map.insert(name.clone(), value.clone());
            }
            Self::Scaled(by) => {
                if let Some(AttributeValue::N(number)) = map.get_mut(name) {
                    *number = (number.parse::<f64>().unwrap_or(1.0) * by).to_string();
                }
            }
        }
    }
}

pub(super) fn mutation() -> impl Strategy<Value = Mutation> {
    let text = |value: &str| AttributeValue::S(value.to_owned());
    let number = |value: &str| AttributeValue::N(value.to_owned());
    let values = vec![
        text(""),
        text("12"),
        text(&"9".repeat(100_000)),
        text("driver#"),
        text("dispatch#gone"),
        text("ACTIVE"),
        text("9999-12-31T23:59:59+09:00"),
        number("-1"),
        number("0.5"),
        number("4294967296"),
        number("1E+125"),
        AttributeValue::Bool(true),
        AttributeValue::Null(true),
        AttributeValue::L(Vec::new()),
        AttributeValue::L(vec![text("x"), number("1")]),
        AttributeValue::M(HashMap::new()),
        AttributeValue::Ss(vec!["x".to_owned()]),
    ];
    prop_oneof![
        1 => Just(Mutation::Removed),
        6 => prop::sample::select(values).prop_map(Mutation::Replaced),
        1 => prop::sample::select(vec![-1.0, 0.3, 1e3, 1e12]).prop_map(Mutation::Scaled),
    ]
}

/// Every attribute path of an item.
pub(super) fn paths(item: &Item, parent: &[String]) -> Vec<Vec<String>> {
    let mut names: Vec<&String> = item.keys().collect();
    names.sort();
    names
        .into_iter()
        .flat_map(|name| {
            let path: Vec<String> = parent.iter().chain([name]).cloned().collect();
            let below = match &item[name] {
                AttributeValue::M(map) => paths(map, &path),
                _ => Vec::new(),
            };
            std::iter::once(path).chain(below)
        })
        .collect()
}

pub(super) struct City {
    pub(super) world: World,
    /// The partition key of the broken item.
    victim: String,
}

impl City {
    pub(super) async fn new(victim: &str) -> Self {
        let world = World::with_drivers(0).await;
        for number in 1..=PEOPLE {
            world.driver_at(number, false, latitude(number)).await;
        }
        Self { world, victim: victim.to_owned() }
    }

    /// Breaks one attribute of the victim. Key attributes stay: an item of another key is another item.
    fn strike(&self, attribute: usize, mutation: &Mutation) {
        self.world.store.alter(&self.victim, |item| {
            let mut all = paths(item, &[]);
            all.retain(|path| !matches!(path[0].as_str(), "PK" | "SK"));
            mutation.apply(item, &all[attribute % all.len()]);
        });
    }

    /// Whether the broken item may change the ride of this number: it is its dispatch, its user, or a driver, who may
    /// then get no offer.
    fn is_hit(&self, number: u32) -> bool {
        self.victim == format!("dispatch#{number:05}") || self.victim == format!("user#{number:05}")
    }

    async fn statuses(&self) -> Vec<Option<DispatchStatus>> {
        let mut statuses = Vec::new();
        for number in 1..=PEOPLE {
            statuses.push(self.stored(number).await.map(|stored| stored.state.status));
        }
        statuses
    }

    /// Whether every ride that the broken item does not belong to is completed. A driver who breaks during a ride keeps
    /// that one ride, which the driver's own profile belongs to.
    async fn is_served(&self, when: When) -> bool {
        let numbered = (1..).zip(self.statuses().await).filter(|(number, _)| !self.is_hit(*number));
        let open = numbered.filter(|(_, status)| *status != Some(DispatchStatus::Completed)).count();
        let kept = usize::from(self.victim.starts_with("driver#") && matches!(when, When::Accepted));
        open <= kept
    }

    async fn stored(&self, number: u32) -> Option<StoredDispatch> {
        let id = DispatchId::parse(format!("dispatch#{number:05}")).unwrap();
        self.world.store.load(&id).await.ok().flatten()
    }

    /// The stream delivers every dispatch that waits for a driver.
    async fn stream(&self) {
        for number in 1..=PEOPLE {
            if let Some(stored) = self.stored(number).await.filter(|it| !it.state.has_live_offer()) {
                // A failure is the consumer's to retry and set aside.
                let _ = self.world.engine.advance(stored, Trigger::Event).await;
            }
        }
    }

    /// Every driver with an open offer accepts it.
    async fn accept(&self) {
        for number in 1..=PEOPLE {
            if let Some(StoredDispatch { state, .. }) = self.stored(number).await.filter(|it| it.state.has_live_offer())
                && let Some(driver) = state.driver.clone()
            {
                let _ = self.world.engine.apply(&state.id, accept(driver, state.offer_seq)).await;
            }
        }
    }

    async fn drive(&self) {
        for number in 1..=PEOPLE {
            let Some(StoredDispatch { state, .. }) = self.stored(number).await else { continue };
            let Some(driver) = state.driver.clone() else { continue };
            for event in [TripEvent::DriverArrived, TripEvent::PassengerPickedUp, TripEvent::TripStarted] {
                let _ = self.world.engine.apply(&state.id, Event::Trip { driver: driver.clone(), event }).await;
            }
            let _ = self.world.engine.complete_trip(&state.id, &driver).await;
        }
    }
}

fn latitude(number: u32) -> f64 {
    37.50 + f64::from(number) * 0.003
}

impl City {
    /// Plays the city, and calls `strike` at every moment. Everyone else's rides must complete. Returns how the ride of
    /// the victim's number ended; `None` if it cannot be read.
    pub(super) async fn play(&self, when: When, strike: impl AsyncFn(When)) -> Option<DispatchStatus> {
        strike(When::Idle).await;
        for number in 1..=PEOPLE {
            self.world.request_at(number, latitude(number)).await;
        }
        strike(When::Requested).await;
        self.stream().await;
        strike(When::Offered).await;
        // A driver who cannot take a ride costs a round or two: the next search finds another one.
        for _ in 0..4 {
            self.accept().await;
            self.world.clock.advance_ms(2_500);
            sweep(&self.world.engine).await;
            self.stream().await;
        }
        self.accept().await;
        strike(When::Accepted).await;
        self.drive().await;
        // Drivers who completed a ride serve the users who still wait.
        for _ in 0..30 {
            if self.is_served(when).await {
                break;
            }
            self.world.clock.advance_ms(2_500);
            sweep(&self.world.engine).await;
            self.stream().await;
            self.accept().await;
            self.drive().await;
        }
        assert!(self.is_served(when).await, "{:?} with broken {}, {when:?}", self.statuses().await, self.victim);
        let (_, own) = self.victim.split_once('#')?;
        self.stored(own.parse().ok()?).await.map(|stored| stored.state.status)
    }
}

/// The key of a driver, user or dispatch of the city.
pub(super) fn victim() -> impl Strategy<Value = String> {
    (0..3_usize, 1..=PEOPLE).prop_map(|(kind, number)| match kind {
        0 => format!("driver#{number:05}"),
        1 => format!("user#{number:05}"),
        _ => format!("dispatch#{number:05}"),
    })
}

/// `DRIVER`, `USER` or `DISPATCH`.
pub(super) fn kind_of(victim: &str) -> &str {
    victim.split('#').next().unwrap_or_default()
}

#[test]
fn one_broken_attribute_costs_its_own_item_alone() {
    let outcomes = Outcomes::default();
    let values = (when(), victim(), any::<prop::sample::Index>(), mutation());
    for_all(&values, async |(when, victim, index, mutation)| {
        let city = City::new(&victim).await;
        let own = city
            .play(when, async |now| {
                if now == when {
                    city.strike(index.index(1_000), &mutation);
                }
            })
            .await;
        // What the mutation did to the ride of the item itself.
        outcomes.count(
            &format!("table {}", kind_of(&victim)),
            &own.map_or_else(|| "set aside".to_owned(), |status| format!("{status:?}")),
        );
    });
    outcomes.finish(&["set aside", "Completed"]);
}

#[tokio::test]
async fn unreadable_requests_do_not_hide_the_others_from_the_sweeper() {
    let world = World::with_drivers(1).await;
    for number in 2..=450 {
        world.request_at(number, 37.5662).await;
        let broken = AttributeValue::S("12000".to_owned());
        world.store.alter(&format!("dispatch#{number:05}"), |item| {
            item.insert("estimatedFare".to_owned(), broken);
        });
    }
    world.clock.advance_ms(1_000);
    world.request().await;
    world.clock.advance_ms(3_000);
    // Two hundred in a round, oldest first, so the third round comes to the youngest.
    for _ in 0..3 {
        assert_eq!(world.offered().await, None);
        sweep(&world.engine).await;
    }
    assert_eq!(world.offered().await, Some(1));
    let loads = world.table.calls();
    sweep(&world.engine).await;
    assert_eq!(world.table.calls() - loads, 1, "what was set aside is not read again");
}

#[tokio::test]
async fn a_request_ends_in_time_while_every_search_fails() {
    let world = World::with_drivers(1).await;
    world.request().await;
    world.redis.set_down(true);
    world.profiles.set_down(true);
    world.stream().await;
    assert_eq!(world.stored().await.state.status, DispatchStatus::Requested);
    assert_eq!(world.timers.started.all().len(), 1, "the search is repeated");
    world.clock.advance_ms(61_000);
    world.stream().await;
    assert_eq!(world.stored().await.state.status, DispatchStatus::Cancelled);
    world.profiles.set_down(false);
    let user = world.store.user(&user_id()).await.unwrap().unwrap();
    assert_eq!((user.current_status.status, user.current_status.dispatch), (PersonStatus::Active, None));
}

#[tokio::test]
async fn a_search_that_worked_again_makes_an_offer() {
    let world = World::with_drivers(1).await;
    world.request().await;
    world.redis.set_down(true);
    world.profiles.set_down(true);
    world.stream().await;
    world.redis.set_down(false);
    world.profiles.set_down(false);
    world.clock.advance_ms(2_000);
    let (timer, _) = world.timers.started.take().remove(0);
    world.deliver_timer(serde_json::to_string(&timer).unwrap()).await;
    world.stream().await;
    assert_eq!(world.offered().await, Some(1));
}

#[tokio::test]
async fn people_are_freed_from_a_dispatch_that_is_gone() {
    let world = World::with_drivers(1).await;
    let id = world.request().await;
    world.stream().await;
    world.answer(accept).await.unwrap();
    world.store.delete(id.as_str());
    let place = place(37.5662, "서울시 중구 명동");
    let changed = world.engine.set_availability(&driver_id(1), PersonStatus::Inactive, &place).await.unwrap();
    assert!(matches!(changed, crate::ports::AvailabilityChange::Done(_)));
    assert_eq!(world.request().await, id, "the user may ask again");
    let driver = world.driver_item(1).await;
    assert_eq!((driver.current_status.status, driver.current_status.dispatch), (PersonStatus::Inactive, None));
}

#[tokio::test]
async fn a_driver_on_a_dispatch_that_is_gone_is_freed_when_met() {
    let world = World::with_drivers(1).await;
    let id = world.request().await;
    world.stream().await;
    world.answer(accept).await.unwrap();
    world.store.delete(id.as_str());
    // The cache still lists the driver as free; the table refuses the acceptance.
    world.fleet.set_status(&driver_id(1), PersonStatus::Active, None).await.unwrap();
    let next = world.request_at(2, 37.5662).await;
    world.engine.advance_by_id(&next, Trigger::Event).await.unwrap();
    let state = world.store.load(&next).await.unwrap().unwrap().state;
    assert_eq!(state.driver, Some(driver_id(1)));
    assert!(world.engine.apply(&next, accept(driver_id(1), state.offer_seq)).await.is_err());
    let driver = world.driver_item(1).await;
    assert_eq!((driver.current_status.status, driver.current_status.dispatch), (PersonStatus::Active, None));
    assert_eq!(world.fleet.entry(&driver_id(1)).unwrap().status, PersonStatus::Active);
}
