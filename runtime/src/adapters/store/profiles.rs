//! [`ProfileStore`] on DynamoDB.

use std::collections::BTreeMap;

use async_trait::async_trait;
use aws_sdk_dynamodb::types::TransactWriteItem;
use dispatch_core::geo::Location;
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_core::person::PersonStatus;
use dispatch_core::time::EpochMs;

use crate::adapters::store::convert::{Item, ItemError, driver, read_item, user, write_item};
use crate::adapters::store::entity::{
    CurrentStatus, DriverItem, DriverStatusHistoryItem, ERASED_AT, EXPIRES_AT, UserItem,
};
use crate::adapters::store::entity_type::{DRIVER, USER};
use crate::adapters::store::error::{DynamoFailure, Meaning, TransactionFailure};
use crate::adapters::store::expression::{Expression, key, text};
use crate::adapters::store::plan::{Guard, is_on};
use crate::adapters::store::repair::{ProfileItem, repaired};
use crate::adapters::store::{DynamoStore, broken, keys};
use crate::ports::{
    ActiveCursor, ActivePage, AvailabilityChange, Driver, DriverProfile, Person, PortError, ProfileStore, User,
    UserProfile,
};

const PUT_USER: &str = "storing a user's profile";
const PUT_DRIVER: &str = "storing a driver's profile";
const USER_READ: &str = "reading a user";
const DRIVERS_READ: &str = "reading drivers";
const AVAILABILITY: &str = "storing a driver's availability";
const RELEASE: &str = "freeing a person";
const SET_DEVICE: &str = "storing a device";
const REMOVE_DEVICE: &str = "removing a device";
const READ_DEVICE: &str = "reading a device";
const ACTIVE_DRIVERS: &str = "searching active drivers";

/// Drivers of one page: about 1 MB, the most that a query returns.
const ACTIVE_PAGE: i32 = 1000;

/// The condition on which a profile is written.
enum Precondition {
    /// The profile does not exist.
    Absent,
    /// The profile exists.
    Exists,
    /// The profile has this status.
    Status(PersonStatus),
}

#[async_trait]
impl ProfileStore for DynamoStore {
    async fn put_user(&self, id: &UserId, profile: UserProfile, now: EpochMs) -> Result<User, PortError> {
        let apply = |known: Option<&UserItem>| self.codec.apply_user_profile(id, known, profile.clone(), now);
        let after = self.put_profile(PUT_USER, id.as_str(), apply).await?;
        user(after).map_err(|error| broken(PUT_USER, error))
    }

    async fn put_driver(&self, id: &DriverId, profile: DriverProfile, now: EpochMs) -> Result<Driver, PortError> {
        let apply = |known: Option<&DriverItem>| self.codec.apply_driver_profile(id, known, profile.clone(), now);
        let after = self.put_profile(PUT_DRIVER, id.as_str(), apply).await?;
        driver(after).map_err(|error| broken(PUT_DRIVER, error))
    }

    async fn user(&self, id: &UserId) -> Result<Option<User>, PortError> {
        let item: Option<UserItem> = self.get_as(USER_READ, USER, (id.as_str(), keys::PROFILE_SK)).await?;
        item.map(user).transpose().map_err(|error| self.unreadable(USER_READ, USER, id.as_str(), error))
    }

    async fn drivers(&self, ids: &[DriverId]) -> Result<Vec<Driver>, PortError> {
        let pks: Vec<&str> = ids.iter().map(DriverId::as_str).collect();
        let items = self.get_many(DRIVERS_READ, &pks, keys::PROFILE_SK).await?;
        Ok(items
            .into_iter()
            .filter_map(|item| self.readable(DRIVER, item, |item| driver(read_item(DRIVER, item)?)))
            .collect())
    }

    /// A driver who already has the status gets the new place but no history entry, because the history records status
    /// changes.
    async fn set_availability(
        &self,
        id: &DriverId,
        status: PersonStatus,
        at: &Location,
        now: EpochMs,
    ) -> Result<AvailabilityChange, PortError> {
        if status == PersonStatus::Dispatched {
            let refused = DynamoFailure::new(Meaning::Refused, "Availability", "only a dispatch makes DISPATCHED");
            return Err(refused.into_port(AVAILABILITY));
        }
        let mut tries = self.tries();
        loop {
            let item: Option<DriverItem> = self.get_as(AVAILABILITY, DRIVER, (id.as_str(), keys::PROFILE_SK)).await?;
            let Some(item) = item else { return Ok(AvailabilityChange::UnknownDriver) };
            let was = item.current_status.status;
            if was == PersonStatus::Dispatched || item.current_status.current_dispatch_id.is_some() {
                let current = item.current_status.current_dispatch_id.and_then(|id| DispatchId::parse(id).ok());
                return Ok(AvailabilityChange::OnDispatch { current });
            }
            let after = self.codec.at_place(&item, status, at, now);
            let failed = if was == status {
                let update = difference(Some(&item), &after).map_err(|error| broken(AVAILABILITY, error))?;
                self.write_profile(AVAILABILITY, id.as_str(), Precondition::Status(was), update).await?
            } else {
                self.write_status_change(&item, &after, now).await?
            };
            let Some(failure) = failed else {
                let after = driver(after).map_err(|error| broken(AVAILABILITY, error))?;
                return Ok(AvailabilityChange::Done(Box::new(after)));
            };
            if !tries.pause(&failure).await {
                return Err(failure.into_port(AVAILABILITY));
            }
        }
    }

    async fn release(&self, person: &Person, dispatch: &DispatchId, now: EpochMs) -> Result<bool, PortError> {
        let mut tries = self.tries();
        loop {
            let Some(parts) = self.release_parts(person, dispatch, now).await? else { return Ok(false) };
            let request = self.once.transact_write_items().set_transact_items(Some(parts));
            let failure = match request.send().await.map_err(|error| TransactionFailure::from_sdk(&error)) {
                Ok(_) => return Ok(true),
                Err(TransactionFailure::Conditions(_)) => profile_keeps_changing(),
                Err(TransactionFailure::Other(failure)) => failure,
            };
            if failure.meaning == Meaning::Refused || !tries.pause(&failure).await {
                return Err(failure.into_port(RELEASE));
            }
        }
    }

    async fn set_device(&self, person: &Person, endpoint_arn: &str) -> Result<bool, PortError> {
        let mut update = Expression::default();
        update.set("deviceEndpointArn", text(endpoint_arn));
        update.exists();
        update.missing(ERASED_AT);
        // Idempotent, so the SDK may retry it.
        let request = self.client.update_item().table_name(&self.table);
        let request = update.fill(request.set_key(Some(key(person.as_str(), keys::PROFILE_SK))));
        match request.send().await.map_err(|error| DynamoFailure::from_sdk(&error)) {
            Ok(_) => Ok(true),
            Err(failure) if failure.meaning == Meaning::ConditionFailed => Ok(false),
            Err(failure) => Err(failure.into_port(SET_DEVICE)),
        }
    }

    async fn remove_device(&self, person: &Person, endpoint_arn: &str) -> Result<bool, PortError> {
        let mut update = Expression::default();
        update.remove("deviceEndpointArn");
        update.equals("deviceEndpointArn", text(endpoint_arn));
        match self.update(person.as_str(), update).await {
            None => Ok(true),
            Some(failure) if failure.meaning == Meaning::ConditionFailed => Ok(false),
            Some(failure) => Err(failure.into_port(REMOVE_DEVICE)),
        }
    }

    async fn device(&self, person: &Person) -> Result<Option<String>, PortError> {
        let output = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key(person.as_str(), keys::PROFILE_SK)))
            .projection_expression("deviceEndpointArn")
            .send()
            .await
            .map_err(|error| DynamoFailure::from_sdk(&error).into_port(READ_DEVICE))?;
        let arn = output.item.as_ref().and_then(|item| item.get("deviceEndpointArn")?.as_s().ok());
        Ok(arn.cloned())
    }

    async fn deactivate(&self, known: &Driver, now: EpochMs) -> Result<bool, PortError> {
        let (mut tries, mut in_doubt) = (self.tries(), None);
        loop {
            let key = (known.id.as_str(), keys::PROFILE_SK);
            let item: Option<DriverItem> = self.get_as(AVAILABILITY, DRIVER, key).await?;
            let Some(before) = item.filter(|item| is_as_known(item, known)) else {
                return self.has_entry(in_doubt.as_ref()).await;
            };
            let after = self.codec.with_driver_status(&before, PersonStatus::Inactive, None);
            let Some(failure) = self.write_status_change(&before, &after, now).await? else { return Ok(true) };
            if failure.meaning == Meaning::InDoubt {
                in_doubt = Some(self.codec.driver_history(&after, now));
            }
            // The driver may have reported in between, so the item is read again.
            if !tries.pause(&failure).await {
                let stored = self.has_entry(in_doubt.as_ref()).await?;
                return if stored { Ok(true) } else { Err(failure.into_port(AVAILABILITY)) };
            }
        }
    }

    async fn active_drivers(&self, region: Option<&str>, from: ActiveCursor) -> Result<ActivePage, PortError> {
        let partitions = self.codec.shards.all(&keys::gsi1_driver_status(PersonStatus::Active));
        let Some(partition) = partitions.get(from.partition) else {
            return Ok(ActivePage { drivers: Vec::new(), next: None });
        };
        let prefix = region.map_or_else(|| keys::GSI1_REGION_PREFIX.to_owned(), keys::gsi1_region_prefix);
        let after = from.after.map(|key| key.into_iter().map(|(name, value)| (name, text(value))).collect());
        let output = self
            .client
            .query()
            .table_name(&self.table)
            .index_name("GSI1")
            .key_condition_expression("GSI1PK = :active AND begins_with(GSI1SK, :region)")
            .expression_attribute_values(":active", text(partition))
            .expression_attribute_values(":region", text(prefix))
            .limit(ACTIVE_PAGE)
            .set_exclusive_start_key(after)
            .send()
            .await
            .map_err(|error| DynamoFailure::from_sdk(&error).into_port(ACTIVE_DRIVERS))?;
        let next = match output.last_evaluated_key {
            Some(key) => Some(ActiveCursor { partition: from.partition, after: Some(texts(&key)) }),
            None if from.partition + 1 < partitions.len() => {
                Some(ActiveCursor { partition: from.partition + 1, after: None })
            }
            None => None,
        };
        let items = output.items.into_iter().flatten();
        let read = |item| self.readable(DRIVER, item, |item| driver(read_item(DRIVER, item)?));
        Ok(ActivePage { drivers: items.filter_map(read).collect(), next })
    }
}

impl DynamoStore {
    /// The transaction that frees a person from a dispatch; `None` if the person is not on it.
    async fn release_parts(
        &self,
        person: &Person,
        dispatch: &DispatchId,
        now: EpochMs,
    ) -> Result<Option<Vec<TransactWriteItem>>, PortError> {
        let guard = Guard::On(dispatch.to_string());
        let key = (person.as_str(), keys::PROFILE_SK);
        Ok(match person {
            Person::User(_) => {
                let known: Option<UserItem> = self.get_as(RELEASE, USER, key).await?;
                let Some(before) = known.filter(|it| is_on(&it.current_status, dispatch)) else { return Ok(None) };
                let after = self.codec.with_user_status(&before, PersonStatus::Active);
                Some(vec![self.person_update(RELEASE, &guard, &before.pk, (&before, &after))?])
            }
            Person::Driver(_) => {
                let known: Option<DriverItem> = self.get_as(RELEASE, DRIVER, key).await?;
                let Some(before) = known.filter(|it| is_on(&it.current_status, dispatch)) else { return Ok(None) };
                let after = self.codec.with_driver_status(&before, PersonStatus::Active, None);
                let history = self.put(RELEASE, "DRIVER_STATUS_HISTORY", &self.codec.driver_history(&after, now))?;
                Some(vec![self.person_update(RELEASE, &guard, &before.pk, (&before, &after))?, history])
            }
        })
    }

    /// Stores what a person changes in its profile. A profile that cannot be read is repaired: what the person sends is
    /// written, and what can still be read stays.
    async fn put_profile<T: ProfileItem>(
        &self,
        action: &'static str,
        pk: &str,
        apply: impl Fn(Option<&T>) -> T,
    ) -> Result<T, PortError> {
        let mut tries = self.tries();
        loop {
            let stored = self.get(action, pk, keys::PROFILE_SK).await?;
            let (after, failed) = match stored.map(|item| (read_item::<T>(T::ENTITY, item.clone()), item)) {
                None => {
                    let after = apply(None);
                    let mut update = difference(None, &after).map_err(|error| broken(action, error))?;
                    // A person who comes back after an erasure.
                    update.remove(ERASED_AT);
                    update.remove(EXPIRES_AT);
                    (after, self.write_profile(action, pk, Precondition::Absent, update).await?)
                }
                Some((Ok(known), _)) => {
                    let after = apply(Some(&known));
                    let update = difference(Some(&known), &after).map_err(|error| broken(action, error))?;
                    (after, self.write_profile(action, pk, Precondition::Status(known.status()), update).await?)
                }
                Some((Err(error), item)) => {
                    self.metrics.record_unreadable(T::ENTITY, pk, &error);
                    let repaired = repaired(&item, &apply(None)).map_err(|error| broken(action, error))?;
                    let after = apply(Some(&repaired.profile));
                    let expected = repaired.status.map_or(Precondition::Exists, Precondition::Status);
                    let fields = write_item(T::ENTITY, &after).map(without_key);
                    let fields = fields.map_err(|error| broken(action, error))?;
                    let update = Expression::repairing(&item, &fields, T::OPTIONAL);
                    (after, self.write_profile(action, pk, expected, update).await?)
                }
            };
            let Some(failure) = failed else { return Ok(after) };
            if !tries.pause(&failure).await {
                return Err(failure.into_port(action));
            }
        }
    }

    /// Writes an update of a profile. `Some` is a failure after which the caller should read again.
    async fn write_profile(
        &self,
        action: &'static str,
        pk: &str,
        expected: Precondition,
        mut update: Expression,
    ) -> Result<Option<DynamoFailure>, PortError> {
        if update.changes_nothing() {
            return Ok(None);
        }
        match expected {
            Precondition::Absent => update.absent_or_erased(),
            Precondition::Exists => {
                update.exists();
                update.missing(ERASED_AT);
            }
            Precondition::Status(status) => {
                update.equals("currentStatus.status", text(status.as_str()));
                update.missing(ERASED_AT);
            }
        }
        match self.update(pk, update).await {
            Some(failure) => match failure.meaning {
                Meaning::Refused => Err(failure.into_port(action)),
                Meaning::ConditionFailed => Ok(Some(profile_keeps_changing())),
                Meaning::Contended | Meaning::InDoubt => Ok(Some(failure)),
            },
            None => Ok(None),
        }
    }

    async fn update(&self, pk: &str, update: Expression) -> Option<DynamoFailure> {
        let request = self.once.update_item().table_name(&self.table);
        let request = update.fill(request.set_key(Some(key(pk, keys::PROFILE_SK))));
        let sent = request.send().await;
        sent.err().map(|error| DynamoFailure::from_sdk(&error))
    }

    /// Whether a change of status was stored whose answer was lost. Its transaction wrote this entry of the history as
    /// well, and later changes leave the entry as it is.
    async fn has_entry(&self, in_doubt: Option<&DriverStatusHistoryItem>) -> Result<bool, PortError> {
        let Some(entry) = in_doubt else { return Ok(false) };
        let stored = self.get(AVAILABILITY, &entry.pk, &entry.sk).await?.is_some();
        if stored {
            self.metrics.lost_answer_found();
        }
        Ok(stored)
    }

    /// `TransactWriteItems{Update driver IF its status is as read, Put history}`. `Some` is a failure after which the
    /// caller should read again.
    async fn write_status_change(
        &self,
        before: &DriverItem,
        after: &DriverItem,
        now: EpochMs,
    ) -> Result<Option<DynamoFailure>, PortError> {
        let write = |driver| write_item(DRIVER, driver).map_err(|error| broken(AVAILABILITY, error));
        let mut update = Expression::between(&write(before)?, &write(after)?);
        update.equals("currentStatus.status", text(before.current_status.status.as_str()));
        update.equals("currentStatus.lastLocationUpdate", text(&before.current_status.last_location_update));
        update.null("currentStatus.currentDispatchId");
        update.missing(ERASED_AT);
        let update = update.into_update(&self.table, key(&before.pk, keys::PROFILE_SK));
        let parts = vec![
            TransactWriteItem::builder().update(update.map_err(|error| broken(AVAILABILITY, error))?).build(),
            self.put(AVAILABILITY, "DRIVER_STATUS_HISTORY", &self.codec.driver_history(after, now))?,
        ];
        let request = self.once.transact_write_items().set_transact_items(Some(parts));
        let sent = request.send().await;
        match sent.map_err(|error| TransactionFailure::from_sdk(&error)) {
            Ok(_) => Ok(None),
            Err(TransactionFailure::Conditions(_)) => Ok(Some(profile_keeps_changing())),
            Err(TransactionFailure::Other(failure)) if failure.meaning == Meaning::Refused => {
                Err(failure.into_port(AVAILABILITY))
            }
            Err(TransactionFailure::Other(failure)) => Ok(Some(failure)),
        }
    }
}

/// Whether a stored driver is free, `ACTIVE` and has not reported a place since it was read.
pub(super) fn is_as_known(item: &DriverItem, known: &Driver) -> bool {
    let CurrentStatus { status, last_location_update, current_dispatch_id, .. } = &item.current_status;
    *status == PersonStatus::Active
        && current_dispatch_id.is_none()
        && *last_location_update == known.current_status.located_at
}

/// The text attributes of a key.
fn texts(key: &Item) -> BTreeMap<String, String> {
    key.iter().filter_map(|(name, value)| Some((name.clone(), value.as_s().ok()?.clone()))).collect()
}

/// The difference between two versions of a profile, without its key.
fn difference<T: ProfileItem>(before: Option<&T>, after: &T) -> Result<Expression, ItemError> {
    let before = before.map(|before| write_item(T::ENTITY, before)).transpose()?.unwrap_or_default();
    Ok(Expression::between(&without_key(before), &without_key(write_item(T::ENTITY, after)?)))
}

/// An update names the key apart from the attributes.
fn without_key(mut item: Item) -> Item {
    item.remove("PK");
    item.remove("SK");
    item
}

/// The profile was written between reading and writing; the caller should read again.
fn profile_keeps_changing() -> DynamoFailure {
    DynamoFailure::new(Meaning::Contended, "ConditionalCheckFailed", "the profile keeps changing")
}
