//! Probes: whether processes and endpoints answer. Every wait is a poll with a deadline.

use std::future::Future;
use std::time::Duration;

use reqwest::Client;
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Pause between two probes of something that is starting.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Longest time of a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Most bytes that are read of a page; the runtime's metrics are a few dozen KiB.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Something did not answer in time. `what` names it with its address.
#[derive(Debug, Error)]
#[error("{what} did not answer within {} s", waited.as_secs())]
pub struct ProbeTimeout {
    pub what: String,
    pub waited: Duration,
}

/// Probes until the answer is yes.
pub(crate) async fn wait_for<F: Future<Output = bool>>(
    what: &str,
    within: Duration,
    mut probe: impl FnMut() -> F,
) -> Result<(), ProbeTimeout> {
    let deadline = Instant::now() + within;
    while !probe().await {
        if Instant::now() >= deadline {
            return Err(ProbeTimeout { what: what.to_owned(), waited: within });
        }
        sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

/// An HTTP client for this machine: no proxy, no TLS (so that no root certificates are needed), short timeouts.
pub(crate) fn client() -> reqwest::Result<Client> {
    Client::builder().no_proxy().tls_certs_only([]).connect_timeout(PROBE_TIMEOUT).timeout(PROBE_TIMEOUT).build()
}

/// Whether a page is answered with a success status.
pub(crate) async fn is_success(client: &Client, url: &str) -> bool {
    matches!(client.get(url).send().await, Ok(response) if response.status().is_success())
}

/// Whether an address answers HTTP, with any status.
pub(crate) async fn is_http(client: &Client, url: &str) -> bool {
    client.get(url).send().await.is_ok()
}

/// The text of a page; `None` without a success status, or if the page is too large.
pub(crate) async fn page(client: &Client, url: &str) -> Option<String> {
    let mut response = client.get(url).send().await.ok().filter(|response| response.status().is_success())?;
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > PAGE_BYTES_MAX {
            return None;
        }
    }
    String::from_utf8(bytes).ok()
}

/// Whether Redis answers at `host:port`. One that asks for a password is alive, and so is one that speaks TLS only: it
/// accepts the connection.
pub(crate) async fn is_redis(address: &str) -> bool {
    let probe = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(b"PING\r\n").await.ok()?;
        let mut first = [0_u8; 8];
        let length = stream.read(&mut first).await.ok()?;
        // A server that is still loading its data set answers `-LOADING`.
        Some(!first[..length].starts_with(b"-LOADING"))
    };
    timeout(PROBE_TIMEOUT, probe).await.ok().flatten().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Answers each connection with fixed bytes once it has read something.
    async fn answering(bytes: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0_u8; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(bytes).await;
            }
        });
        address
    }

    #[tokio::test]
    async fn a_wait_ends_at_its_deadline_and_names_what_did_not_answer() {
        let error = wait_for("redis at 127.0.0.1:1", Duration::ZERO, || async { false }).await.unwrap_err();
        assert_eq!(error.to_string(), "redis at 127.0.0.1:1 did not answer within 0 s");
    }

    #[tokio::test]
    async fn a_wait_ends_when_the_probe_succeeds() {
        let mut probes = 0;
        let probe = || {
            probes += 1;
            let yes = probes == 3;
            async move { yes }
        };
        wait_for("it", Duration::from_secs(10), probe).await.unwrap();
        assert_eq!(probes, 3);
    }

    #[tokio::test]
    async fn redis_is_alive_when_it_answers_and_not_while_it_loads() {
        assert!(is_redis(&answering(b"+PONG\r\n").await).await);
        assert!(is_redis(&answering(b"-NOAUTH Authentication required.\r\n").await).await);
        assert!(!is_redis(&answering(b"-LOADING Redis is loading\r\n").await).await);
        assert!(!is_redis("127.0.0.1:1").await);
    }

    #[tokio::test]
    async fn a_page_counts_only_with_a_status_of_success() {
        let client = client().unwrap();
        let ready = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await;
        let unready = answering(b"HTTP/1.1 503 Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        assert_eq!(page(&client, &format!("http://{ready}/metrics")).await.as_deref(), Some("ok"));
        assert!(is_success(&client, &format!("http://{ready}/readyz")).await);
        assert!(!is_success(&client, &format!("http://{unready}/readyz")).await);
        assert!(is_http(&client, &format!("http://{unready}/")).await);
        assert!(!is_http(&client, "http://127.0.0.1:1/").await);
    }
}
