//! How concurrent requests are matched with drivers.

use dispatch_core::policy::{MatchingMode, MatchingPolicy};
use serde::{Deserialize, Serialize};

/// How concurrent requests are matched with drivers. A document without it, from an older operator, means mode
/// `Sequential`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MatchingConfig {
    /// Matching mode.
    pub mode: MatchingModeConfig,
    /// Length of the window with mode `Batched`, ms.
    pub window_ms: u64,
}

/// Matching mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MatchingModeConfig {
    /// Requests are matched one by one, as they arrive.
    Sequential,
    /// The requests of a time window are matched together.
    Batched,
}

impl Default for MatchingConfig {
    fn default() -> Self {
        Self::from_policy(MatchingPolicy::default())
    }
}

impl MatchingConfig {
    pub(super) fn from_policy(policy: MatchingPolicy) -> Self {
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
