//! One function for each route.

pub(crate) mod devices;
pub(crate) mod dispatches;
pub(crate) mod drivers;
pub(crate) mod events;
pub(crate) mod locations;
pub(crate) mod operations;
pub(crate) mod persons;
pub(crate) mod users;
