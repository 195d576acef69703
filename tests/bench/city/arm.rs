//! The ways of dispatching that the benchmark compares.

use dispatch_core::policy::DispatchPolicy;

use crate::model::specification_policy;

/// A way of dispatching.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Arm {
    /// The specification's algorithm, literally: all active drivers are read from the table, then asked one after the
    /// other, 120 s each.
    A,
    /// The same with Redis instead of the table.
    B,
    /// Ours with the specification's 120 s.
    C,
    /// Ours with 15 s.
    D,
    /// Ours with 15 s and batched matching every two seconds.
    E,
    /// Offers to five drivers at the same time; the first to accept gets the ride.
    F,
}

/// Where an arm searches for drivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// GSI1.
    Table,
    /// One Redis.
    Redis,
    /// The driver index in the process.
    Index,
}

impl Arm {
    pub(crate) const ALL: [Self; 6] = [Self::A, Self::B, Self::C, Self::D, Self::E, Self::F];

    /// The name in tables and plots.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::A => "A: specification, table",
            Self::B => "B: specification, Redis",
            Self::C => "C: ours, 120 s",
            Self::D => "D: ours, 15 s",
            Self::E => "E: ours, batched",
            Self::F => "F: broadcast to five",
        }
    }

    pub(crate) fn source(self) -> Source {
        match self {
            Self::A => Source::Table,
            Self::B => Source::Redis,
            Self::C | Self::D | Self::E | Self::F => Source::Index,
        }
    }

    /// Whether the arm follows the specification literally.
    pub(crate) fn is_literal(self) -> bool {
        matches!(self, Self::A | Self::B)
    }

    /// Whether the arm reserves a driver before the offer.
    pub(crate) fn reserves(self) -> bool {
        matches!(self, Self::C | Self::D | Self::E)
    }

    /// The rules of the arm. Automatic acceptance is off, so that drivers answer all arms alike.
    pub(crate) fn policy(self) -> DispatchPolicy {
        let ours = DispatchPolicy { auto_accept: false, ..DispatchPolicy::default() };
        match self {
            Self::A | Self::B => specification_policy(),
            Self::C => ours,
            Self::D | Self::E | Self::F => DispatchPolicy { offer_timeout_ms: 15_000, ..ours },
        }
    }
}
