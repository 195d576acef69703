//! The router of the city's settings, which may change while the process runs.

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dispatch_api::worker_config::RouterConfig;
use dispatch_core::geo::Coordinate;
use thiserror::Error;
use tokio::time::Instant;

use crate::adapters::eta::breaker::Breaker;
use crate::adapters::eta::error::RouterError;
use crate::adapters::eta::router::Router;
use crate::adapters::eta::straight_line::StraightLine;
use crate::city::City;
use crate::ports::{Eta, PortError};
use crate::telemetry::metrics::Metrics;

const ACTION: &str = "asking the router";

/// The circuit breaker is open.
#[derive(Debug, Error)]
#[error("the router failed repeatedly; the circuit breaker is open")]
struct BreakerOpen;

struct Current {
    router: Router,
    breaker: Breaker,
}

/// Calls the router of the settings within their time-out; uses the straight line if they have none.
pub struct Routers {
    city: City,
    metrics: Arc<Metrics>,
    straight_line: StraightLine,
    current: Mutex<Option<Arc<Current>>>,
}

impl Routers {
    /// The routers of a city.
    pub fn new(city: City, metrics: Arc<Metrics>) -> Self {
        Self { straight_line: StraightLine::new(city.clone()), city, metrics, current: Mutex::default() }
    }

    /// Returns the router of these settings: the current one, or a new one if they changed.
    fn current(&self, config: &RouterConfig) -> Result<Arc<Current>, RouterError> {
        let mut current = self.current.lock();
        if let Some(known) = current.as_ref().filter(|known| known.router.config() == config) {
            return Ok(Arc::clone(known));
        }
        let made = Arc::new(Current { router: Router::new(config.clone())?, breaker: Breaker::default() });
        *current = Some(Arc::clone(&made));
        Ok(made)
    }

    fn failure(&self, error: RouterError, breaker: &Breaker) -> PortError {
        let outcome = match &error {
            RouterError::TimedOut => "timed_out",
            error if error.is_request_error() => "refused",
            _ => "failed",
        };
        self.metrics.eta_request(outcome);
        if error.is_request_error() {
            breaker.succeeded();
        } else {
            breaker.failed();
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            // The breaker limits the rate of this line.
            tracing::warn!(%error, cause, "the router failed; ranking drivers by distance");
        }
        failed(error)
    }
}

fn failed(error: RouterError) -> PortError {
    let is_transient = error.is_transient();
    let source = error.into();
    if is_transient {
        PortError::Unavailable { action: ACTION, source }
    } else {
        PortError::Failed { action: ACTION, source }
    }
}

#[async_trait]
impl Eta for Routers {
    async fn seconds(&self, from: &[Coordinate], to: Coordinate) -> Result<Vec<Option<u32>>, PortError> {
        let settings = self.city.settings();
        let Some(config) = &settings.router else { return self.straight_line.seconds(from, to).await };
        if from.is_empty() {
            return Ok(Vec::new());
        }
        let current = self.current(config).map_err(failed)?;
        if !current.breaker.allows_request() {
            self.metrics.eta_request("left_alone");
            return Err(PortError::Unavailable { action: ACTION, source: BreakerOpen.into() });
        }
        let (began, timeout) = (Instant::now(), Duration::from_millis(settings.policy.eta_timeout_ms));
        let answer = current.router.seconds(from, to, timeout).await;
        self.metrics.eta_took(began.elapsed());
        match answer {
            Ok(seconds) => {
                current.breaker.succeeded();
                self.metrics.eta_request("answered");
                Ok(seconds)
            }
            Err(error) => Err(self.failure(error, &current.breaker)),
        }
    }
}
