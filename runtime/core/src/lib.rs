//! The pure dispatch logic of Coactus Dispatch.
//!
//! Every decision is a function of its inputs and `now`: no I/O, no async, no clock, no randomness, no serialization.
//! The runtime gathers the inputs, calls these functions and carries out the result. Tests, simulators and the model
//! checker call the same functions.
//!
//! * [`ids`], [`geo`], [`time`]: the newtypes used throughout.
//! * [`policy`], [`fare`]: a city's rules, validated once.
//! * [`candidate`]: which drivers are eligible for a dispatch (spec §8).
//! * [`ranking`]: the order of the candidates, with everything it depends on, so that it can be explained and replayed.
//! * [`matching`]: the assignment of drivers to several requests that are searched at the same time.
//! * [`dispatch`]: the life cycle of a dispatch and its offers, `step(state, event, now) -> (state, effects)`.
//! * [`ping_filter`]: whether a driver's pings are plausible.
//! * [`person`]: the status of users and drivers, ride types and payment types.
//! * [`route`]: the length and the simplification of a trip's route.

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
