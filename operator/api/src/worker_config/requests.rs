//! Rules for requests of rides.

use dispatch_core::policy::CancellationPolicy;
use serde::{Deserialize, Serialize};

/// Limits for users who request and cancel. A document without them, from an older operator, means the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CancellationsConfig {
    /// Cancellations within the window that start a cool-down; 0 for none.
    pub cool_down_after: u8,
    /// Length of the window, ms.
    pub window_ms: u64,
    /// Time without new requests after the last of them, ms.
    pub cool_down_ms: u64,
    /// Cancellations of one day after which a user waits for the next day; 0 for any number.
    pub daily_max: u8,
}

impl Default for CancellationsConfig {
    fn default() -> Self {
        Self::from_policy(CancellationPolicy::default())
    }
}

impl CancellationsConfig {
    pub(super) fn from_policy(policy: CancellationPolicy) -> Self {
        let CancellationPolicy { cool_down_after, window_ms, cool_down_ms, daily_max } = policy;
        Self { cool_down_after, window_ms, cool_down_ms, daily_max }
    }

    pub(super) fn policy(self) -> CancellationPolicy {
        let Self { cool_down_after, window_ms, cool_down_ms, daily_max } = self;
        CancellationPolicy { cool_down_after, window_ms, cool_down_ms, daily_max }
    }
}
