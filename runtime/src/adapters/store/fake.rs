//! The table in memory: the store ports with the semantics of [`DynamoStore`](crate::adapters::store::DynamoStore), for
//! tests.
//!
//! It applies the same [`Plan`]s as the DynamoDB store, under one lock instead of a transaction, and passes the same
//! contract suite. [`MemoryStore::partition`] returns the items as they would be stored.

mod persons;

use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use dispatch_core::dispatch::{Dispatch, DispatchStatus, Step};
use dispatch_core::geo::{Location, region_of_address};
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_core::person::PersonStatus;
use dispatch_core::route::RoutePoint;
use dispatch_core::time::EpochMs;
use serde::Serialize;

use crate::adapters::store::broken;
use crate::adapters::store::convert::{self, Codec, DISPATCH, Item, ItemError, read_item, route_points, write_item};
use crate::adapters::store::dispatches::{LIST_MAX, PageToken, SweepTimes};
use crate::adapters::store::entity::{
    DispatchReviewItem, DriverCompletedRideItem, DriverItem, DriverStatusHistoryItem, RouteChunkItem,
    UserDispatchHistoryItem, UserItem,
};
use crate::adapters::store::entity_type::{DRIVER, USER};
use crate::adapters::store::error::{DynamoFailure, Meaning};
use crate::adapters::store::expression::{apply_difference, string, text};
use crate::adapters::store::idempotency::{AnswerItem, expires_at};
use crate::adapters::store::keys::{self, Shards};
use crate::adapters::store::plan::{
    Change, Guard, Plan, PlanError, ReviewChange, StepPeople, is_free, is_on, step_people,
};
use crate::adapters::store::profiles::is_as_known;
use crate::adapters::store::repair::{ProfileItem, repaired};
use crate::city::City;
use crate::ports::{
    ActiveCursor, ActivePage, AvailabilityChange, Commit, CreateOutcome, DispatchStore, Driver, DriverProfile, Erasure,
    IdempotencyState, IdempotencyStore, IdempotentRequest, NewDispatch, OngoingRide, OpenReview, Owner, Page, Person,
    PortError, ProfileStore, StoredAnswer, StoredDispatch, TravelledRoute, User, UserProfile,
};

/// Items by primary key.
type Items<T> = BTreeMap<(String, String), T>;

#[derive(Default)]
struct Table {
    // As stored, so that tests can break them.
    dispatches: BTreeMap<String, Item>,
    users: BTreeMap<String, Item>,
    drivers: BTreeMap<String, Item>,
    driver_history: Items<DriverStatusHistoryItem>,
    user_history: Items<UserDispatchHistoryItem>,
    rides: Items<DriverCompletedRideItem>,
    routes: Items<RouteChunkItem>,
    reviews: Items<DispatchReviewItem>,
    answers: HashMap<String, AnswerItem>,
    erasures: HashMap<String, Erasure>,
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
        fn one(item: Option<&Item>) -> Option<serde_json::Value> {
            item.and_then(|item| serde_dynamo::from_item(item.clone()).ok())
        }
        let table = self.lock();
        let mut found = under(&table.driver_history, pk);
        found.extend(under(&table.user_history, pk));
        found.extend(under(&table.rides, pk));
        found.extend(under(&table.routes, pk));
        found.extend(under(&table.reviews, pk));
        found
            .extend(table.answers.values().filter(|item| item.pk == pk).filter_map(|it| serde_json::to_value(it).ok()));
        found.extend(one(table.dispatches.get(pk)));
        found.extend(one(table.users.get(pk)));
        found.extend(one(table.drivers.get(pk)));
        found.sort_by_key(|item| item["SK"].as_str().map(ToOwned::to_owned));
        found
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock()
    }

    fn stored(&self, item: &Item) -> Result<StoredDispatch, PortError> {
        let read = self.codec.read_dispatch(item.clone());
        read.map_err(|error: ItemError| PortError::Unreadable { action: "reading a dispatch", source: Box::new(error) })
    }

    /// Changes a stored dispatch, user or driver as another service might. False if there is no such item.
    pub fn alter(&self, pk: &str, alter: impl FnOnce(&mut Item)) -> bool {
        let mut table = self.lock();
        let Table { dispatches, users, drivers, .. } = &mut *table;
        let item = dispatches.get_mut(pk).or_else(|| users.get_mut(pk)).or_else(|| drivers.get_mut(pk));
        item.map(alter).is_some()
    }

    /// Deletes a dispatch, user or driver.
    pub fn delete(&self, pk: &str) {
        let mut table = self.lock();
        table.dispatches.remove(pk);
        table.users.remove(pk);
        table.drivers.remove(pk);
    }

    /// Stores what a person changes in its profile, and repairs a profile that cannot be read.
    fn put_profile<T: ProfileItem>(
        stored: Option<&Item>,
        apply: impl Fn(Option<&T>) -> T,
    ) -> Result<(Item, T), ItemError> {
        let Some(stored) = stored else {
            let after = apply(None);
            return Ok((write_item(T::ENTITY, &after)?, after));
        };
        let mut item = stored.clone();
        if let Ok(before) = read_item::<T>(T::ENTITY, stored.clone()) {
            let after = apply(Some(&before));
            apply_difference(&mut item, &write_item(T::ENTITY, &before)?, &write_item(T::ENTITY, &after)?);
            return Ok((item, after));
        }
        let after = apply(Some(&repaired(stored, &apply(None))?.profile));
        let fields = write_item(T::ENTITY, &after)?;
        item.retain(|name, _| fields.contains_key(name) || !T::OPTIONAL.contains(&name.as_str()));
        item.extend(fields);
        Ok((item, after))
    }
}

/// Applies a change of a profile.
fn change<T: Serialize>(
    items: &mut BTreeMap<String, Item>,
    entity: &'static str,
    change: &Change<T>,
) -> Result<(), ItemError> {
    let (before, after) = (write_item(entity, &change.before)?, write_item(entity, &change.after)?);
    if let Some(item) = string(&after, "PK").and_then(|pk| items.get_mut(pk)) {
        apply_difference(item, &before, &after);
    }
    Ok(())
}

/// A readable profile.
fn profile<T: ProfileItem>(item: Option<&Item>) -> Option<T> {
    item.and_then(|item| read_item(T::ENTITY, item.clone()).ok())
}

impl Table {
    /// The profile of a person, as stored.
    fn person(&mut self, person: &Person) -> Option<&mut Item> {
        match person {
            Person::User(id) => self.users.get_mut(id.as_str()),
            Person::Driver(id) => self.drivers.get_mut(id.as_str()),
        }
    }

    /// Applies a plan. Returns the dispatch as it is then.
    fn apply(&mut self, plan: Plan) -> Result<StoredDispatch, ItemError> {
        if let Some(item) = self.dispatches.get_mut(plan.after.state.id.as_str()) {
            plan.dispatch.apply_to(item);
        }
        if let Some(driver) = &plan.driver {
            change(&mut self.drivers, DRIVER, driver)?;
        }
        if let Some(user) = &plan.user {
            change(&mut self.users, USER, user)?;
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
        match plan.review {
            Some(ReviewChange::Open(review)) => {
                self.reviews.insert((review.pk.clone(), review.sk.clone()), review);
            }
            Some(ReviewChange::Close) => {
                let key = (plan.after.state.id.to_string(), keys::REVIEW_SK.to_owned());
                if let Some(review) = self.reviews.get_mut(&key) {
                    (review.gsi1pk, review.gsi1sk) = (None, None);
                }
            }
            None => {}
        }
        Ok(plan.after)
    }

    /// Index entries of a list, newest first: sort key and dispatch.
    fn listed(&self, owner: &Owner) -> Vec<(String, String)> {
        let mut entries: Vec<(String, String)> = match owner {
            Owner::User(user) => {
                let key = keys::gsi2_user_pk(user);
                let own = self.dispatches.values().filter(|item| string(item, "GSI2PK") == Some(&key));
                let entry = |item| Some((string(item, "GSI2SK")?.to_owned(), string(item, "PK")?.to_owned()));
                own.filter_map(entry).collect()
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
        const ACTION: &str = "storing a dispatch";
        let mut table = self.lock();
        if let Some(item) = table.dispatches.get(new.id.as_str()) {
            let stored = self.stored(item)?;
            if stored.state.user == new.user {
                return Ok(CreateOutcome::Existed(Box::new(stored)));
            }
            let taken = DynamoFailure::new(Meaning::Refused, "IdTaken", "the id belongs to another user's dispatch");
            return Err(taken.into_port(ACTION));
        }
        let failed = |error: ItemError| broken(ACTION, error);
        let Some(item) = table.users.get(new.user.as_str()) else { return Ok(CreateOutcome::UnknownUser) };
        let before: UserItem = read_item(USER, item.clone()).map_err(failed)?;
        if !is_free(&before.current_status) {
            let current = before.current_status.current_dispatch_id.as_ref();
            return Ok(CreateOutcome::UserBusy { current: current.and_then(|id| DispatchId::parse(id).ok()) });
        }
        if let Some(pause) = self.codec.pause(&before, new.now) {
            return Ok(CreateOutcome::Paused(pause));
        }
        let mut after = before.clone();
        after.current_status.status = PersonStatus::Dispatched;
        after.current_status.current_dispatch_id = Some(new.id.to_string());
        after.gsi1pk = Some(keys::gsi1_user_pk(PersonStatus::Dispatched, &new.user, self.codec.shards));
        change(&mut table.users, USER, &Change { guard: Guard::Free, before, after }).map_err(failed)?;
        let item = write_item(DISPATCH, &self.codec.new_dispatch(&new)).map_err(failed)?;
        let stored = self.stored(&item)?;
        table.dispatches.insert(new.id.to_string(), item);
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
        let Some(item) = table.dispatches.get(before.state.id.as_str()) else { return Ok(Commit::Changed) };
        let now = self.stored(item)?.state;
        let (then, driver) = (&before.state, &before.state.driver);
        if (now.ver, now.status, now.offer_seq, &now.driver) != (then.ver, then.status, then.offer_seq, driver) {
            return Ok(Commit::Changed);
        }
        let ids = step_people(step);
        let people = StepPeople {
            driver: ids.driver.and_then(|id| profile(table.drivers.get(id.as_str()))),
            user: ids.user.and_then(|id| profile(table.users.get(id.as_str()))),
        };
        let plan = match self.codec.plan(before, step, route.as_ref(), &people) {
            Ok(plan) => plan,
            Err(PlanError::DriverNotFree) => return Ok(Commit::CompanionRefused),
            Err(PlanError::Item(error)) => return Err(broken("storing a step of a dispatch", error)),
        };
        let after = table.apply(plan).map_err(|error| broken("storing a step of a dispatch", error))?;
        Ok(Commit::Applied(Box::new(after)))
    }

    async fn index(&self, dispatch: &Dispatch) -> Result<(), PortError> {
        let change = self.codec.indexing(dispatch).map_err(|error| broken("indexing a dispatch", error))?;
        if let Some(item) = self.lock().dispatches.get_mut(dispatch.id.as_str()) {
            change.apply_to(item);
        }
        Ok(())
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
        Ok(Page { items: items.filter_map(|item| self.stored(item).ok()).collect(), next })
    }

    async fn rides_unchanged_since(
        &self,
        before: EpochMs,
        except: &HashSet<DispatchId>,
    ) -> Result<Vec<OngoingRide>, PortError> {
        let (requested, changed) = (self.codec.city.sort_time(before), self.codec.city.timestamp(before));
        let partitions = [DispatchStatus::Accepted, DispatchStatus::InProgress].map(keys::gsi1_dispatch_status);
        let table = self.lock();
        let is_ride = |item: &&Item| {
            let indexed = string(item, "GSI1PK").is_some_and(|key| partitions.iter().any(|it| it == key));
            indexed && string(item, "updatedAt").is_none_or(|at| at <= changed.as_str())
        };
        let rides = table.dispatches.values().filter(is_ride).filter_map(|item| {
            let id = DispatchId::parse(string(item, "PK")?).ok()?;
            let driver = string(item, "driverId").and_then(|id| DriverId::parse(id).ok());
            Some((string(item, "GSI1SK")?, OngoingRide { id, driver }))
        });
        let mut rides: Vec<_> =
            rides.filter(|(key, ride)| *key < requested.as_str() && !except.contains(&ride.id)).collect();
        rides.sort();
        Ok(rides.into_iter().map(|(_, ride)| ride).collect())
    }

    async fn reviews(&self, limit: u16, after: Option<String>) -> Result<Page<OpenReview>, PortError> {
        let after = after.map(|token| PageToken::parse(&token)).transpose();
        let after = after.map_err(|error| broken("listing reviews", error))?.map(|token| token.review_sk());
        let table = self.lock();
        let mut open: Vec<&str> = table.reviews.values().filter_map(|review| review.gsi1sk.as_deref()).collect();
        open.sort_unstable();
        open.retain(|sort_key| after.as_ref().is_none_or(|after| *sort_key > after.as_str()));
        let limit = usize::from(limit.clamp(1, LIST_MAX));
        let more = open.len() > limit;
        open.truncate(limit);
        let tokens: Vec<PageToken> = open.into_iter().filter_map(PageToken::from_review).collect();
        let next = tokens.last().filter(|_| more).map(PageToken::text);
        let read = |token: PageToken| {
            let stored = self.stored(table.dispatches.get(token.dispatch.as_str())?).ok()?;
            Some(OpenReview { requested_at: token.sort_time, stored })
        };
        Ok(Page { items: tokens.into_iter().filter_map(read).collect(), next })
    }

    async fn open_since_before(
        &self,
        before: EpochMs,
        limit: u16,
        except: &HashSet<DispatchId>,
    ) -> Result<Vec<DispatchId>, PortError> {
        let times = SweepTimes::new(&self.codec, before);
        let table = self.lock();
        let status = keys::gsi1_dispatch_status(DispatchStatus::Requested);
        let waits = |item: &&Item| {
            let matching = item.get("matching").and_then(|matching| matching.as_m().ok());
            let timeout_at = matching.and_then(|matching| string(matching, "timeoutAt"));
            string(item, "GSI1PK") == Some(&status) && timeout_at.is_none_or(|at| times.is_over(at))
        };
        let open = table.dispatches.values().filter(waits);
        let mut open: Vec<(&str, DispatchId)> = open
            .filter_map(|item| Some((string(item, "GSI1SK")?, DispatchId::parse(string(item, "PK")?).ok()?)))
            .filter(|(sort_key, id)| times.is_due(sort_key) && !except.contains(id))
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
            points.extend(route_points(chunk).filter_map(Result::ok));
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
        let failed = |error: ItemError| broken("storing a user's profile", error);
        let mut table = self.lock();
        let apply = |known: Option<&UserItem>| self.codec.apply_user_profile(id, known, profile.clone(), now);
        let (item, user) = Self::put_profile(table.users.get(id.as_str()), apply).map_err(failed)?;
        table.users.insert(id.to_string(), item);
        convert::user(user).map_err(failed)
    }

    async fn put_driver(&self, id: &DriverId, profile: DriverProfile, now: EpochMs) -> Result<Driver, PortError> {
        let failed = |error: ItemError| broken("storing a driver's profile", error);
        let mut table = self.lock();
        let apply = |known: Option<&DriverItem>| self.codec.apply_driver_profile(id, known, profile.clone(), now);
        let (item, driver) = Self::put_profile(table.drivers.get(id.as_str()), apply).map_err(failed)?;
        table.drivers.insert(id.to_string(), item);
        convert::driver(driver).map_err(failed)
    }

    async fn user(&self, id: &UserId) -> Result<Option<User>, PortError> {
        let item = self.lock().users.get(id.as_str()).cloned();
        let user = item.map(|item| convert::user(read_item(USER, item)?)).transpose();
        user.map_err(|error| broken("reading a user", error))
    }

    async fn drivers(&self, ids: &[DriverId]) -> Result<Vec<Driver>, PortError> {
        let table = self.lock();
        let distinct: HashSet<&DriverId> = ids.iter().collect();
        let items = distinct.into_iter().filter_map(|id| profile(table.drivers.get(id.as_str())));
        Ok(items.filter_map(|item| convert::driver(item).ok()).collect())
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
        let failed = |error: ItemError| broken("storing a driver's availability", error);
        let Some(item) = table.drivers.get(id.as_str()) else { return Ok(AvailabilityChange::UnknownDriver) };
        let driver: DriverItem = read_item(DRIVER, item.clone()).map_err(failed)?;
        let was = driver.current_status.clone();
        if was.status == PersonStatus::Dispatched || was.current_dispatch_id.is_some() {
            let current = was.current_dispatch_id.as_ref().and_then(|id| DispatchId::parse(id).ok());
            return Ok(AvailabilityChange::OnDispatch { current });
        }
        let after = self.codec.at_place(&driver, status, at, now);
        if was.status != status {
            let entry = self.codec.driver_history(&after, now);
            table.driver_history.insert((entry.pk.clone(), entry.sk.clone()), entry);
        }
        let moved = Change { guard: Guard::Free, before: driver, after: after.clone() };
        change(&mut table.drivers, DRIVER, &moved).map_err(failed)?;
        let after = convert::driver(after).map_err(failed)?;
        Ok(AvailabilityChange::Done(Box::new(after)))
    }

    async fn release(&self, person: &Person, dispatch: &DispatchId, now: EpochMs) -> Result<bool, PortError> {
        let failed = |error: ItemError| broken("freeing a person", error);
        let mut table = self.lock();
        let guard = Guard::On(dispatch.to_string());
        match person {
            Person::User(id) => {
                let known = profile::<UserItem>(table.users.get(id.as_str()));
                let Some(before) = known.filter(|user| is_on(&user.current_status, dispatch)) else { return Ok(false) };
                let after = self.codec.with_user_status(&before, PersonStatus::Active);
                change(&mut table.users, USER, &Change { guard, before, after }).map_err(failed)?;
            }
            Person::Driver(id) => {
                let known = profile::<DriverItem>(table.drivers.get(id.as_str()));
                let Some(before) = known.filter(|it| is_on(&it.current_status, dispatch)) else { return Ok(false) };
                let after = self.codec.with_driver_status(&before, PersonStatus::Active, None);
                let entry = self.codec.driver_history(&after, now);
                table.driver_history.insert((entry.pk.clone(), entry.sk.clone()), entry);
                change(&mut table.drivers, DRIVER, &Change { guard, before, after }).map_err(failed)?;
            }
        }
        Ok(true)
    }

    async fn set_device(&self, person: &Person, endpoint_arn: &str) -> Result<bool, PortError> {
        let mut table = self.lock();
        let Some(item) = table.person(person) else { return Ok(false) };
        item.insert("deviceEndpointArn".to_owned(), text(endpoint_arn));
        Ok(true)
    }

    async fn remove_device(&self, person: &Person, endpoint_arn: &str) -> Result<bool, PortError> {
        let mut table = self.lock();
        let item = table.person(person).filter(|item| string(item, "deviceEndpointArn") == Some(endpoint_arn));
        Ok(item.is_some_and(|item| item.remove("deviceEndpointArn").is_some()))
    }

    async fn device(&self, person: &Person) -> Result<Option<String>, PortError> {
        let mut table = self.lock();
        Ok(table.person(person).and_then(|item| string(item, "deviceEndpointArn")).map(ToOwned::to_owned))
    }

    async fn deactivate(&self, known: &Driver, now: EpochMs) -> Result<bool, PortError> {
        let failed = |error: ItemError| broken("storing a driver's availability", error);
        let mut table = self.lock();
        let stored = profile::<DriverItem>(table.drivers.get(known.id.as_str()));
        let Some(before) = stored.filter(|item| is_as_known(item, known)) else { return Ok(false) };
        let after = self.codec.with_driver_status(&before, PersonStatus::Inactive, None);
        let entry = self.codec.driver_history(&after, now);
        table.driver_history.insert((entry.pk.clone(), entry.sk.clone()), entry);
        change(&mut table.drivers, DRIVER, &Change { guard: Guard::Free, before, after }).map_err(failed)?;
        Ok(true)
    }

    async fn active_drivers(&self, region: Option<&str>, _from: ActiveCursor) -> Result<ActivePage, PortError> {
        let table = self.lock();
        let drivers = table.drivers.values().filter_map(|item| profile::<DriverItem>(Some(item)));
        let active = drivers.filter(|driver| driver.current_status.status == PersonStatus::Active);
        let in_region = |driver: &DriverItem| {
            region.is_none_or(|it| region_of_address(&driver.current_status.current_location.address) == it)
        };
        let drivers = active.filter(in_region).filter_map(|item| convert::driver(item).ok()).collect();
        Ok(ActivePage { drivers, next: None })
    }
}
