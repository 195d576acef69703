//! All data of one person: erased or exported.

use std::collections::BTreeMap;

use async_trait::async_trait;
use dispatch_core::ids::DispatchId;
use dispatch_core::time::EpochMs;

use super::error::PortError;
use super::profiles::Person;

/// A kind of stored data of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DataKind {
    /// The profile.
    Profile,
    /// The push endpoint of the device.
    Device,
    /// A dispatch.
    Dispatch,
    /// Recorded positions of a ride.
    Route,
    /// An entry of a history.
    History,
    /// A completed ride of a driver.
    Ride,
    /// An item of another service.
    Other,
}

/// How much of each kind.
pub type Counts = BTreeMap<DataKind, u32>;

/// The result of [`PersonStore::erase_profile`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProfileErasure {
    /// The profile holds nothing of the person any more. `changed` unless it was so before.
    Done { changed: bool },
    /// Refused: the person is on this dispatch.
    OnDispatch(DispatchId),
}

/// A part of a person's data that was erased.
#[derive(Debug, Default)]
pub struct ErasedPage {
    /// What was found.
    pub found: Counts,
    /// The dispatches concerned, whose data outside the table can be removed too.
    pub dispatches: Vec<DispatchId>,
    /// Where the next page begins; `None` if this was the last one.
    pub next: Option<String>,
}

/// The result of [`PersonStore::erase_page`].
#[derive(Debug)]
pub enum PageErasure {
    Done(ErasedPage),
    /// Refused: this dispatch of the person has not ended.
    OpenDispatch(DispatchId),
}

/// The record of an erasure. It contains no personal data except the id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    /// Key of the record: the time of the start.
    pub key: String,
    /// ISO 8601 with the city's offset.
    pub started_at: String,
    /// ISO 8601; `None` while pages are left.
    pub completed_at: Option<String>,
    /// What was found so far.
    pub found: Counts,
    /// Where the next page begins.
    pub next: Option<String>,
}

/// One page of a person's data.
pub struct PersonPage {
    pub items: Vec<(DataKind, serde_json::Value)>,
    /// Where the next page begins; `None` if this was the last one.
    pub next: Option<String>,
}

/// Erases and exports the data of one person. Every call is bounded, and can be repeated.
#[async_trait]
pub trait PersonStore: Send + Sync {
    /// The latest erasure of a person.
    async fn erasure(&self, person: &Person) -> Result<Option<Erasure>, PortError>;

    /// Stores the record of an erasure.
    async fn keep_erasure(&self, person: &Person, erasure: &Erasure) -> Result<(), PortError>;

    /// The dispatch that the person is on, if it has not ended.
    async fn open_dispatch(&self, person: &Person) -> Result<Option<DispatchId>, PortError>;

    /// Removes the phone number, the place, the device and everything else that the person entered from its profile,
    /// which then counts as missing, unless the person is on a dispatch that has not ended.
    async fn erase_profile(&self, person: &Person, now: EpochMs) -> Result<ProfileErasure, PortError>;

    /// Removes places and addresses from a page of the person's dispatches, routes and histories. Fares and times stay.
    async fn erase_page(&self, person: &Person, after: Option<&str>, now: EpochMs) -> Result<PageErasure, PortError>;

    /// A page of everything that is stored about the person.
    async fn export_page(&self, person: &Person, after: Option<&str>) -> Result<PersonPage, PortError>;

    /// Whether a text has the form of a continuation of [`PersonStore::export_page`].
    fn is_continuation(&self, after: &str) -> bool;
}
