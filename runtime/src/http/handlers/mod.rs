//! One function for each route.

pub mod devices;
pub mod dispatches;
pub mod drivers;
pub mod events;
pub mod locations;
pub mod users;
