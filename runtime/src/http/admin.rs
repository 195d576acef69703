//! The admin endpoints for liveness, readiness and metrics. They have their own listener, which cannot be reached from
//! outside the cluster.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;

use crate::telemetry::metrics::Metrics;

/// Whether a process accepts work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    NotReady {
        /// The reason: `starting`, `draining`, or the dependency that it waits for, with what it answered.
        waits_for: Cow<'static, str>,
    },
}

/// The state of the admin listener.
#[derive(Clone)]
pub struct AdminState {
    /// Readiness, updated by the process.
    pub readiness: watch::Receiver<Readiness>,
    pub metrics: Arc<Metrics>,
}

/// Serves `/livez`, `/readyz` and `/metrics`.
pub fn admin_router(state: AdminState) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(state)
}

/// Healthy while the process answers and its loops make progress. An unavailable dependency does not count: a restart
/// would not repair it.
async fn livez(State(state): State<AdminState>) -> Response {
    match state.metrics.silent_loop() {
        None => "ok\n".into_response(),
        Some(name) => {
            tracing::error!(name, "a loop makes no progress");
            (StatusCode::SERVICE_UNAVAILABLE, format!("{name} makes no progress\n")).into_response()
        }
    }
}

/// Once ready, a process stays ready until it drains. An overload or a lost dependency concerns all replicas, so it
/// must not take them all out of service; metrics and alerts show it.
async fn readyz(State(state): State<AdminState>) -> Response {
    match &*state.readiness.borrow() {
        Readiness::Ready => "ok\n".into_response(),
        Readiness::NotReady { waits_for } => not_ready(waits_for),
    }
}

fn not_ready(reason: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")).into_response()
}

async fn metrics(State(state): State<AdminState>) -> Response {
    match state.metrics.encode() {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
