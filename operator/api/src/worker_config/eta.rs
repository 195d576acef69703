//! The part of the worker configuration that says who is asked how long drivers need to a pickup.

use dispatch_core::policy::DispatchPolicy;
use serde::{Deserialize, Serialize};

/// How long drivers need to a pickup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EtaConfig {
    /// Who is asked; without one drivers are ranked by distance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<RouterConfig>,
    /// Time the router has to answer, ms.
    pub timeout_ms: u64,
    /// Drivers it is asked about in one search.
    pub top_k: u8,
}

/// A router that runs somewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouterConfig {
    /// What it is.
    pub kind: RouterKind,
    /// Its address, `http://` or `https://`, without credentials and without a slash at its end.
    pub url: String,
}

/// What a router is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RouterKind {
    /// OSRM: `GET /table/v1/driving/…`.
    #[serde(rename = "OSRM")]
    Osrm,
    /// Valhalla: `POST /sources_to_targets`.
    Valhalla,
}

impl Default for EtaConfig {
    /// What a document of an older operator means.
    fn default() -> Self {
        Self::of(&DispatchPolicy::default())
    }
}

impl EtaConfig {
    /// The numbers of checked rules, and no router.
    pub(super) fn of(policy: &DispatchPolicy) -> Self {
        Self { router: None, timeout_ms: policy.eta_timeout_ms, top_k: policy.eta_top_k }
    }

    /// Whether workers may send positions to the router's address: it is one of HTTP, and has no credentials in it.
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
    pub(super) fn of(spec: &crate::dispatch_system::EtaSpec) -> Option<Self> {
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
