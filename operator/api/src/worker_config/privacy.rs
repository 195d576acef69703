//! What drivers see of users, and how long data of rides is kept.

use dispatch_core::privacy::{OfferAddresses, PrivacyPolicy, Retention};
use serde::{Deserialize, Serialize};

/// What drivers see of users, and how long data of rides is kept. A document without it, from an older operator, means
/// the defaults of `spec.privacy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PrivacyConfig {
    /// What a driver sees of a ride before accepting it.
    pub offer_addresses: OfferAddressesConfig,
    /// Time after the end of a ride from which its driver sees less of it, ms.
    pub blur_rides_after_ms: u64,
    /// Time from the end of a dispatch to its expiry, s.
    pub dispatches_kept_s: u64,
    /// Time from the recording of positions to their expiry, s.
    pub routes_kept_s: u64,
    /// Time from an entry of a driver's status history to its expiry, s.
    pub histories_kept_s: u64,
}

/// What a driver sees of a ride before accepting it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OfferAddressesConfig {
    /// The addresses as the user entered them.
    Full,
    /// The districts of the addresses.
    District,
}

impl Default for PrivacyConfig {
    fn default() -> Self {
        Self::from_policy(PrivacyPolicy::default())
    }
}

impl PrivacyConfig {
    /// The rules of a policy.
    pub fn from_policy(policy: PrivacyPolicy) -> Self {
        let PrivacyPolicy { offer_addresses, blur_rides_after_ms, retention } = policy;
        Self {
            offer_addresses: match offer_addresses {
                OfferAddresses::Full => OfferAddressesConfig::Full,
                OfferAddresses::District => OfferAddressesConfig::District,
            },
            blur_rides_after_ms,
            dispatches_kept_s: retention.dispatches_s,
            routes_kept_s: retention.routes_s,
            histories_kept_s: retention.histories_s,
        }
    }

    /// The rules of a validated manifest.
    #[cfg(feature = "crd")]
    pub(super) fn from_spec(spec: &crate::dispatch_system::PrivacySpec) -> Self {
        let days = |days: u32| u64::from(days) * 24 * 60 * 60;
        Self {
            offer_addresses: match spec.offer_addresses {
                crate::dispatch_system::OfferAddresses::Full => OfferAddressesConfig::Full,
                crate::dispatch_system::OfferAddresses::District => OfferAddressesConfig::District,
            },
            blur_rides_after_ms: u64::from(spec.blur_rides_after_hours) * 60 * 60 * 1000,
            dispatches_kept_s: days(spec.retention.dispatch_days),
            routes_kept_s: days(spec.retention.route_days),
            histories_kept_s: days(spec.retention.history_days),
        }
    }

    /// The rules as a policy of `dispatch-core`.
    pub fn policy(self) -> PrivacyPolicy {
        PrivacyPolicy {
            offer_addresses: match self.offer_addresses {
                OfferAddressesConfig::Full => OfferAddresses::Full,
                OfferAddressesConfig::District => OfferAddresses::District,
            },
            blur_rides_after_ms: self.blur_rides_after_ms,
            retention: Retention {
                dispatches_s: self.dispatches_kept_s,
                routes_s: self.routes_kept_s,
                histories_s: self.histories_kept_s,
            },
        }
    }
}
