//! How requests get their drivers.

use dispatch_core::policy::{MatchingMode, MatchingPolicy};
use serde::{Deserialize, Serialize};

/// How requests get their drivers; a document without it, of an operator that knew of one way only, means that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MatchingConfig {
    /// One by one, or together.
    pub mode: MatchingModeConfig,
    /// Time requests are gathered for, ms.
    pub window_ms: u64,
}

/// The two modes of matching.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MatchingModeConfig {
    /// One by one, as they come.
    Sequential,
    /// Those of a window together.
    Batched,
}

impl Default for MatchingConfig {
    fn default() -> Self {
        Self::of(MatchingPolicy::default())
    }
}

impl MatchingConfig {
    pub(super) fn of(policy: MatchingPolicy) -> Self {
        let mode = match policy.mode {
            MatchingMode::Sequential => MatchingModeConfig::Sequential,
            MatchingMode::Batched => MatchingModeConfig::Batched,
        };
        Self { mode, window_ms: policy.window_ms }
    }

    pub(super) fn policy(self) -> MatchingPolicy {
        let mode = match self.mode {
            MatchingModeConfig::Sequential => MatchingMode::Sequential,
            MatchingModeConfig::Batched => MatchingMode::Batched,
        };
        MatchingPolicy { mode, window_ms: self.window_ms }
    }
}
