//! The pure dispatch logic of Coactus Dispatch.
//!
//! Every decision is a function of its inputs and `now`: no I/O, no async, no clock, no randomness, no serialization.
//! The runtime gathers the inputs, calls these functions and carries out the result. Tests, simulators and the model
//! checker call the same functions.
//!
//! * [`ids`], [`geo`], [`time`]: the newtypes used throughout.
//! * [`policy`], [`fare`]: a city's rules, validated once.
//! * [`privacy`]: what drivers see of users, and how long data is kept.
//! * [`candidate`]: which drivers are eligible for a dispatch (spec §8).
//! * [`ranking`]: the order of the candidates, with everything it depends on, so that it can be explained and replayed.
//! * [`matching`]: the assignment of drivers to several requests that are searched at the same time.
//! * [`dispatch`]: the life cycle of a dispatch and its offers, `step(state, event, now) -> (state, effects)`.
//! * [`ping_filter`]: whether a driver's pings are plausible.
//! * [`meter`]: what a completed ride costs, and whether operations must review it.
//! * `number` (feature `serde`): reading of stored numbers.
//! * [`cancellation`]: how long users who request and cancel have to wait.
//! * [`service_area`], [`requested_trip`]: which trips users can request.
//! * [`person`]: the status of users and drivers, ride types and payment types.
//! * [`route`]: the length and the simplification of a trip's route.

pub mod cancellation;
pub mod candidate;
pub mod dispatch;
pub mod fare;
pub mod geo;
pub mod ids;
pub mod matching;
pub mod meter;
#[cfg(feature = "serde")]
pub mod number;
pub mod person;
pub mod ping_filter;
pub mod policy;
pub mod privacy;
pub mod ranking;
pub mod requested_trip;
pub mod route;
pub mod service_area;
pub mod time;
