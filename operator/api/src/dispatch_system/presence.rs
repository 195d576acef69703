//! `spec.dispatch.presence`: when drivers become `INACTIVE` without having asked for it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When a driver who is `ACTIVE` becomes `INACTIVE` without having asked for it. The driver is notified, and becomes
/// `ACTIVE` again by reporting so. Changes reach running workers without a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PresenceSpec {
    /// Time without a sign of life, in seconds, after which a driver becomes `INACTIVE`, 5 to 86400. Signs of life are
    /// positions and becoming `ACTIVE`. Set it to several times the interval at which the app sends positions. Default
    /// 600.
    #[serde(default = "silent_after")]
    #[schemars(range(min = 5, max = 86_400))]
    pub silent_after_seconds: u32,
    /// Number of consecutive unanswered offers after which a driver becomes `INACTIVE`, 0 to 20. With 0, unanswered
    /// offers have no such consequence. Default 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 20))]
    pub unanswered_offers: u8,
}

impl Default for PresenceSpec {
    fn default() -> Self {
        Self { silent_after_seconds: silent_after(), unanswered_offers: 0 }
    }
}

fn silent_after() -> u32 {
    600
}
