//! Whether things answer. Every wait here is a poll with a deadline.

use std::future::Future;
use std::time::Duration;

use reqwest::Client;
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Pause between two looks at something that is starting.
const POLL: Duration = Duration::from_millis(50);

/// Longest time one look may take.
const LOOK: Duration = Duration::from_secs(2);

/// Most bytes of a page that are read; the runtime's metrics are a few dozen KiB.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Something did not answer in time.
#[derive(Debug, Error)]
#[error("{what} did not answer within {} s", waited.as_secs())]
pub struct NotInTime {
    /// What, with its address.
    pub what: String,
    /// How long it was waited for.
    pub waited: Duration,
}

/// Polls until the probe says yes.
pub async fn wait_for<F: Future<Output = bool>>(
    what: &str,
    within: Duration,
    mut probe: impl FnMut() -> F,
) -> Result<(), NotInTime> {
    let deadline = Instant::now() + within;
    while !probe().await {
        if Instant::now() >= deadline {
            return Err(NotInTime { what: what.to_owned(), waited: within });
        }
        sleep(POLL).await;
    }
    Ok(())
}

/// An HTTP client for this machine's addresses: no proxy, no TLS (so that no root certificates are needed), short timeouts.
pub fn client() -> reqwest::Result<Client> {
    Client::builder().no_proxy().tls_certs_only([]).connect_timeout(LOOK).timeout(LOOK).build()
}

/// Whether a page answers with a status of success.
pub async fn serves(client: &Client, url: &str) -> bool {
    matches!(client.get(url).send().await, Ok(response) if response.status().is_success())
}

/// Whether anything speaks HTTP there. Which page an endpoint has is its own affair.
pub async fn speaks_http(client: &Client, url: &str) -> bool {
    client.get(url).send().await.is_ok()
}

/// A page, where it is there and not too large.
pub async fn page(client: &Client, url: &str) -> Option<String> {
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

/// Whether Redis answers at `host:port`. One that asks for a password is alive, and so is one that speaks TLS only: it takes
/// the connection.
pub async fn redis_answers(address: &str) -> bool {
    let look = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(b"PING\r\n").await.ok()?;
        let mut first = [0_u8; 8];
        let length = stream.read(&mut first).await.ok()?;
        // A server that still loads its data set says `-LOADING`.
        Some(!first[..length].starts_with(b"-LOADING"))
    };
    timeout(LOOK, look).await.ok().flatten().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Answers each connection with fixed bytes after it has read something.
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
    async fn a_wait_ends_when_the_probe_says_yes() {
        let mut looks = 0;
        let probe = || {
            looks += 1;
            let yes = looks == 3;
            async move { yes }
        };
        wait_for("it", Duration::from_secs(10), probe).await.unwrap();
        assert_eq!(looks, 3);
    }

    #[tokio::test]
    async fn redis_is_alive_when_it_answers_and_not_while_it_loads() {
        assert!(redis_answers(&answering(b"+PONG\r\n").await).await);
        assert!(redis_answers(&answering(b"-NOAUTH Authentication required.\r\n").await).await);
        assert!(!redis_answers(&answering(b"-LOADING Redis is loading\r\n").await).await);
        assert!(!redis_answers("127.0.0.1:1").await);
    }

    #[tokio::test]
    async fn a_page_counts_only_with_a_status_of_success() {
        let client = client().unwrap();
        let ready = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await;
        let unready = answering(b"HTTP/1.1 503 Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        assert_eq!(page(&client, &format!("http://{ready}/metrics")).await.as_deref(), Some("ok"));
        assert!(serves(&client, &format!("http://{ready}/readyz")).await);
        assert!(!serves(&client, &format!("http://{unready}/readyz")).await);
        assert!(speaks_http(&client, &format!("http://{unready}/")).await);
        assert!(!speaks_http(&client, "http://127.0.0.1:1/").await);
    }
}
