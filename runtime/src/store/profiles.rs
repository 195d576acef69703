//! [`ProfileStore`] on DynamoDB.

use async_trait::async_trait;
use aws_sdk_dynamodb::types::{Put, TransactWriteItem};
use dispatch_core::geo::Location;
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_core::person::PersonStatus;
use dispatch_core::time::EpochMs;
use serde::Serialize;

use super::convert::{Item, driver, read_item, user, write_item};
use super::entity::{DriverItem, UserItem};
use super::entity_type::{DRIVER, USER};
use super::error::{DynamoFailure, Meaning, TransactionFailure};
use super::expression::{Expression, key, text};
use super::{DynamoStore, broken, keys};
use crate::ports::{AvailabilityChange, Driver, DriverProfile, Person, PortError, ProfileStore, User, UserProfile};

const PUT_USER: &str = "storing a user's profile";
const PUT_DRIVER: &str = "storing a driver's profile";
const USER_READ: &str = "reading a user";
const DRIVERS_READ: &str = "reading drivers";
const AVAILABILITY: &str = "storing a driver's availability";
const SET_DEVICE: &str = "storing a device";
const READ_DEVICE: &str = "reading a device";
const ACTIVE_DRIVERS: &str = "searching active drivers";

/// The condition on which a profile is written.
enum Precondition {
    /// The profile does not exist.
    Absent,
    /// The profile has this status.
    Status(PersonStatus),
}

#[async_trait]
impl ProfileStore for DynamoStore {
    async fn put_user(&self, id: &UserId, profile: UserProfile, now: EpochMs) -> Result<User, PortError> {
        let mut tries = self.tries();
        loop {
            let known: Option<UserItem> = self.get_as(PUT_USER, USER, (id.as_str(), keys::PROFILE_SK)).await?;
            let expected =
                known.as_ref().map_or(Precondition::Absent, |it| Precondition::Status(it.current_status.status));
            let after = self.codec.apply_user_profile(id, known.as_ref(), profile.clone(), now);
            let change = (known.as_ref(), &after);
            let failed = self.write_profile(PUT_USER, USER, expected, change).await?;
            let Some(failure) = failed else { return user(after).map_err(|error| broken(PUT_USER, error)) };
            if !tries.pause(&failure).await {
                return Err(failure.into_port(PUT_USER));
            }
        }
    }

    async fn put_driver(&self, id: &DriverId, profile: DriverProfile, now: EpochMs) -> Result<Driver, PortError> {
        let mut tries = self.tries();
        loop {
            let known: Option<DriverItem> = self.get_as(PUT_DRIVER, DRIVER, (id.as_str(), keys::PROFILE_SK)).await?;
            let expected =
                known.as_ref().map_or(Precondition::Absent, |it| Precondition::Status(it.current_status.status));
            let after = self.codec.apply_driver_profile(id, known.as_ref(), profile.clone(), now);
            let change = (known.as_ref(), &after);
            let failed = self.write_profile(PUT_DRIVER, DRIVER, expected, change).await?;
            let Some(failure) = failed else { return driver(after).map_err(|error| broken(PUT_DRIVER, error)) };
            if !tries.pause(&failure).await {
                return Err(failure.into_port(PUT_DRIVER));
            }
        }
    }

    async fn user(&self, id: &UserId) -> Result<Option<User>, PortError> {
        let item: Option<UserItem> = self.get_as(USER_READ, USER, (id.as_str(), keys::PROFILE_SK)).await?;
        item.map(user).transpose().map_err(|error| broken(USER_READ, error))
    }

    async fn drivers(&self, ids: &[DriverId]) -> Result<Vec<Driver>, PortError> {
        let pks: Vec<&str> = ids.iter().map(DriverId::as_str).collect();
        let items = self.get_many(DRIVERS_READ, &pks, keys::PROFILE_SK).await?;
        let drivers = items.into_iter().map(|item| driver(read_item(DRIVER, item)?)).collect::<Result<_, _>>();
        drivers.map_err(|error| broken(DRIVERS_READ, error))
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
                self.write_profile(AVAILABILITY, DRIVER, Precondition::Status(was), (Some(&item), &after)).await?
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

    async fn set_device(&self, person: &Person, endpoint_arn: &str) -> Result<bool, PortError> {
        let mut update = Expression::default();
        update.set("deviceEndpointArn", text(endpoint_arn));
        update.exists();
        // Idempotent, so the SDK may retry it.
        let request = self.client.update_item().table_name(&self.table);
        let request = update.fill(request.set_key(Some(key(person.as_str(), keys::PROFILE_SK))));
        match request.send().await.map_err(|error| DynamoFailure::from_sdk(&error)) {
            Ok(_) => Ok(true),
            Err(failure) if failure.meaning == Meaning::ConditionFailed => Ok(false),
            Err(failure) => Err(failure.into_port(SET_DEVICE)),
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

    async fn active_drivers(&self, region: &str, limit: u16) -> Result<Vec<Driver>, PortError> {
        let mut found: Vec<Driver> = Vec::new();
        let partitions = self.codec.shards.all(&keys::gsi1_driver_status(PersonStatus::Active));
        // The prefix of the whole city includes the district's entries, so the second round may return some again.
        for prefix in [keys::gsi1_region_prefix(region), keys::GSI1_REGION_PREFIX.to_owned()] {
            for partition in &partitions {
                if found.len() >= usize::from(limit) {
                    return Ok(found);
                }
                for driver in self.active_in(partition, &prefix, limit).await? {
                    if found.len() < usize::from(limit) && !found.iter().any(|other| other.id == driver.id) {
                        found.push(driver);
                    }
                }
            }
        }
        Ok(found)
    }
}

impl DynamoStore {
    async fn active_in(&self, partition: &str, prefix: &str, limit: u16) -> Result<Vec<Driver>, PortError> {
        let output = self
            .client
            .query()
            .table_name(&self.table)
            .index_name("GSI1")
            .key_condition_expression("GSI1PK = :active AND begins_with(GSI1SK, :region)")
            .expression_attribute_values(":active", text(partition))
            .expression_attribute_values(":region", text(prefix))
            .limit(limit.into())
            .send()
            .await
            .map_err(|error| DynamoFailure::from_sdk(&error).into_port(ACTIVE_DRIVERS))?;
        let items = output.items.into_iter().flatten().map(|item| read_item(DRIVER, item));
        let items = items.collect::<Result<Vec<DriverItem>, _>>().map_err(|error| broken(ACTIVE_DRIVERS, error))?;
        // Without a valid driver id an entry cannot get an offer.
        Ok(items.into_iter().filter_map(|item| driver(item).ok()).collect())
    }

    /// Writes the difference between two profiles. `Some` is a failure after which the caller should read again.
    async fn write_profile<T: Serialize>(
        &self,
        action: &'static str,
        entity: &'static str,
        expected: Precondition,
        (before, after): (Option<&T>, &T),
    ) -> Result<Option<DynamoFailure>, PortError> {
        let write = |profile| write_item(entity, profile).map_err(|error| broken(action, error));
        let before = before.map(write).transpose()?.unwrap_or_default();
        let mut after = write(after)?;
        let pk = after.remove("PK").and_then(|pk| pk.as_s().cloned().ok()).unwrap_or_default();
        after.remove("SK");
        let before: Item = before.into_iter().filter(|(name, _)| name != "PK" && name != "SK").collect();
        let mut update = Expression::between(&before, &after);
        if update.changes_nothing() {
            return Ok(None);
        }
        match expected {
            Precondition::Absent => update.absent(),
            Precondition::Status(status) => update.equals("currentStatus.status", text(status.as_str())),
        }
        match self.update(&pk, update).await {
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
        update.null("currentStatus.currentDispatchId");
        let update = update.into_update(&self.table, key(&before.pk, keys::PROFILE_SK));
        let history = write_item("DRIVER_STATUS_HISTORY", &self.codec.driver_history(after, now));
        let history = history.map_err(|error| broken(AVAILABILITY, error))?;
        let history = Put::builder().table_name(&self.table).set_item(Some(history)).build();
        let parts = vec![
            TransactWriteItem::builder().update(update.map_err(|error| broken(AVAILABILITY, error))?).build(),
            TransactWriteItem::builder().put(history.map_err(|error| broken(AVAILABILITY, error))?).build(),
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

/// The profile was written between reading and writing; the caller should read again.
fn profile_keeps_changing() -> DynamoFailure {
    DynamoFailure::new(Meaning::Contended, "ConditionalCheckFailed", "the profile keeps changing")
}
