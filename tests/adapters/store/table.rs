//! The store under test.

use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;
use dispatch_core::dispatch::{CandidateRef, Event, Rules, Step, TripEvent, TripTotals, step};
use dispatch_core::geo::Location;
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_core::person::{DriverPreferences, PersonStatus, RideType, UserPreferences, VehicleInfo};
use dispatch_core::policy::DispatchPolicy;
use dispatch_core::time::EpochMs;
use dispatch_runtime::adapters::store::fake::MemoryStore;
use dispatch_runtime::city::parse_timestamp;
use dispatch_runtime::ports::{
    ActiveCursor, AvailabilityChange, Commit, CreateOutcome, DispatchStore, Driver, DriverProfile, IdempotencyStore,
    NewDispatch, PersonStore, ProfileStore, StoredDispatch, TravelledRoute, UserProfile,
};
use serde_json::Value;

use super::dynamo_table::DynamoTable;
use crate::support::seoul;

/// A table under test.
pub(crate) enum Table {
    Memory(MemoryStore),
    Dynamo(DynamoTable),
}

impl Table {
    pub(crate) fn memory() -> Self {
        Self::Memory(MemoryStore::new(seoul()))
    }

    pub(crate) fn dispatches(&self) -> Arc<dyn DispatchStore> {
        match self {
            Self::Memory(store) => Arc::new(store.clone()),
            Self::Dynamo(table) => Arc::new(table.store.clone()),
        }
    }

    pub(crate) fn profiles(&self) -> Arc<dyn ProfileStore> {
        match self {
            Self::Memory(store) => Arc::new(store.clone()),
            Self::Dynamo(table) => Arc::new(table.store.clone()),
        }
    }

    /// Every active driver, of a district or of the city.
    pub(crate) async fn active_drivers(&self, region: Option<&str>) -> Vec<Driver> {
        let (profiles, mut drivers, mut from) = (self.profiles(), Vec::new(), Some(ActiveCursor::default()));
        while let Some(cursor) = from {
            let page = profiles.active_drivers(region, cursor).await.unwrap();
            drivers.extend(page.drivers);
            from = page.next;
        }
        drivers
    }

    pub(crate) fn answers(&self) -> Arc<dyn IdempotencyStore> {
        match self {
            Self::Memory(store) => Arc::new(store.clone()),
            Self::Dynamo(table) => Arc::new(table.store.clone()),
        }
    }

    pub(crate) fn persons(&self) -> Arc<dyn PersonStore> {
        match self {
            Self::Memory(store) => Arc::new(store.clone()),
            Self::Dynamo(table) => Arc::new(table.store.clone()),
        }
    }

    /// Every item of a partition key, ordered by sort key.
    pub(crate) async fn partition(&self, pk: &str) -> Vec<Value> {
        match self {
            Self::Memory(store) => store.partition(pk),
            Self::Dynamo(table) => table.partition(pk).await,
        }
    }

    /// The item with this key.
    pub(crate) async fn item(&self, pk: &str, sk: &str) -> Value {
        let items = self.partition(pk).await;
        let found = items.iter().find(|item| item["SK"] == sk).cloned();
        found.unwrap_or_else(|| panic!("no item {pk} {sk} among {items:#?}"))
    }

    /// Sets an attribute of a profile or a dispatch as another service would.
    pub(crate) async fn set(&self, pk: &str, path: &str, value: impl Into<Value>) {
        match self {
            Self::Memory(store) => {
                let value = serde_dynamo::to_attribute_value(value.into()).unwrap();
                let altered = store.alter(pk, |item| {
                    let (parents, name) = path.rsplit_once('.').map_or(("", path), |(parents, name)| (parents, name));
                    let parents = parents.split('.').filter(|parent| !parent.is_empty());
                    let map = parents.fold(item, |map, parent| match map.get_mut(parent) {
                        Some(AttributeValue::M(child)) => child,
                        _ => panic!("no map {parent}"),
                    });
                    map.insert(name.to_owned(), value);
                });
                assert!(altered, "no item {pk}");
            }
            Self::Dynamo(table) => {
                let sk = if pk.starts_with("dispatch#") { "METADATA" } else { "PROFILE" };
                table.set((pk, sk), path, value).await;
            }
        }
    }

    pub(crate) async fn add_user(&self, id: &str) -> UserId {
        let id = UserId::parse(id).unwrap();
        self.profiles().put_user(&id, user_profile(), start()).await.unwrap();
        id
    }

    /// A driver who is `ACTIVE` in Myeong-dong.
    pub(crate) async fn add_driver(&self, id: &str) -> DriverId {
        let id = DriverId::parse(id).unwrap();
        self.profiles().put_driver(&id, driver_profile(), start()).await.unwrap();
        let change = self.profiles().set_availability(&id, PersonStatus::Active, &myeongdong(), start()).await.unwrap();
        assert!(matches!(change, AvailabilityChange::Done(_)));
        id
    }

    pub(crate) async fn request(&self, id: &str, user: &UserId, now: EpochMs) -> StoredDispatch {
        match self.dispatches().create(new_dispatch(id, user, now)).await.unwrap() {
            CreateOutcome::Stored(stored) => *stored,
            _ => panic!("{id} was not stored"),
        }
    }

    pub(crate) async fn reload(&self, dispatch: &StoredDispatch) -> StoredDispatch {
        self.dispatches().load(&dispatch.state.id).await.unwrap().expect("the dispatch is there")
    }

    pub(crate) async fn commit(&self, before: &StoredDispatch, step: &Step) -> Commit {
        self.dispatches().commit(before, step, None).await.unwrap()
    }

    /// Commits a step and expects it to be applied. The result must equal what a reader then finds.
    pub(crate) async fn apply(
        &self,
        before: &StoredDispatch,
        step: &Step,
        route: Option<TravelledRoute>,
    ) -> StoredDispatch {
        let commit = self.dispatches().commit(before, step, route).await.unwrap();
        let Commit::Applied(stored) = commit else { panic!("not applied") };
        let read = self.reload(before).await;
        assert_eq!(stored.state, read.state);
        assert!(stored.state == read.state && stored.details == read.details);
        *stored
    }

    pub(crate) async fn offer(&self, dispatch: &StoredDispatch, driver: &DriverId, now: EpochMs) -> StoredDispatch {
        self.apply(dispatch, &offer_step(dispatch, driver, now), None).await
    }

    pub(crate) async fn accept(&self, dispatch: &StoredDispatch, driver: &DriverId, now: EpochMs) -> StoredDispatch {
        self.apply(dispatch, &accept_step(dispatch, driver, now), None).await
    }

    /// A whole ride from request to completion.
    pub(crate) async fn ride(&self, id: &str, user: &UserId, driver: &DriverId, now: EpochMs) -> StoredDispatch {
        let requested = self.request(id, user, now).await;
        let offered = self.offer(&requested, driver, now.plus_ms(30_000)).await;
        let accepted = self.accept(&offered, driver, now.plus_ms(60_000)).await;
        let picked_up = Event::Trip { driver: driver.clone(), event: TripEvent::PassengerPickedUp };
        let on_board = self.apply(&accepted, &decide(&accepted, picked_up, now.plus_ms(120_000)), None).await;
        let totals = TripTotals { fare: 12_000, distance_m: 2500, duration_s: 900 };
        let completed = Event::TripCompleted { driver: driver.clone(), bill: totals.into() };
        self.apply(&on_board, &decide(&on_board, completed, now.plus_ms(900_000)), None).await
    }
}

pub(crate) fn decide(dispatch: &StoredDispatch, event: Event, now: EpochMs) -> Step {
    step(&dispatch.state, event, Rules { policy: &DispatchPolicy::default(), now }).expect("the event is possible")
}

pub(crate) fn offer_step(dispatch: &StoredDispatch, driver: &DriverId, now: EpochMs) -> Step {
    let candidate = CandidateRef { driver_id: driver.clone(), auto_accept: false };
    let found = decide(dispatch, Event::CandidatesFound(vec![candidate]), now);
    let rules = Rules { policy: &DispatchPolicy::default(), now };
    step(&found.state, Event::DriverHeld(driver.clone()), rules).expect("the driver was found")
}

pub(crate) fn accept_step(dispatch: &StoredDispatch, driver: &DriverId, now: EpochMs) -> Step {
    decide(dispatch, Event::Accept { driver: driver.clone(), offer_seq: dispatch.state.offer_seq }, now)
}

/// The time of the specification's examples: 15:30 in Seoul.
pub(crate) fn start() -> EpochMs {
    parse_timestamp("2025-05-25T15:30:00+09:00").unwrap()
}

pub(crate) fn new_dispatch(id: &str, user: &UserId, now: EpochMs) -> NewDispatch {
    NewDispatch {
        id: DispatchId::parse(id).unwrap(),
        user: user.clone(),
        pickup: myeongdong(),
        destination: jongno(),
        estimated_fare: 12_000,
        max_attempts: 5,
        search_until: now.plus_ms(60_000),
        now,
    }
}

pub(crate) fn myeongdong() -> Location {
    Location { lat: 37.5662, lng: 126.9784, address: "서울시 중구 명동".to_owned() }
}

pub(crate) fn jongno() -> Location {
    Location { lat: 37.5730, lng: 126.9768, address: "서울시 종로구 종로".to_owned() }
}

pub(crate) fn user_profile() -> UserProfile {
    UserProfile {
        phone: "01012341234".to_owned(),
        payment_methods: Vec::new(),
        preferences: UserPreferences { default_ride_type: RideType::Standard, favorite_locations: Vec::new() },
        location: myeongdong(),
    }
}

pub(crate) fn driver_profile() -> DriverProfile {
    DriverProfile {
        phone: "01012341234".to_owned(),
        vehicle_info: VehicleInfo { manufacturer: "현대".to_owned(), license_plate: "12가3456".to_owned() },
        preferences: DriverPreferences {
            default_ride_type: None,
            preferred_regions: vec!["중구".to_owned(), "종로구".to_owned()],
            max_distance: 20.0,
            auto_accept: false,
            minimum_fare: 8000,
        },
    }
}
