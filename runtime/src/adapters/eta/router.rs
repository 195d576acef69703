//! An HTTP client for one router.

use std::time::Duration;

use dispatch_api::worker_config::{RouterConfig, RouterKind};
use dispatch_core::geo::Coordinate;
use reqwest::StatusCode;

use crate::adapters::eta::error::RouterError;
use crate::adapters::eta::{osrm, valhalla};

/// Longest response, bytes: 50 drivers with everything OSRM and Valhalla return take less than a third.
const RESPONSE_BYTES_MAX: usize = 64 * 1024;
/// Longest plausible driving time, s: a driver a day away is not on the way to a pickup.
const SECONDS_MAX: f64 = 86_400.0;

/// An external router.
pub struct Router {
    client: reqwest::Client,
    config: RouterConfig,
}

impl Router {
    /// A client for the configured router. No call is made before the first request. Redirects are not followed, and
    /// plain HTTP, which stays inside the city's network, uses no proxy.
    pub fn new(config: RouterConfig) -> Result<Self, RouterError> {
        let builder =
            reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).retry(reqwest::retry::never());
        let plain = config.url.starts_with("http://");
        let builder = if plain { builder.no_proxy().tls_certs_only([]) } else { builder };
        let client = builder.build().map_err(|error| RouterError::Client(error.without_url()))?;
        Ok(Self { client, config })
    }

    /// The configuration of this client.
    pub(super) fn config(&self) -> &RouterConfig {
        &self.config
    }

    /// Driving times (s) from each place to `to`, for at least one place, `None` if there is no route; within
    /// `timeout`, including the connection.
    pub async fn seconds(
        &self,
        from: &[Coordinate],
        to: Coordinate,
        timeout: Duration,
    ) -> Result<Vec<Option<u32>>, RouterError> {
        let base = &self.config.url;
        let request = match self.config.kind {
            RouterKind::Osrm => self.client.get(osrm::address(base, from, to)),
            RouterKind::Valhalla => self.client.post(valhalla::address(base)).json(&valhalla::request(from, to)),
        };
        let document = read(request.timeout(timeout)).await?;
        let rows = match self.config.kind {
            RouterKind::Osrm => osrm::rows(&document)?,
            RouterKind::Valhalla => valhalla::rows(&document)?,
        };
        if rows.len() != from.len() {
            return Err(RouterError::Size);
        }
        rows.into_iter()
            .map(|row| <[Option<f64>; 1]>::try_from(row).map(|[time]| time.and_then(whole)))
            .collect::<Result<_, _>>()
            .map_err(|_| RouterError::Size)
    }
}

async fn read(request: reqwest::RequestBuilder) -> Result<Vec<u8>, RouterError> {
    let mut response = request.send().await?;
    if response.status() != StatusCode::OK {
        return Err(RouterError::Status(response.status().as_u16()));
    }
    let mut document = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if document.len() + chunk.len() > RESPONSE_BYTES_MAX {
            return Err(RouterError::TooLong);
        }
        document.extend_from_slice(&chunk);
    }
    Ok(document)
}

/// Whole seconds; `None` for an implausible value.
fn whole(seconds: f64) -> Option<u32> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "inside the range of a day")]
    (0.0..=SECONDS_MAX).contains(&seconds).then(|| seconds.round() as u32)
}
