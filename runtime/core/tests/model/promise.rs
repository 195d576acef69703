//! The properties of a write that the model checks.

/// A property of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Promise {
    LegalEdge,
    VersionByOne,
    OneLiveOffer,
    OwnNumber,
    AskedOnce,
    AttemptsBounded,
    OnlyTheOfferedDriverAccepts,
    FullTime,
    OnlyItsPeople,
    OneDriverEver,
    NoneFreedTwice,
    RiderNeverRefused,
}
