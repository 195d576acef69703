//! User and driver profiles.

use std::collections::BTreeMap;

use async_trait::async_trait;
use dispatch_core::geo::Location;
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_core::person::{DriverPreferences, PaymentMethod, PersonStatus, UserPreferences, VehicleInfo};
use dispatch_core::time::EpochMs;

use super::error::PortError;

/// The part of a driver's profile that the driver sets.
#[derive(Clone)]
pub struct DriverProfile {
    pub phone: String,
    pub vehicle_info: VehicleInfo,
    pub preferences: DriverPreferences,
}

/// The part of a user's profile that the user sets.
#[derive(Clone)]
pub struct UserProfile {
    pub phone: String,
    pub payment_methods: Vec<PaymentMethod>,
    pub preferences: UserPreferences,
    pub location: Location,
}

/// A stored driver. Without `Debug`: it holds a phone number and places.
#[derive(Clone, PartialEq)]
pub struct Driver {
    pub id: DriverId,
    pub phone: String,
    /// ISO 8601 with the city's offset, as stored.
    pub created_at: String,
    pub vehicle_info: VehicleInfo,
    pub current_status: CurrentStatus,
    pub preferences: DriverPreferences,
    /// Ids of the latest completed rides, oldest first.
    pub completed_rides: Vec<String>,
}

/// A stored user. Without `Debug`: it holds a phone number and places.
#[derive(Clone, PartialEq)]
pub struct User {
    pub id: UserId,
    pub phone: String,
    /// ISO 8601 with the city's offset, as stored.
    pub created_at: String,
    pub current_status: CurrentStatus,
    pub payment_methods: Vec<PaymentMethod>,
    pub preferences: UserPreferences,
}

/// The status of a user or driver.
#[derive(Clone, PartialEq)]
pub struct CurrentStatus {
    pub status: PersonStatus,
    /// Coarse position: written with the status, not with every ping.
    pub location: Location,
    /// When that position was reported: ISO 8601 with the city's offset, as stored.
    pub located_at: String,
    pub dispatch: Option<DispatchId>,
}

/// The result of [`ProfileStore::set_availability`].
pub enum AvailabilityChange {
    /// Stored; the changed profile.
    Done(Box<Driver>),
    /// Refused: the driver is on a dispatch.
    OnDispatch { current: Option<DispatchId> },
    /// Refused: no such driver.
    UnknownDriver,
}

/// A user or a driver.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Person {
    User(UserId),
    Driver(DriverId),
}

impl Person {
    /// The person with this id; `None` for other ids.
    pub fn parse(id: &str) -> Option<Self> {
        let user = || UserId::parse(id).ok().map(Self::User);
        DriverId::parse(id).ok().map(Self::Driver).or_else(user)
    }

    /// The whole id, prefix included.
    pub fn as_str(&self) -> &str {
        match self {
            Self::User(id) => id.as_str(),
            Self::Driver(id) => id.as_str(),
        }
    }
}

/// A place in the list of active drivers; the default is its beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActiveCursor {
    /// Number of the index partition.
    pub partition: usize,
    /// The key of the last entry that was read, by attribute.
    pub after: Option<BTreeMap<String, String>>,
}

/// A page of the list of active drivers.
pub struct ActivePage {
    pub drivers: Vec<Driver>,
    /// Where the next page starts; `None` after the last one.
    pub next: Option<ActiveCursor>,
}

/// Stores user and driver profiles.
#[async_trait]
pub trait ProfileStore: Send + Sync {
    /// Creates or updates a user's profile. An existing user keeps its status; a new one is `ACTIVE`.
    async fn put_user(&self, id: &UserId, profile: UserProfile, now: EpochMs) -> Result<User, PortError>;

    /// Creates or updates a driver's profile. An existing driver keeps its status; a new one is `INACTIVE`.
    async fn put_driver(&self, id: &DriverId, profile: DriverProfile, now: EpochMs) -> Result<Driver, PortError>;

    /// Reads a user.
    async fn user(&self, id: &UserId) -> Result<Option<User>, PortError>;

    /// Reads at most 100 drivers, in any order. Unknown ids are skipped.
    async fn drivers(&self, ids: &[DriverId]) -> Result<Vec<Driver>, PortError>;

    /// Makes a driver `ACTIVE` or `INACTIVE` at a place and adds a history entry, unless the driver is on a dispatch.
    async fn set_availability(
        &self,
        id: &DriverId,
        status: PersonStatus,
        at: &Location,
        now: EpochMs,
    ) -> Result<AvailabilityChange, PortError>;

    /// Frees a person from a dispatch: `ACTIVE` and on no dispatch, with a history entry for a driver. False if the
    /// person is not on it.
    async fn release(&self, person: &Person, dispatch: &DispatchId, now: EpochMs) -> Result<bool, PortError>;

    /// Stores the push endpoint of a person's device. False if there is no such person.
    async fn set_device(&self, person: &Person, endpoint_arn: &str) -> Result<bool, PortError>;

    /// Removes the push endpoint of a person's device if it is still this one. False if it is not.
    async fn remove_device(&self, person: &Person, endpoint_arn: &str) -> Result<bool, PortError>;

    /// The push endpoint of a person's device.
    async fn device(&self, person: &Person) -> Result<Option<String>, PortError>;

    /// Makes a driver `INACTIVE` who is as `known` says, free and `ACTIVE`, and adds a history entry. The place and the
    /// time of the last position stay. False if the driver has changed since.
    async fn deactivate(&self, known: &Driver, now: EpochMs) -> Result<bool, PortError>;

    /// A page of the active drivers: of a district, or of the whole city. Unreadable drivers are skipped, so a page may
    /// be empty although there are more.
    async fn active_drivers(&self, region: Option<&str>, from: ActiveCursor) -> Result<ActivePage, PortError>;
}
