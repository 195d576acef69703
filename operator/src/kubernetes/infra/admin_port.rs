//! Asks a worker what it waits for. Its admin port answers everybody, so nothing is sent but the request itself.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::engine::plan::workers::ADMIN_PORT;

/// Time for connection and answer. A worker that waits is idle.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Longest answer that is read, in bytes.
const BODY_MAX: usize = 4096;

/// Why a worker did not say what it waits for. The next reconcile asks again.
#[derive(Debug, Error)]
pub enum AskError {
    /// The Pod has no usable address.
    #[error("the address is invalid")]
    Address(#[from] std::net::AddrParseError),
    /// The admin port does not accept connections.
    #[error("cannot connect to the admin port")]
    Connect(#[from] std::io::Error),
    /// The connection failed during the exchange.
    #[error("cannot ask over the connection")]
    Exchange(#[from] hyper::Error),
    /// The request cannot be made, or the answer is too long.
    #[error("cannot read the answer")]
    Read(#[from] axum::Error),
    /// The address cannot be a header.
    #[error("cannot write the request")]
    Request(#[from] axum::http::Error),
    /// No answer in time.
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    TimedOut(#[from] tokio::time::error::Elapsed),
}

/// The body of `/readyz` of a worker that is not ready; `None` if it is ready, or is no worker.
pub async fn readiness(address: &str) -> Result<Option<String>, AskError> {
    let address = SocketAddr::new(address.parse::<IpAddr>()?, ADMIN_PORT);
    timeout(TIMEOUT, ask(address)).await?
}

async fn ask(address: SocketAddr) -> Result<Option<String>, AskError> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let _driving = AbortOnDropHandle::new(tokio::spawn(connection));
    let request = Request::get("/readyz").header(header::HOST, address.to_string()).body(Body::empty())?;
    let answer = sender.send_request(request).await?;
    if answer.status() != StatusCode::SERVICE_UNAVAILABLE {
        return Ok(None);
    }
    let body = to_bytes(Body::new(answer.into_body()), BODY_MAX).await?;
    Ok(Some(String::from_utf8_lossy(&body).into_owned()))
}
