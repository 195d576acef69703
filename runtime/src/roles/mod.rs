//! The four roles, which correspond to the four Lambda functions of spec §3. Three of them serve HTTP; two process
//! streams and queues.

mod dispatch_algorithm;
mod driver_response;
mod sweeper;

use std::collections::BTreeSet;
use std::str::FromStr;

use thiserror::Error;

pub use dispatch_algorithm::{Algorithm, OfferTimeouts};
pub use driver_response::{Answers, Deliveries};
pub use sweeper::{Sweeper, sweep, sweep_drivers, sweep_rides};

use crate::http::HttpRole;

/// A role of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Stores dispatch requests and profiles.
    SaveDispatch,
    /// Searches for drivers and makes offers.
    DispatchAlgorithm,
    /// Handles drivers' answers and sends notifications.
    DriverResponse,
    /// Handles status changes, positions and trip events.
    StatusUpdate,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 4] = [Self::SaveDispatch, Self::DispatchAlgorithm, Self::DriverResponse, Self::StatusUpdate];

    /// Its name in `--role`.
    pub fn name(self) -> &'static str {
        self.http().map_or("dispatch-algorithm", HttpRole::name)
    }

    /// Its HTTP role, if it has one.
    pub fn http(self) -> Option<HttpRole> {
        match self {
            Self::SaveDispatch => Some(HttpRole::SaveDispatch),
            Self::DispatchAlgorithm => None,
            Self::DriverResponse => Some(HttpRole::DriverResponse),
            Self::StatusUpdate => Some(HttpRole::StatusUpdate),
        }
    }
}

/// A set of roles, parsed from `--role`: `all`, or names separated by commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles(pub BTreeSet<Role>);

/// The name is not a role.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not a role: expected all, save-dispatch, dispatch-algorithm, driver-response or status-update")]
pub struct UnknownRole(String);

impl FromStr for Roles {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        let mut roles = BTreeSet::new();
        for name in text.split(',').map(str::trim) {
            match Role::ALL.into_iter().find(|role| role.name() == name) {
                Some(role) => roles.extend([role]),
                None if name == "all" => roles.extend(Role::ALL),
                None => return Err(UnknownRole(name.to_owned())),
            }
        }
        Ok(Self(roles))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_named_singly_as_a_list_or_as_all() {
        assert_eq!("all".parse::<Roles>().map(|roles| roles.0.len()), Ok(4));
        let two: Roles = "status-update, save-dispatch".parse().unwrap();
        assert_eq!(two.0, BTreeSet::from([Role::SaveDispatch, Role::StatusUpdate]));
        assert_eq!("driver".parse::<Roles>(), Err(UnknownRole("driver".to_owned())));
        assert_eq!("".parse::<Roles>(), Err(UnknownRole(String::new())));
    }
}
