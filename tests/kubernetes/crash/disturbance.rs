//! What disturbs a run.

/// What happened to the operator of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disturbance {
    /// It was killed at a call.
    Killed,
    /// A call failed, or a response was stale.
    Hindered,
    /// A second operator worked at the same time.
    Crowded,
}
