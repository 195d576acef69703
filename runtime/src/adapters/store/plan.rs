//! What a step changes in the table, as pure functions: the DynamoDB adapter writes a [`Plan`] as one transaction, the
//! in-memory store applies it under its lock.

use dispatch_core::cancellation::{self, Pause};
use dispatch_core::dispatch::{Companion, Dispatch, DispatchStatus, Step, TripTotals};
use dispatch_core::geo::{Location, region_of_address};
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_core::meter::{Bill, ReviewReason};
use dispatch_core::person::PersonStatus;
use dispatch_core::time::EpochMs;
use thiserror::Error;

use crate::adapters::store::change::DispatchChange;
use crate::adapters::store::convert::{Codec, DISPATCH_REVIEW, ItemError, expiry};
use crate::adapters::store::entity::{
    COMPLETED_RIDES_KEPT, CurrentStatus, DispatchReviewItem, DriverCompletedRideItem, DriverItem,
    DriverStatusHistoryItem, UserDispatchHistoryItem, UserItem,
};
use crate::adapters::store::entity_type::{DRIVER, USER};
use crate::adapters::store::keys;
use crate::city::parse_timestamp;
use crate::ports::{DispatchDetails, DriverProfile, StoredDispatch, TravelledRoute, UserProfile};

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
            Companion::UserHistory(_)
            | Companion::CompletedRide(..)
            | Companion::OpenReview(_)
            | Companion::CloseReview => {}
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
    /// The dispatch after the step.
    pub after: StoredDispatch,
    pub dispatch: DispatchChange,
    pub driver: Option<Change<DriverItem>>,
    pub user: Option<Change<UserItem>>,
    /// A new entry of the driver's status history.
    pub driver_history: Option<DriverStatusHistoryItem>,
    /// A new entry of the user's history.
    pub user_history: Option<UserDispatchHistoryItem>,
    /// A new completed ride of the driver.
    pub ride: Option<DriverCompletedRideItem>,
    /// A change of the list of reviews.
    pub review: Option<ReviewChange>,
}

/// A change of the list of dispatches that operations must review.
pub enum ReviewChange {
    /// A new entry.
    Open(DispatchReviewItem),
    /// The entry of the dispatch leaves the list.
    Close,
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
        let rode = bill(step).is_some();
        let after = self.after(before, step, route, now);
        let dispatch = self.change(before, step, &after)?;
        let mut plan = Plan {
            after,
            dispatch,
            driver: None,
            user: None,
            driver_history: None,
            user_history: None,
            ride: None,
            review: None,
        };
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
                        let after = self.freed(driver, &plan.after, rode, now);
                        plan.driver = Some(Change { guard: Guard::On(id.to_string()), before: driver.clone(), after });
                    }
                }
                Companion::FreeUser(_) => {
                    if let Some(user) = people.user.as_ref().filter(|it| is_on(&it.current_status, id)) {
                        let mut after = self.with_user_status(user, PersonStatus::Active);
                        if cancellation::counts(&before.state, step) {
                            self.add_cancellation(&mut after, now);
                        }
                        plan.user = Some(Change { guard: Guard::On(id.to_string()), before: user.clone(), after });
                    }
                }
                Companion::UserHistory(user) => {
                    plan.user_history = Some(self.user_history(user, &plan.after, now));
                }
                Companion::CompletedRide(driver, bill) => plan.ride = Some(self.ride(driver, id, bill.totals, now)),
                Companion::OpenReview(reason) => {
                    plan.review = Some(ReviewChange::Open(self.review(id, *reason, now)));
                }
                Companion::CloseReview => plan.review = Some(ReviewChange::Close),
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
    ) -> StoredDispatch {
        let mut details = before.details.clone();
        details.updated_at = self.city.timestamp(now);
        details.offer_timeout_at = step.state.matching.timeout_at.map(|at| self.city.timestamp_ms(at));
        details.events.extend(step.records.iter().map(|record| self.event(record)));
        if let Some(Bill { totals, metered_fare, is_far, .. }) = bill(step) {
            details.actual_fare = totals.fare;
            details.distance_m = totals.distance_m;
            details.duration_s = totals.duration_s;
            details.metered_fare = metered_fare;
            details.is_far = is_far;
        }
        if let Some(route) = route.filter(|_| step.state.status == DispatchStatus::Completed) {
            details.route = self.route(&route.points);
        }
        // The table stores the times of trip events in whole seconds.
        let trip_started_at = step.state.trip_started_at.map(EpochMs::whole_seconds);
        StoredDispatch { state: Dispatch { trip_started_at, ..step.state.clone() }, details }
    }

    /// The driver after a dispatch. After a ride the position is the destination, where the next search must find the
    /// driver.
    fn freed(&self, driver: &DriverItem, dispatch: &StoredDispatch, rode: bool, now: EpochMs) -> DriverItem {
        let mut after = driver.clone();
        if rode {
            let DispatchDetails { route, destination, .. } = &dispatch.details;
            let here = route.last().map_or((destination.lat, destination.lng), |end| (end.lat, end.lng));
            let address = destination.address.clone();
            after.current_status.current_location = Location { lat: here.0, lng: here.1, address };
            after.current_status.last_location_update = self.city.timestamp(now);
            after.completed_rides.push(dispatch.state.id.to_string());
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
        after.ver = after.ver.wrapping_add(1);
        self.index_driver(&mut after);
        after
    }

    /// The user with another status, index keys included.
    pub(super) fn with_user_status(&self, user: &UserItem, status: PersonStatus) -> UserItem {
        let mut after = user.clone();
        after.current_status.status = status;
        after.current_status.current_dispatch_id = None;
        self.index_user(&mut after);
        after
    }

    /// Notes a cancellation, and until when the user cannot request a ride.
    fn add_cancellation(&self, user: &mut UserItem, now: EpochMs) {
        let (policy, today) = (self.city.settings().policy.cancellations, self.city.day_around(now));
        let times = cancellation::with_cancellation(&policy, &cancellations(user), now, today);
        let pause = cancellation::pause(&policy, &times, now, today);
        // Always written, so that a value of another type does not stay.
        user.requests_paused_until = Some(pause.map_or(0, |pause| pause.until.0));
        user.recent_cancellations = times.into_iter().map(|at| self.city.timestamp_ms(at)).collect();
    }

    /// The pause of a user at `now`, by the current rules.
    pub(super) fn pause(&self, user: &UserItem, now: EpochMs) -> Option<Pause> {
        let policy = self.city.settings().policy.cancellations;
        cancellation::pause(&policy, &cancellations(user), now, self.city.day_around(now))
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
            expires_at: Some(expiry(now, self.retention().driver_histories_s())),
        }
    }

    /// The history entry for the user of a dispatch that has ended.
    fn user_history(&self, user: &UserId, dispatch: &StoredDispatch, now: EpochMs) -> UserDispatchHistoryItem {
        let StoredDispatch { state, details } = dispatch;
        let at = self.city.sort_time(now);
        UserDispatchHistoryItem {
            pk: user.to_string(),
            sk: keys::user_history_sk(&at, &state.id),
            entity_type: "USER_DISPATCH_HISTORY".to_owned(),
            dispatch_id: state.id.to_string(),
            date: self.city.timestamp(now),
            from: details.pickup.address.clone(),
            to: details.destination.address.clone(),
            fare: details.actual_fare,
            status: state.status,
            expires_at: Some(expiry(now, self.retention().dispatches_s)),
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
            expires_at: Some(expiry(now, self.retention().dispatches_s)),
        }
    }

    fn review(&self, id: &DispatchId, reason: ReviewReason, now: EpochMs) -> DispatchReviewItem {
        DispatchReviewItem {
            pk: id.to_string(),
            sk: keys::REVIEW_SK.to_owned(),
            entity_type: DISPATCH_REVIEW.to_owned(),
            reason: reason.as_str().to_owned(),
            gsi1pk: Some(keys::GSI1_OPEN_REVIEWS.to_owned()),
            gsi1sk: Some(keys::gsi1_dispatch_sk(&self.city.sort_time(now), id)),
            expires_at: Some(expiry(now, self.retention().dispatches_s)),
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
            ver: 0,
            device_endpoint_arn: None,
            gsi1pk: None,
            gsi1sk: None,
        });
        driver.phone = profile.phone;
        driver.vehicle_info = profile.vehicle_info;
        driver.preferences = profile.preferences;
        self.index_driver(&mut driver);
        if known != Some(&driver) {
            driver.ver = driver.ver.wrapping_add(1);
        }
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
            recent_cancellations: Vec::new(),
            requests_paused_until: None,
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

/// The times of a user's cancellations that can be read.
fn cancellations(user: &UserItem) -> Vec<EpochMs> {
    user.recent_cancellations.iter().filter_map(|at| parse_timestamp(at)).collect()
}

fn person_sk(location: &Location, person: &str) -> String {
    keys::gsi1_person_sk(region_of_address(&location.address), person)
}

fn bill(step: &Step) -> Option<Bill> {
    step.companions.iter().find_map(|companion| match companion {
        Companion::CompletedRide(_, bill) => Some(*bill),
        _ => None,
    })
}

/// Whether a person is free for a dispatch.
pub(super) fn is_free(status: &CurrentStatus) -> bool {
    status.status == PersonStatus::Active && status.current_dispatch_id.is_none()
}

pub(super) fn is_on(status: &CurrentStatus, dispatch: &DispatchId) -> bool {
    status.current_dispatch_id.as_deref() == Some(dispatch.as_str())
}
