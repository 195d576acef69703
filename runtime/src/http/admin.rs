//! What the platform asks a process: is it alive, is it ready, what has it counted. Served on a listener of its own, which
//! nothing outside the cluster reaches.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;

use crate::telemetry::metrics::Metrics;

/// Whether a process takes work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It does.
    Ready,
    /// It does not.
    NotReady {
        /// What it waits for: `starting`, `draining`, a resource's name.
        waits_for: &'static str,
    },
}

/// What the admin listener shows.
#[derive(Clone)]
pub struct AdminState {
    /// Readiness, kept current by whoever runs the process.
    pub readiness: watch::Receiver<Readiness>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

/// `/livez`, `/readyz` and `/metrics`.
pub fn admin_router(state: AdminState) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(state)
}

/// Alive as long as the process answers and its loops come round: a dead dependency is no reason to be restarted.
async fn livez(State(state): State<AdminState>) -> Response {
    match state.metrics.silent_loop() {
        None => "ok\n".into_response(),
        Some(name) => {
            tracing::error!(name, "a loop stands still");
            (StatusCode::SERVICE_UNAVAILABLE, format!("{name} stands still\n")).into_response()
        }
    }
}

async fn readyz(State(state): State<AdminState>) -> Response {
    match *state.readiness.borrow() {
        Readiness::Ready if state.metrics.is_shedding() => not_ready("less load"),
        Readiness::Ready => "ok\n".into_response(),
        Readiness::NotReady { waits_for } => not_ready(waits_for),
    }
}

fn not_ready(waits_for: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("waits for {waits_for}\n")).into_response()
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
