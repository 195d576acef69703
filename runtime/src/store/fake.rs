//! The table in memory: the store ports with the semantics of [`DynamoStore`](super::DynamoStore), for tests.
//!
//! It applies the same [`Plan`]s as the DynamoDB store, under one lock instead of a transaction, and passes the same
//! contract suite. [`MemoryStore::partition`] returns the items as they would be stored.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use dispatch_core::dispatch::{DispatchStatus, Step};
use dispatch_core::geo::{Location, region_of_address};
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_core::person::PersonStatus;
use dispatch_core::route::RoutePoint;
use dispatch_core::time::EpochMs;
use serde::Serialize;

use super::broken;
use super::convert::{self, Codec, ItemError, route_points};
use super::dispatches::{LIST_MAX, PageToken};
use super::entity::{
    DispatchItem, DriverCompletedRideItem, DriverItem, DriverStatusHistoryItem, RouteChunkItem,
    UserDispatchHistoryItem, UserItem,
};
use super::error::{DynamoFailure, Meaning};
use super::idempotency::{AnswerItem, expires_at};
use super::keys::{self, Shards};
use super::plan::{Plan, PlanError, StepPeople, is_free, step_people};
use crate::city::City;
use crate::ports::{
    AvailabilityChange, Commit, CreateOutcome, DispatchStore, Driver, DriverProfile, IdempotencyState,
    IdempotencyStore, IdempotentRequest, NewDispatch, Owner, Page, Person, PortError, ProfileStore, StoredAnswer,
    StoredDispatch, TravelledRoute, User, UserProfile,
};

/// Items by primary key.
type Items<T> = BTreeMap<(String, String), T>;

#[derive(Default)]
struct Table {
    dispatches: HashMap<String, DispatchItem>,
    users: HashMap<String, UserItem>,
    drivers: BTreeMap<String, DriverItem>,
    driver_history: Items<DriverStatusHistoryItem>,
    user_history: Items<UserDispatchHistoryItem>,
    rides: Items<DriverCompletedRideItem>,
    routes: Items<RouteChunkItem>,
    answers: HashMap<String, AnswerItem>,
}

/// The table in memory. Clones share it.
#[derive(Clone)]
pub struct MemoryStore {
    codec: Codec,
    table: Arc<Mutex<Table>>,
}

impl MemoryStore {
    /// An empty table of a city.
    pub fn new(city: City) -> Self {
        Self { codec: Codec::new(city, Shards::new(1)), table: Arc::default() }
    }

    /// Every item of a partition key, ordered by sort key, as JSON.
    pub fn partition(&self, pk: &str) -> Vec<serde_json::Value> {
        fn under<T: Serialize>(items: &Items<T>, pk: &str) -> Vec<serde_json::Value> {
            let own = items.iter().filter(|((item_pk, _), _)| item_pk == pk);
            own.filter_map(|(_, item)| serde_json::to_value(item).ok()).collect()
        }
        fn one<T: Serialize>(item: Option<&T>) -> Option<serde_json::Value> {
            item.and_then(|item| serde_json::to_value(item).ok())
        }
        let table = self.lock();
        let mut found = under(&table.driver_history, pk);
        found.extend(under(&table.user_history, pk));
        found.extend(under(&table.rides, pk));
        found.extend(under(&table.routes, pk));
        found
            .extend(table.answers.values().filter(|item| item.pk == pk).filter_map(|it| serde_json::to_value(it).ok()));
        found.extend(one(table.dispatches.get(pk)));
        found.extend(one(table.users.get(pk)));
        found.extend(one(table.drivers.get(pk)));
        found.sort_by_key(|item| item["SK"].as_str().map(ToOwned::to_owned));
        found
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // A test that panicked with the lock has failed already; the others may continue.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stored(&self, item: &DispatchItem) -> Result<StoredDispatch, PortError> {
        self.codec.stored(item.clone()).map_err(|error: ItemError| broken("reading a dispatch", error))
    }
}

impl Table {
    fn apply(&mut self, plan: Plan) {
        self.dispatches.insert(plan.dispatch.pk.clone(), plan.dispatch);
        if let Some(change) = plan.driver {
            self.drivers.insert(change.after.pk.clone(), change.after);
        }
        if let Some(change) = plan.user {
            self.users.insert(change.after.pk.clone(), change.after);
        }
        if let Some(entry) = plan.driver_history {
            self.driver_history.insert((entry.pk.clone(), entry.sk.clone()), entry);
        }
        if let Some(entry) = plan.user_history {
            self.user_history.insert((entry.pk.clone(), entry.sk.clone()), entry);
        }
        if let Some(ride) = plan.ride {
            self.rides.insert((ride.pk.clone(), ride.sk.clone()), ride);
        }
    }

    /// Index entries of a list, newest first: sort key and dispatch.
    fn listed(&self, owner: &Owner) -> Vec<(String, String)> {
        let mut entries: Vec<(String, String)> = match owner {
            Owner::User(user) => {
                let own = self.dispatches.values().filter(|item| item.user_id == user.as_str());
                own.filter_map(|item| Some((item.gsi2sk.clone()?, item.pk.clone()))).collect()
            }
            Owner::Driver(driver) => {
                let own = self.rides.values().filter(|ride| ride.pk == driver.as_str());
                own.filter_map(|ride| Some((ride.gsi2sk.clone()?, ride.dispatch_id.clone()))).collect()
            }
        };
        entries.sort();
        entries.reverse();
        entries
    }
}

#[async_trait]
impl DispatchStore for MemoryStore {
    async fn create(&self, new: NewDispatch) -> Result<CreateOutcome, PortError> {
        let mut table = self.lock();
        if let Some(item) = table.dispatches.get(new.id.as_str()) {
            if item.user_id == new.user.as_str() {
                return Ok(CreateOutcome::Existed(Box::new(self.stored(item)?)));
            }
            let taken = DynamoFailure::new(Meaning::Refused, "IdTaken", "the id belongs to another user's dispatch");
            return Err(taken.into_port("storing a dispatch"));
        }
        let Some(user) = table.users.get_mut(new.user.as_str()) else { return Ok(CreateOutcome::UnknownUser) };
        if !is_free(&user.current_status) {
            let current = user.current_status.current_dispatch_id.as_ref();
            return Ok(CreateOutcome::UserBusy { current: current.and_then(|id| DispatchId::parse(id).ok()) });
        }
        user.current_status.status = PersonStatus::Dispatched;
        user.current_status.current_dispatch_id = Some(new.id.to_string());
        user.gsi1pk = Some(keys::gsi1_user_pk(PersonStatus::Dispatched, &new.user, self.codec.shards));
        let item = self.codec.new_dispatch(&new);
        let stored = self.stored(&item)?;
        table.dispatches.insert(item.pk.clone(), item);
        Ok(CreateOutcome::Stored(Box::new(stored)))
    }

    async fn load(&self, id: &DispatchId) -> Result<Option<StoredDispatch>, PortError> {
        self.lock().dispatches.get(id.as_str()).map(|item| self.stored(item)).transpose()
    }

    async fn commit(
        &self,
        before: &StoredDispatch,
        step: &Step,
        route: Option<TravelledRoute>,
    ) -> Result<Commit, PortError> {
        if !step.changed {
            return Ok(Commit::Applied(Box::new(before.clone())));
        }
        let mut table = self.lock();
        let Some(item) = table.dispatches.get(&before.item.pk) else { return Ok(Commit::Changed) };
        let now = self.stored(item)?.state;
        let (then, driver) = (&before.state, &before.state.driver);
        if (now.ver, now.status, now.offer_seq, &now.driver) != (then.ver, then.status, then.offer_seq, driver) {
            return Ok(Commit::Changed);
        }
        let ids = step_people(step);
        let people = StepPeople {
            driver: ids.driver.and_then(|id| table.drivers.get(id.as_str()).cloned()),
            user: ids.user.and_then(|id| table.users.get(id.as_str()).cloned()),
        };
        let plan = match self.codec.plan(before, step, route.as_ref(), &people) {
            Ok(plan) => plan,
            Err(PlanError::DriverNotFree) => return Ok(Commit::CompanionRefused),
            Err(PlanError::Item(error)) => return Err(broken("storing a step of a dispatch", error)),
        };
        let stored = self.stored(&plan.dispatch)?;
        table.apply(plan);
        Ok(Commit::Applied(Box::new(stored)))
    }

    async fn list(&self, owner: &Owner, limit: u16, after: Option<String>) -> Result<Page<StoredDispatch>, PortError> {
        let after = after.map(|token| PageToken::parse(&token)).transpose();
        let after = after.map_err(|error| broken("listing dispatches", error))?;
        let table = self.lock();
        let start = after.map(|token| (keys::gsi2_dispatch_sk(&token.sort_time), token.dispatch.to_string()));
        let mut rest = table.listed(owner);
        rest.retain(|entry| start.as_ref().is_none_or(|start| entry < start));
        let limit = usize::from(limit.clamp(1, LIST_MAX));
        let more = rest.len() > limit;
        rest.truncate(limit);
        let next = rest.last().filter(|_| more).and_then(|(sort_key, id)| {
            let sort_time = sort_key.strip_prefix(keys::GSI2_DISPATCH_PREFIX)?.to_owned();
            Some(PageToken { sort_time, dispatch: DispatchId::parse(id).ok()? }.text())
        });
        let items = rest.iter().filter_map(|(_, id)| table.dispatches.get(id));
        Ok(Page { items: items.map(|item| self.stored(item)).collect::<Result<_, _>>()?, next })
    }

    async fn open_since_before(&self, before: EpochMs, limit: u16) -> Result<Vec<DispatchId>, PortError> {
        let ended = self.codec.city.timestamp_ms(before);
        let before = self.codec.city.sort_time(before);
        let table = self.lock();
        let waits = |item: &&DispatchItem| {
            let timeout_at = item.matching.timeout_at.as_ref();
            item.status == DispatchStatus::Requested && timeout_at.is_none_or(|at| at.as_str() <= ended.as_str())
        };
        let open = table.dispatches.values().filter(waits);
        let mut open: Vec<(&String, DispatchId)> = open
            .filter_map(|item| Some((item.gsi1sk.as_ref()?, DispatchId::parse(&item.pk).ok()?)))
            .filter(|(sort_key, _)| **sort_key < before)
            .collect();
        open.sort();
        open.truncate(limit.into());
        Ok(open.into_iter().map(|(_, id)| id).collect())
    }

    async fn append_route(&self, id: &DispatchId, number: u32, points: &[RoutePoint]) -> Result<(), PortError> {
        let chunk = self.codec.route_chunk(id, number, points);
        self.lock().routes.insert((chunk.pk.clone(), chunk.sk.clone()), chunk);
        Ok(())
    }

    async fn read_route(&self, id: &DispatchId) -> Result<Vec<RoutePoint>, PortError> {
        let table = self.lock();
        let mut points = Vec::new();
        for (_, chunk) in table.routes.iter().filter(|((pk, _), _)| pk == id.as_str()) {
            points.extend(route_points(chunk).map_err(|error| broken("reading a route", error))?);
        }
        Ok(points)
    }
}

#[async_trait]
impl IdempotencyStore for MemoryStore {
    async fn begin(&self, request: &IdempotentRequest, now: EpochMs) -> Result<IdempotencyState, PortError> {
        let mut table = self.lock();
        match table.answers.get(&request.key) {
            Some(found) if !found.is_free(request, now) => Ok(found.clone().state_for(request, now)),
            _ => {
                table.answers.insert(request.key.clone(), AnswerItem::new(request, now));
                Ok(IdempotencyState::New)
            }
        }
    }

    async fn keep(&self, request: &IdempotentRequest, answer: &StoredAnswer, now: EpochMs) -> Result<(), PortError> {
        let mut table = self.lock();
        let held = table.answers.get_mut(&request.key).filter(|item| item.holder == request.holder);
        if let Some(item) = held {
            item.status = Some(answer.status);
            item.body = Some(answer.body.clone());
            item.expires_at = expires_at(now);
        }
        Ok(())
    }

    async fn forget(&self, request: &IdempotentRequest) -> Result<(), PortError> {
        let mut table = self.lock();
        let held = table.answers.get_mut(&request.key).filter(|item| item.holder == request.holder);
        if let Some(item) = held {
            item.give_up();
        }
        Ok(())
    }
}

#[async_trait]
impl ProfileStore for MemoryStore {
    async fn put_user(&self, id: &UserId, profile: UserProfile, now: EpochMs) -> Result<User, PortError> {
        let mut table = self.lock();
        let user = self.codec.apply_user_profile(id, table.users.get(id.as_str()), profile, now);
        table.users.insert(id.to_string(), user.clone());
        convert::user(user).map_err(|error| broken("storing a user's profile", error))
    }

    async fn put_driver(&self, id: &DriverId, profile: DriverProfile, now: EpochMs) -> Result<Driver, PortError> {
        let mut table = self.lock();
        let driver = self.codec.apply_driver_profile(id, table.drivers.get(id.as_str()), profile, now);
        table.drivers.insert(id.to_string(), driver.clone());
        convert::driver(driver).map_err(|error| broken("storing a driver's profile", error))
    }

    async fn user(&self, id: &UserId) -> Result<Option<User>, PortError> {
        let item = self.lock().users.get(id.as_str()).cloned();
        item.map(convert::user).transpose().map_err(|error| broken("reading a user", error))
    }

    async fn drivers(&self, ids: &[DriverId]) -> Result<Vec<Driver>, PortError> {
        let table = self.lock();
        let distinct: std::collections::HashSet<&DriverId> = ids.iter().collect();
        let items = distinct.into_iter().filter_map(|id| table.drivers.get(id.as_str()).cloned());
        items.map(convert::driver).collect::<Result<_, _>>().map_err(|error| broken("reading drivers", error))
    }

    async fn set_availability(
        &self,
        id: &DriverId,
        status: PersonStatus,
        at: &Location,
        now: EpochMs,
    ) -> Result<AvailabilityChange, PortError> {
        if status == PersonStatus::Dispatched {
            let refused = DynamoFailure::new(Meaning::Refused, "Availability", "only a dispatch makes DISPATCHED");
            return Err(refused.into_port("storing a driver's availability"));
        }
        let mut table = self.lock();
        let Some(driver) = table.drivers.get(id.as_str()) else { return Ok(AvailabilityChange::UnknownDriver) };
        let was = &driver.current_status;
        if was.status == PersonStatus::Dispatched || was.current_dispatch_id.is_some() {
            let current = was.current_dispatch_id.as_ref().and_then(|id| DispatchId::parse(id).ok());
            return Ok(AvailabilityChange::OnDispatch { current });
        }
        let after = self.codec.at_place(driver, status, at, now);
        if was.status != status {
            let entry = self.codec.driver_history(&after, now);
            table.driver_history.insert((entry.pk.clone(), entry.sk.clone()), entry);
        }
        table.drivers.insert(id.to_string(), after.clone());
        let after = convert::driver(after).map_err(|error| broken("storing a driver's availability", error))?;
        Ok(AvailabilityChange::Done(Box::new(after)))
    }

    async fn set_device(&self, person: &Person, endpoint_arn: &str) -> Result<bool, PortError> {
        let mut table = self.lock();
        let endpoint = match person {
            Person::User(id) => table.users.get_mut(id.as_str()).map(|user| &mut user.device_endpoint_arn),
            Person::Driver(id) => table.drivers.get_mut(id.as_str()).map(|driver| &mut driver.device_endpoint_arn),
        };
        let Some(endpoint) = endpoint else { return Ok(false) };
        *endpoint = Some(endpoint_arn.to_owned());
        Ok(true)
    }

    async fn device(&self, person: &Person) -> Result<Option<String>, PortError> {
        let table = self.lock();
        Ok(match person {
            Person::User(id) => table.users.get(id.as_str()).and_then(|user| user.device_endpoint_arn.clone()),
            Person::Driver(id) => table.drivers.get(id.as_str()).and_then(|driver| driver.device_endpoint_arn.clone()),
        })
    }

    async fn active_drivers(&self, region: &str, limit: u16) -> Result<Vec<Driver>, PortError> {
        let table = self.lock();
        let active = table.drivers.values().filter(|driver| driver.current_status.status == PersonStatus::Active);
        let in_region =
            |driver: &&DriverItem| region_of_address(&driver.current_status.current_location.address) == region;
        let (near, far): (Vec<&DriverItem>, Vec<&DriverItem>) = active.partition(in_region);
        let items = near.into_iter().chain(far).cloned();
        Ok(items.filter_map(|item| convert::driver(item).ok()).take(limit.into()).collect())
    }
}
