//! The router of the city's settings, which may change while the process runs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use dispatch_api::worker_config::RouterConfig;
use dispatch_core::geo::Coordinate;
use thiserror::Error;
use tokio::time::Instant;

use super::breaker::Breaker;
use super::error::RouterError;
use super::router::Router;
use super::straight_line::StraightLine;
use crate::city::City;
use crate::ports::{Eta, PortError};
use crate::telemetry::metrics::Metrics;

const ACTION: &str = "asking the router";

/// It failed too often in a row and is left alone for a while.
#[derive(Debug, Error)]
#[error("the router failed too often in a row")]
struct LeftAlone;

struct Current {
    router: Router,
    breaker: Breaker,
}

/// Asks the router that the settings name, with the time they give it; the straight line where they name none.
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

    /// The router of these settings: the one at hand, or a new one where they changed.
    fn current(&self, config: &RouterConfig) -> Result<Arc<Current>, RouterError> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
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
            error if error.is_of_the_question() => "refused",
            _ => "failed",
        };
        self.metrics.eta_request(outcome);
        if error.is_of_the_question() {
            breaker.succeeded();
        } else {
            breaker.failed();
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            // As often as the breaker lets it happen.
            tracing::warn!(%error, cause, "drivers are ranked by distance");
        }
        failed(error)
    }
}

fn failed(error: RouterError) -> PortError {
    let may_pass = error.may_pass();
    let source = error.into();
    if may_pass {
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
        if !current.breaker.lets_through() {
            self.metrics.eta_request("left_alone");
            return Err(PortError::Unavailable { action: ACTION, source: LeftAlone.into() });
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
