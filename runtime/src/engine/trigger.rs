//! What triggers the algorithm.

/// What triggered a run of the algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// A stream record or a local wake-up: an empty search schedules the next wake-up.
    Event,
    /// A wake-up timer: an empty search schedules the next one. It may arrive any time after the dispatch last changed.
    Wake,
    /// The sweeper, which runs periodically: an empty search schedules nothing.
    Sweep,
}
