//! The ways of dispatching that are compared.

use dispatch_core::policy::DispatchPolicy;

use crate::model::seed_policy;

/// A way of dispatching.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arm {
    /// The seed, literally: the whole list of active drivers from the table, one driver after the other, 120 s each.
    A,
    /// The same with Redis instead of the table.
    B,
    /// Ours with the seed's 120 s.
    C,
    /// Ours with 15 s.
    D,
    /// Ours with 15 s, requests matched together every two seconds.
    E,
    /// Five drivers at once, the first to accept has it.
    F,
}

/// Where an arm looks for drivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// GSI1.
    Table,
    /// One Redis.
    Redis,
    /// The index in the process.
    Index,
}

impl Arm {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::A, Self::B, Self::C, Self::D, Self::E, Self::F];

    /// Its name in tables and plots.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "A: seed, table",
            Self::B => "B: seed, Redis",
            Self::C => "C: ours, 120 s",
            Self::D => "D: ours, 15 s",
            Self::E => "E: ours, batched",
            Self::F => "F: broadcast to five",
        }
    }

    /// Where it looks for drivers.
    pub fn source(self) -> Source {
        match self {
            Self::A => Source::Table,
            Self::B => Source::Redis,
            Self::C | Self::D | Self::E | Self::F => Source::Index,
        }
    }

    /// Whether it follows the seed's text to the letter.
    pub fn is_literal(self) -> bool {
        matches!(self, Self::A | Self::B)
    }

    /// Whether it reserves a driver before it asks.
    pub fn reserves(self) -> bool {
        matches!(self, Self::C | Self::D | Self::E)
    }

    /// Its rules. Nobody accepts by itself in the trace, so that all arms ask the same drivers the same.
    pub fn policy(self) -> DispatchPolicy {
        let ours = DispatchPolicy { auto_accept: false, ..DispatchPolicy::default() };
        match self {
            Self::A | Self::B => seed_policy(),
            Self::C => ours,
            Self::D | Self::E | Self::F => DispatchPolicy { offer_timeout_ms: 15_000, ..ours },
        }
    }
}
