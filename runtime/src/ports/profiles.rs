//! Users and drivers.

use async_trait::async_trait;
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_core::person::PersonStatus;
use dispatch_core::time::EpochMs;

use super::error::PortError;
use crate::store::entity::{
    DriverItem, DriverPreferences, Location, PaymentMethod, UserItem, UserPreferences, VehicleInfo,
};

/// What a driver says about itself.
#[derive(Clone)]
pub struct DriverProfile {
    /// Phone number.
    pub phone: String,
    /// The car.
    pub vehicle_info: VehicleInfo,
    /// What the driver takes.
    pub preferences: DriverPreferences,
}

/// What a user says about itself.
#[derive(Clone)]
pub struct UserProfile {
    /// Phone number.
    pub phone: String,
    /// Ways to pay.
    pub payment_methods: Vec<PaymentMethod>,
    /// What the user likes.
    pub preferences: UserPreferences,
    /// Where the user is.
    pub location: Location,
}

/// What became of a driver's wish to be available or not.
pub enum AvailabilityChange {
    /// The profile as it now is.
    Done(Box<DriverItem>),
    /// The driver is on a dispatch.
    OnDispatch {
        /// Which.
        current: Option<DispatchId>,
    },
    /// There is no such driver.
    UnknownDriver,
}

/// A user or a driver.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Person {
    /// A user.
    User(UserId),
    /// A driver.
    Driver(DriverId),
}

impl Person {
    /// The whole id, prefix included.
    pub fn as_str(&self) -> &str {
        match self {
            Self::User(id) => id.as_str(),
            Self::Driver(id) => id.as_str(),
        }
    }
}

/// Users and drivers.
#[async_trait]
pub trait ProfileStore: Send + Sync {
    /// Makes or changes a user's profile; the status is kept (`ACTIVE` for a new one).
    async fn put_user(&self, id: &UserId, profile: UserProfile, now: EpochMs) -> Result<UserItem, PortError>;

    /// Makes or changes a driver's profile; the status is kept (`INACTIVE` for a new one).
    async fn put_driver(&self, id: &DriverId, profile: DriverProfile, now: EpochMs) -> Result<DriverItem, PortError>;

    /// Reads a user.
    async fn user(&self, id: &UserId) -> Result<Option<UserItem>, PortError>;

    /// Reads drivers, at most 100, in any order; those that do not exist are left out.
    async fn drivers(&self, ids: &[DriverId]) -> Result<Vec<DriverItem>, PortError>;

    /// Makes a driver `ACTIVE` or `INACTIVE` at a place, with a history entry, unless it is on a dispatch.
    async fn set_availability(
        &self,
        id: &DriverId,
        status: PersonStatus,
        at: &Location,
        now: EpochMs,
    ) -> Result<AvailabilityChange, PortError>;

    /// Remembers the push endpoint of a person's device; false where there is no such person.
    async fn set_device(&self, person: &Person, endpoint_arn: &str) -> Result<bool, PortError>;

    /// The push endpoint of a person's device.
    async fn device(&self, person: &Person) -> Result<Option<String>, PortError>;

    /// Active drivers of a district (then of the whole city), at most `limit`: the search's last resort when Redis is cold.
    async fn active_drivers(&self, region: &str, limit: u16) -> Result<Vec<DriverItem>, PortError>;
}
