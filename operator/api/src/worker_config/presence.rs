//! When drivers become `INACTIVE` without having asked for it.

use dispatch_core::policy::PresencePolicy;
use serde::{Deserialize, Serialize};

/// When drivers become `INACTIVE` without having asked for it. A document without it, from an older operator, means the
/// defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PresenceConfig {
    /// Time without a sign of life, ms.
    pub silent_after_ms: u64,
    /// Consecutive unanswered offers; 0 for any number.
    pub unanswered_offers: u8,
}

impl Default for PresenceConfig {
    fn default() -> Self {
        Self::from_policy(PresencePolicy::default())
    }
}

impl PresenceConfig {
    pub(super) fn from_policy(policy: PresencePolicy) -> Self {
        let PresencePolicy { silent_after_ms, unanswered_offers } = policy;
        Self { silent_after_ms, unanswered_offers }
    }

    pub(super) fn policy(self) -> PresencePolicy {
        PresencePolicy { silent_after_ms: self.silent_after_ms, unanswered_offers: self.unanswered_offers }
    }
}
