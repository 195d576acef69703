//! Repair of a stored profile that cannot be read.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::adapters::store::convert::{Item, ItemError, read_item, write_item};
use crate::adapters::store::entity::{DriverItem, UserItem};
use crate::adapters::store::entity_type::{DRIVER, USER};
use dispatch_core::person::PersonStatus;

/// The profile of a person.
pub(super) trait ProfileItem: Serialize + DeserializeOwned + Send + Sync {
    const ENTITY: &str;
    /// Attributes that the person does not send. Those that can be read survive a repair.
    const KEPT: &[&str];
    /// Attributes that may be missing.
    const OPTIONAL: &[&str] = &["deviceEndpointArn"];

    fn status(&self) -> PersonStatus;
}

impl ProfileItem for DriverItem {
    const ENTITY: &str = DRIVER;
    const KEPT: &[&str] = &["createdAt", "currentStatus", "completedRides", "deviceEndpointArn"];

    fn status(&self) -> PersonStatus {
        self.current_status.status
    }
}

impl ProfileItem for UserItem {
    const ENTITY: &str = USER;
    const KEPT: &[&str] = &["createdAt", "currentStatus", "deviceEndpointArn"];

    fn status(&self) -> PersonStatus {
        self.current_status.status
    }
}

/// What a profile that cannot be read is replaced with.
pub(super) struct Repaired<T> {
    pub(super) profile: T,
    /// The status that was stored, if it can be read. The repair then requires that it is still the same.
    pub(super) status: Option<PersonStatus>,
}

/// Adds to `fresh` what can be read of `stored`, attribute by attribute.
pub(super) fn repaired<T: ProfileItem>(stored: &Item, fresh: &T) -> Result<Repaired<T>, ItemError> {
    let mut item = write_item(T::ENTITY, fresh)?;
    let mut status = None;
    for name in T::KEPT {
        let Some(value) = stored.get(*name) else { continue };
        let mut candidate = item.clone();
        candidate.insert((*name).to_owned(), value.clone());
        if let Ok(profile) = read_item::<T>(T::ENTITY, candidate.clone()) {
            if *name == "currentStatus" {
                status = Some(profile.status());
            }
            item = candidate;
        }
    }
    Ok(Repaired { profile: read_item(T::ENTITY, item)?, status })
}
