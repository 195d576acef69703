//! What a step changes in the table, as pure functions: the DynamoDB adapter writes a [`Plan`] as one transaction, the
//! in-memory store applies it under its lock.

use dispatch_core::dispatch::{Companion, DispatchStatus, Step, TripTotals};
use dispatch_core::geo::{Location, region_of_address};
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_core::person::PersonStatus;
use dispatch_core::time::EpochMs;
use thiserror::Error;

use super::convert::{Codec, ItemError};
use super::entity::{
    COMPLETED_RIDES_KEPT, CurrentStatus, DispatchItem, DriverCompletedRideItem, DriverItem, DriverStatusHistoryItem,
    UserDispatchHistoryItem, UserItem,
};
use super::entity_type::{DRIVER, USER};
use super::keys;
use crate::ports::{DriverProfile, StoredDispatch, TravelledRoute, UserProfile};

/// The people whose profiles a step's companions change.
#[derive(Default)]
pub struct StepPeople<T, U> {
    pub driver: Option<T>,
    pub user: Option<U>,
}

/// The people whose profiles must be read before `step` can be planned.
pub fn step_people(step: &Step) -> StepPeople<DriverId, UserId> {
    let mut people = StepPeople { driver: None, user: None };
    for companion in &step.companions {
        match companion {
            Companion::OccupyDriver(id) | Companion::FreeDriver(id) => people.driver = Some(id.clone()),
            Companion::FreeUser(id) => people.user = Some(id.clone()),
            Companion::UserHistory(_) | Companion::CompletedRide(..) => {}
        }
    }
    people
}

/// The condition on which a profile is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// The person is `ACTIVE` and on no dispatch.
    Free,
    /// The person is on this dispatch.
    On(String),
}

/// A conditional change of a profile.
pub struct Change<T> {
    pub guard: Guard,
    /// As read.
    pub before: T,
    /// As written if `guard` holds.
    pub after: T,
}

/// The items that a step changes. No item appears twice, because a transaction may name each item once.
pub struct Plan {
    pub dispatch: DispatchItem,
    pub driver: Option<Change<DriverItem>>,
    pub user: Option<Change<UserItem>>,
    /// A new entry of the driver's status history.
    pub driver_history: Option<DriverStatusHistoryItem>,
    /// A new entry of the user's history.
    pub user_history: Option<UserDispatchHistoryItem>,
    /// A new completed ride of the driver.
    pub ride: Option<DriverCompletedRideItem>,
}

/// Why a step cannot be planned.
#[derive(Debug, Error)]
pub enum PlanError {
    /// The driver is unknown or not free.
    #[error("the driver is not free")]
    DriverNotFree,
    /// A stored item cannot be used.
    #[error(transparent)]
    Item(#[from] ItemError),
}

impl Codec {
    /// Plans a changed step, given the profiles as they were just read.
    ///
    /// A driver is occupied only if free. A driver or user who should be freed but is no longer on this dispatch is
    /// skipped: there is nothing to free, and refusing the step would keep the dispatch open forever.
    pub fn plan(
        &self,
        before: &StoredDispatch,
        step: &Step,
        route: Option<&TravelledRoute>,
        people: &StepPeople<DriverItem, UserItem>,
    ) -> Result<Plan, PlanError> {
        let now = step.records.last().ok_or(ItemError::NoRecord)?.at;
        let id = &step.state.id;
        let totals = totals(step);
        let dispatch = self.after(before, step, route, now);
        let mut plan =
            Plan { dispatch, driver: None, user: None, driver_history: None, user_history: None, ride: None };
        for companion in &step.companions {
            match companion {
                Companion::OccupyDriver(_) => {
                    let driver = people.driver.as_ref().filter(|driver| is_free(&driver.current_status));
                    let driver = driver.ok_or(PlanError::DriverNotFree)?;
                    let after = self.with_driver_status(driver, PersonStatus::Dispatched, Some(id));
                    plan.driver = Some(Change { guard: Guard::Free, before: driver.clone(), after });
                }
                Companion::FreeDriver(_) => {
                    if let Some(driver) = people.driver.as_ref().filter(|it| is_on(&it.current_status, id)) {
                        let after = self.freed(driver, &plan.dispatch, totals.is_some(), now);
                        plan.driver = Some(Change { guard: Guard::On(id.to_string()), before: driver.clone(), after });
                    }
                }
                Companion::FreeUser(_) => {
                    if let Some(user) = people.user.as_ref().filter(|it| is_on(&it.current_status, id)) {
                        let mut after = user.clone();
                        after.current_status.status = PersonStatus::Active;
                        after.current_status.current_dispatch_id = None;
                        self.index_user(&mut after);
                        plan.user = Some(Change { guard: Guard::On(id.to_string()), before: user.clone(), after });
                    }
                }
                Companion::UserHistory(user) => {
                    plan.user_history = Some(self.user_history(user, id, &plan.dispatch, now));
                }
                Companion::CompletedRide(driver, totals) => plan.ride = Some(self.ride(driver, id, *totals, now)),
            }
        }
        plan.driver_history = plan.driver.as_ref().map(|driver| self.driver_history(&driver.after, now));
        Ok(plan)
    }

    /// The dispatch after the step.
    fn after(
        &self,
        before: &StoredDispatch,
        step: &Step,
        route: Option<&TravelledRoute>,
        now: EpochMs,
    ) -> DispatchItem {
        let state = &step.state;
        let mut item = before.item.clone();
        item.status = state.status;
        item.driver_id = state.driver.as_ref().map(ToString::to_string);
        item.updated_at = self.city.timestamp(now);
        item.offer_seq = state.offer_seq;
        item.ver = state.ver;
        item.matching = self.matching_item(&state.matching);
        item.events.extend(step.records.iter().map(|record| self.event(record)));
        if let Some(totals) = totals(step) {
            item.actual_fare = totals.fare;
            item.distance_m = totals.distance_m;
            item.duration_s = totals.duration_s;
        }
        if let Some(route) = route.filter(|_| step.state.status == DispatchStatus::Completed) {
            item.route = self.route(&route.points);
        }
        // Index keys follow the status. If another writer omitted them, the first change adds them.
        let created = self.city.sort_time(state.created_at);
        item.gsi1pk = Some(keys::gsi1_dispatch_pk(item.status, &state.id, self.shards));
        item.gsi1sk.get_or_insert_with(|| keys::gsi1_dispatch_sk(&created, &state.id));
        item.gsi2pk.get_or_insert_with(|| keys::gsi2_user_pk(&state.user));
        item.gsi2sk.get_or_insert_with(|| keys::gsi2_dispatch_sk(&created));
        item
    }

    /// The driver after a dispatch. After a ride the position is the destination, where the next search must find the
    /// driver.
    fn freed(&self, driver: &DriverItem, dispatch: &DispatchItem, rode: bool, now: EpochMs) -> DriverItem {
        let mut after = driver.clone();
        if rode {
            let end = dispatch.route.last();
            let here = end.map_or((dispatch.destination.lat, dispatch.destination.lng), |end| (end.lat, end.lng));
            let address = dispatch.destination.address.clone();
            after.current_status.current_location = Location { lat: here.0, lng: here.1, address };
            after.current_status.last_location_update = self.city.timestamp(now);
            after.completed_rides.push(dispatch.pk.clone());
            let surplus = after.completed_rides.len().saturating_sub(COMPLETED_RIDES_KEPT);
            after.completed_rides.drain(..surplus);
        }
        self.with_driver_status(&after, PersonStatus::Active, None)
    }

    /// The driver with another status, index keys included.
    pub(super) fn with_driver_status(
        &self,
        driver: &DriverItem,
        status: PersonStatus,
        dispatch: Option<&DispatchId>,
    ) -> DriverItem {
        let mut after = driver.clone();
        after.current_status.status = status;
        after.current_status.current_dispatch_id = dispatch.map(ToString::to_string);
        self.index_driver(&mut after);
        after
    }

    fn index_driver(&self, driver: &mut DriverItem) {
        // Profiles are read by their id, so every id parses. One that did not would stay out of the index.
        if let Ok(id) = DriverId::parse(&driver.pk) {
            driver.gsi1pk = Some(keys::gsi1_driver_pk(driver.current_status.status, &id, self.shards));
            driver.gsi1sk = Some(person_sk(&driver.current_status.current_location, id.as_str()));
        }
    }

    fn index_user(&self, user: &mut UserItem) {
        if let Ok(id) = UserId::parse(&user.pk) {
            user.gsi1pk = Some(keys::gsi1_user_pk(user.current_status.status, &id, self.shards));
            user.gsi1sk = Some(person_sk(&user.current_status.current_location, id.as_str()));
        }
    }

    /// The history entry for a driver whose profile becomes `after`.
    pub(super) fn driver_history(&self, after: &DriverItem, now: EpochMs) -> DriverStatusHistoryItem {
        let at = self.city.sort_time(now);
        DriverStatusHistoryItem {
            pk: after.pk.clone(),
            sk: keys::driver_history_sk(after.current_status.status, &at),
            entity_type: "DRIVER_STATUS_HISTORY".to_owned(),
            status: after.current_status.status,
            timestamp: self.city.timestamp(now),
            dispatch_id: after.current_status.current_dispatch_id.clone(),
            location: after.current_status.current_location.clone(),
            gsi2pk: DriverId::parse(&after.pk).ok().map(|id| keys::gsi2_driver_pk(&id)),
            gsi2sk: Some(keys::gsi2_status_sk(&at)),
        }
    }

    /// The history entry for the user of a dispatch that has ended.
    fn user_history(
        &self,
        user: &UserId,
        id: &DispatchId,
        dispatch: &DispatchItem,
        now: EpochMs,
    ) -> UserDispatchHistoryItem {
        let at = self.city.sort_time(now);
        UserDispatchHistoryItem {
            pk: user.to_string(),
            sk: keys::user_history_sk(&at, id),
            entity_type: "USER_DISPATCH_HISTORY".to_owned(),
            dispatch_id: id.to_string(),
            date: self.city.timestamp(now),
            from: dispatch.pickup_location.address.clone(),
            to: dispatch.destination.address.clone(),
            fare: dispatch.actual_fare,
            status: dispatch.status,
        }
    }

    fn ride(&self, driver: &DriverId, id: &DispatchId, totals: TripTotals, now: EpochMs) -> DriverCompletedRideItem {
        let at = self.city.sort_time(now);
        DriverCompletedRideItem {
            pk: driver.to_string(),
            sk: keys::completed_ride_sk(&at, id),
            entity_type: "DRIVER_COMPLETED_RIDE".to_owned(),
            dispatch_id: id.to_string(),
            completed_at: self.city.timestamp(now),
            fare: totals.fare,
            distance: totals.distance_m,
            duration: totals.duration_s,
            gsi2pk: Some(keys::gsi2_driver_pk(driver)),
            gsi2sk: Some(keys::gsi2_dispatch_sk(&at)),
        }
    }

    /// A driver's profile with new data from the driver. A known driver keeps its status; a new one is `INACTIVE`
    /// without a place.
    pub(super) fn apply_driver_profile(
        &self,
        id: &DriverId,
        known: Option<&DriverItem>,
        profile: DriverProfile,
        now: EpochMs,
    ) -> DriverItem {
        let mut driver = known.cloned().unwrap_or_else(|| DriverItem {
            pk: id.to_string(),
            sk: keys::PROFILE_SK.to_owned(),
            entity_type: DRIVER.to_owned(),
            phone: String::new(),
            created_at: self.city.timestamp(now),
            vehicle_info: profile.vehicle_info.clone(),
            current_status: CurrentStatus {
                status: PersonStatus::Inactive,
                // Not known yet. The driver is not searched before it becomes ACTIVE somewhere.
                current_location: Location { lat: 0.0, lng: 0.0, address: String::new() },
                last_location_update: self.city.timestamp(now),
                current_dispatch_id: None,
            },
            preferences: profile.preferences.clone(),
            completed_rides: Vec::new(),
            device_endpoint_arn: None,
            gsi1pk: None,
            gsi1sk: None,
        });
        driver.phone = profile.phone;
        driver.vehicle_info = profile.vehicle_info;
        driver.preferences = profile.preferences;
        self.index_driver(&mut driver);
        driver
    }

    /// A user's profile with new data from the user. A known user keeps its status; a new one is `ACTIVE`.
    pub(super) fn apply_user_profile(
        &self,
        id: &UserId,
        known: Option<&UserItem>,
        profile: UserProfile,
        now: EpochMs,
    ) -> UserItem {
        let mut user = known.cloned().unwrap_or_else(|| UserItem {
            pk: id.to_string(),
            sk: keys::PROFILE_SK.to_owned(),
            entity_type: USER.to_owned(),
            phone: String::new(),
            created_at: self.city.timestamp(now),
            current_status: CurrentStatus {
                status: PersonStatus::Active,
                current_location: profile.location.clone(),
                last_location_update: self.city.timestamp(now),
                current_dispatch_id: None,
            },
            payment_methods: Vec::new(),
            preferences: profile.preferences.clone(),
            device_endpoint_arn: None,
            gsi1pk: None,
            gsi1sk: None,
        });
        user.phone = profile.phone;
        user.payment_methods = profile.payment_methods;
        user.preferences = profile.preferences;
        user.current_status.current_location = profile.location;
        user.current_status.last_location_update = self.city.timestamp(now);
        self.index_user(&mut user);
        user
    }

    /// A driver who changes its availability at a place.
    pub(super) fn at_place(
        &self,
        driver: &DriverItem,
        status: PersonStatus,
        at: &Location,
        now: EpochMs,
    ) -> DriverItem {
        let mut after = driver.clone();
        after.current_status.current_location = at.clone();
        after.current_status.last_location_update = self.city.timestamp(now);
        self.with_driver_status(&after, status, None)
    }
}

fn person_sk(location: &Location, person: &str) -> String {
    keys::gsi1_person_sk(region_of_address(&location.address), person)
}

fn totals(step: &Step) -> Option<TripTotals> {
    step.companions.iter().find_map(|companion| match companion {
        Companion::CompletedRide(_, totals) => Some(*totals),
        _ => None,
    })
}

/// Whether a person is free for a dispatch.
pub(super) fn is_free(status: &CurrentStatus) -> bool {
    status.status == PersonStatus::Active && status.current_dispatch_id.is_none()
}

fn is_on(status: &CurrentStatus, dispatch: &DispatchId) -> bool {
    status.current_dispatch_id.as_deref() == Some(dispatch.as_str())
}
