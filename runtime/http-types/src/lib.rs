//! The HTTP API of Coactus Dispatch: its documents, which clients send and get, and its [routes](ROUTES).
//!
//! They are types of their own, apart from the table's items: keys, push endpoints and index attributes are nobody's business
//! outside. Requests refuse unknown fields; answers may gain fields, so clients must ignore those they do not know. All types
//! read and write, so that a client in Rust needs no second set. None of those that hold a position or a phone number can be
//! printed with `{:?}`, so that they cannot reach a log by accident.

mod dispatch;
mod location;
mod notification;
mod problem;
mod profile;
mod routes;

pub use dispatch::{
    Answer, CancelDispatch, CreateDispatch, Dispatch, DispatchPage, EventEntry, ListQuery, OfferResponse, RoutePoint,
    TripReport,
};
pub use location::{BatchLocation, Location, LocationsTaken, PostLocation, PostLocations};
pub use notification::{EventsQuery, Notification, NotificationBody, NotificationKind};
pub use problem::Problem;
pub use profile::{
    AvailabilityStatus, CurrentStatus, DeviceRegistered, DriverPreferences, DriverProfile, FavoriteLocation,
    PaymentMethod, PutAvailability, PutDevice, PutDriver, PutUser, UserPreferences, UserProfile, VehicleInfo,
};
pub use routes::{Method, ROUTES, Route, Scope};
