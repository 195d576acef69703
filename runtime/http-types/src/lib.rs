//! The HTTP API of Coactus Dispatch: the documents that clients send and receive, and its [routes](ROUTES).
//!
//! These types are separate from the items of the table, because clients must not see keys, push endpoints and index
//! attributes. Requests reject unknown fields. Responses may gain fields, so clients must ignore fields they do not
//! know. Every type implements both `Serialize` and `Deserialize`, so a Rust client can use the same set. Types that
//! hold a position or a phone number do not implement `Debug`, so they cannot reach a log by accident.
//!
//! The doc comments become the descriptions in the OpenAPI document.

mod dispatch;
mod location;
mod notification;
mod operations;
mod person;
mod problem;
mod profile;
mod routes;

pub use dispatch::{
    Answer, CancelDispatch, CreateDispatch, Dispatch, DispatchPage, EventEntry, ListQuery, OfferResponse, RoutePoint,
    TripReport,
};
pub use location::{
    BatchLocation, Location, LocationsTaken, PostLocation, PostLocations, RejectedLocation, StoredLocation,
};
pub use notification::{EventsQuery, Notification, NotificationBody, NotificationKind};
pub use operations::{OperationsOrder, ReleaseOrder, Released, Review, ReviewPage};
pub use person::{ErasureCounts, ErasureReceipt, ExportQuery, ExportedItem, ExportedKind, PersonExport};
pub use problem::Problem;
pub use profile::{
    AvailabilityStatus, CurrentStatus, DeviceRegistered, DriverPreferences, DriverProfile, FavoriteLocation,
    PaymentMethod, PutAvailability, PutDevice, PutDriver, PutUser, UserPreferences, UserProfile, VehicleInfo,
};
pub use routes::{Method, ROUTES, Route, Scope};
