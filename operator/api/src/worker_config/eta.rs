//! The part of the worker configuration that determines how driving times are estimated.

use dispatch_core::policy::DispatchPolicy;
use serde::{Deserialize, Serialize};

/// Estimated time from a driver to the pickup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EtaConfig {
    /// The router; without one, drivers are ranked by distance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<RouterConfig>,
    /// Time that a search waits for the router, ms.
    pub timeout_ms: u64,
    /// Number of drivers whose times are requested in one search.
    pub top_k: u8,
}

/// An external router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouterConfig {
    /// Protocol of the router.
    pub kind: RouterKind,
    /// Address, `http://` or `https://`, without credentials and without a trailing slash.
    pub url: String,
}

/// Protocol of a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RouterKind {
    /// OSRM: `GET /table/v1/driving/…`.
    #[serde(rename = "OSRM")]
    Osrm,
    /// Valhalla: `POST /sources_to_targets`.
    Valhalla,
}

impl Default for EtaConfig {
    /// The meaning of a document from an operator without this field.
    fn default() -> Self {
        Self::from_policy(&DispatchPolicy::default())
    }
}

impl EtaConfig {
    /// The numbers of a policy, without a router.
    pub(super) fn from_policy(policy: &DispatchPolicy) -> Self {
        Self { router: None, timeout_ms: policy.eta_timeout_ms, top_k: policy.eta_top_k }
    }

    /// Whether workers may use the address of the router: it is an HTTP address without credentials.
    pub(super) fn is_usable(&self) -> bool {
        let usable = |url: &str| {
            let http = url.starts_with("http://") || url.starts_with("https://");
            http && url.bytes().all(|b| b.is_ascii_graphic()) && !url.contains(['@', '?', '#']) && !url.ends_with('/')
        };
        self.router.as_ref().is_none_or(|router| usable(&router.url))
    }
}

#[cfg(feature = "crd")]
impl RouterConfig {
    /// The router of a validated system.
    pub(super) fn from_spec(spec: &crate::dispatch_system::EtaSpec) -> Option<Self> {
        use crate::dispatch_system::EtaProvider;
        let kind = match spec.provider {
            EtaProvider::StraightLine => return None,
            EtaProvider::Osrm => RouterKind::Osrm,
            EtaProvider::Valhalla => RouterKind::Valhalla,
        };
        let url = spec.url.as_deref()?.trim_end_matches('/').to_owned();
        Some(Self { kind, url })
    }
}
