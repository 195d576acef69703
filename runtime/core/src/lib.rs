//! The pure dispatch logic of Coactus Dispatch.
//!
//! Every decision here is a function of data and `now`: no I/O, no async, no clock, no randomness, no serialization. The
//! runtime reads the world, calls these functions, and carries out what they return; tests, simulators and model checkers
//! call the very same functions.
//!
//! * [`ids`], [`geo`], [`time`]: the newtypes everything else is written in.
//! * [`policy`], [`fare`]: a city's rules, checked once.
//! * [`candidate`]: who may be offered a dispatch, and in which order (the seed's section 8).
//! * [`ranking`]: that order with all it depended on, so that it can be explained and made again.
//! * [`matching`]: which driver is offered which of several requests that wait at once.
//! * [`dispatch`]: the life of a dispatch and of its offers, `step(state, event, now) -> (state, effects)`.
//! * [`ping_filter`]: whether the pings of a driver can be believed.
//! * [`person`]: the status of users and drivers, ride and payment types.
//! * [`route`]: the travelled route of a trip: its length and its simplification.

pub mod candidate;
pub mod dispatch;
pub mod fare;
pub mod geo;
pub mod ids;
pub mod matching;
pub mod person;
pub mod ping_filter;
pub mod policy;
pub mod ranking;
pub mod route;
pub mod time;
