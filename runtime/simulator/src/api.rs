//! The public HTTP API as the simulator uses it: every call counted, bounded in time and number, and repeated while the service
//! is away.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_dev_keys::{Claims, SigningError, SigningKey};
use dispatch_http_types::{
    CancelDispatch, CreateDispatch, Dispatch, DriverProfile, LocationsTaken, OfferResponse, PostLocations,
    PutAvailability, PutDriver, PutUser, TripReport,
};
use reqwest::{Client, ClientBuilder, Method, Response, Url, header};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use crate::args::Args;
use crate::metrics::{Book, CallEnd};
use crate::time::wall_clock;

/// Longest a call may take. The service's own deadline is shorter, so this is a lost connection.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest silence of an event stream: three of the service's heartbeats.
const STREAM_SILENCE: Duration = Duration::from_secs(45);

/// How long a call is repeated while the service is away: longer than a restart takes, shorter than a person waits.
const PATIENCE: Duration = Duration::from_mins(1);

/// The same before the service has answered anything: the address may be wrong.
const PATIENCE_AT_FIRST: Duration = Duration::from_secs(10);

/// First and longest pause between two tries.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Calls under way at once; event streams are not counted. More would measure the queue in front of the service.
const CALLS_MAX: usize = 128;

/// How long a token is good. Each call has a new one, so this is only to outlive the longest patience.
const TOKEN_LIFETIME: Duration = Duration::from_mins(10);

/// Why there is no answer to go on with.
#[derive(Debug, Error)]
pub enum ApiError {
    /// The service was away all the time, or answered nothing but errors.
    #[error("{route} got no answer to go on with")]
    Unreachable {
        /// Method and path.
        route: &'static str,
        /// The last connection error; absent where the service answered with errors of its own.
        #[source]
        source: Option<reqwest::Error>,
    },
    /// The service answered something else than its documents say.
    #[error("the answer to {route} cannot be read")]
    Unreadable {
        /// Method and path.
        route: &'static str,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
    /// Tokens cannot be signed.
    #[error("the tokens of drivers and users cannot be signed")]
    Key(#[from] SigningError),
}

/// An answer.
#[derive(Debug)]
pub enum Reply<T> {
    /// The service did it.
    Done(T),
    /// The service refused, with this status: asking again will not help.
    Refused(u16),
}

/// Whose call it is.
#[derive(Clone, Copy)]
pub enum Speaker<'a> {
    /// A user, by its whole id or by the part behind the prefix.
    User(&'a str),
    /// A driver, likewise.
    Driver(&'a str),
    /// The city's own programs.
    Operations,
}

impl Speaker<'_> {
    fn subject_and_scope(self) -> (String, &'static str) {
        let whole = |prefix: &str, id: &str| format!("{prefix}{}", id.strip_prefix(prefix).unwrap_or(id));
        match self {
            Self::User(id) => (whole(UserId::PREFIX, id), "user"),
            Self::Driver(id) => (whole(DriverId::PREFIX, id), "driver"),
            Self::Operations => ("simulator".to_owned(), "operations"),
        }
    }
}

/// How often a call is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tries {
    /// Until it is answered, for [`PATIENCE`].
    UntilAnswered,
    /// Once: the next one of its kind comes soon.
    Once,
}

/// A call to be made.
struct Call<'a> {
    /// Method and path pattern: the label it is counted under.
    route: &'static str,
    speaker: Speaker<'a>,
    method: Method,
    path: String,
    idempotency_key: Option<&'a str>,
    body: Option<Vec<u8>>,
    tries: Tries,
}

impl<'a> Call<'a> {
    fn new(speaker: Speaker<'a>, route: &'static str, method: Method, path: String) -> Self {
        Self { route, speaker, method, path, idempotency_key: None, body: None, tries: Tries::UntilAnswered }
    }

    fn body(mut self, body: &impl Serialize) -> Self {
        // Documents of strings and finite numbers can always be written; an empty body would be refused by the service.
        self.body = Some(serde_json::to_vec(body).unwrap_or_default());
        self
    }

    fn key(mut self, key: &'a str) -> Self {
        self.idempotency_key = Some(key);
        self
    }

    fn once(mut self) -> Self {
        self.tries = Tries::Once;
        self
    }
}

/// The API.
pub struct Api {
    base: String,
    key: SigningKey,
    calls: Client,
    streams: Client,
    permits: Semaphore,
    book: Arc<Book>,
    /// Whether the service has answered anything yet.
    answered: AtomicBool,
}

impl Api {
    /// The API at the address of the options.
    pub fn new(args: &Args, book: Arc<Book>) -> Result<Self, ApiError> {
        let client = |builder| client(builder, &args.api).map_err(ApiError::Client);
        Ok(Self {
            base: args.api.clone(),
            key: SigningKey::read(&args.signing_key)?,
            calls: client(Client::builder().timeout(CALL_TIMEOUT))?,
            streams: client(Client::builder().read_timeout(STREAM_SILENCE).pool_max_idle_per_host(0))?,
            permits: Semaphore::new(CALLS_MAX),
            book,
            answered: AtomicBool::new(false),
        })
    }

    /// Makes or changes a user.
    pub async fn put_user(&self, suffix: &str, body: &PutUser) -> Result<Reply<()>, ApiError> {
        let path = format!("/v1/users/{suffix}");
        self.act(Call::new(Speaker::User(suffix), "PUT /v1/users/{userId}", Method::PUT, path).body(body)).await
    }

    /// Makes or changes a driver.
    pub async fn put_driver(&self, suffix: &str, body: &PutDriver) -> Result<Reply<()>, ApiError> {
        let path = format!("/v1/drivers/{suffix}");
        self.act(Call::new(Speaker::Driver(suffix), "PUT /v1/drivers/{driverId}", Method::PUT, path).body(body)).await
    }

    /// Makes a driver available or not.
    pub async fn put_availability(&self, suffix: &str, body: &PutAvailability) -> Result<Reply<()>, ApiError> {
        let path = format!("/v1/drivers/{suffix}/availability");
        let route = "PUT /v1/drivers/{driverId}/availability";
        self.act(Call::new(Speaker::Driver(suffix), route, Method::PUT, path).body(body)).await
    }

    /// Reads a driver.
    pub async fn driver(&self, suffix: &str) -> Result<Reply<DriverProfile>, ApiError> {
        let path = format!("/v1/drivers/{suffix}");
        self.call(Call::new(Speaker::Driver(suffix), "GET /v1/drivers/{driverId}", Method::GET, path)).await
    }

    /// Asks for a ride.
    pub async fn create(&self, key: &str, body: &CreateDispatch) -> Result<Reply<Dispatch>, ApiError> {
        let (speaker, path) = (Speaker::User(&body.user_id), "/v1/dispatches".to_owned());
        self.call(Call::new(speaker, "POST /v1/dispatches", Method::POST, path).key(key).body(body)).await
    }

    /// Reads a dispatch as somebody may.
    pub async fn dispatch(&self, speaker: Speaker<'_>, id: &str) -> Result<Reply<Dispatch>, ApiError> {
        let path = format!("/v1/dispatches/{}", suffix(id));
        self.call(Call::new(speaker, "GET /v1/dispatches/{dispatchId}", Method::GET, path)).await
    }

    /// Answers an offer.
    pub async fn respond(&self, id: &str, body: &OfferResponse) -> Result<Reply<Dispatch>, ApiError> {
        let path = format!("/v1/dispatches/{}/response", suffix(id));
        let (speaker, route) = (Speaker::Driver(&body.driver_id), "POST /v1/dispatches/{dispatchId}/response");
        self.call(Call::new(speaker, route, Method::POST, path).body(body)).await
    }

    /// Reports of a trip.
    pub async fn report(&self, id: &str, body: &TripReport) -> Result<Reply<Dispatch>, ApiError> {
        let path = format!("/v1/dispatches/{}/events", suffix(id));
        let (speaker, route) = (Speaker::Driver(&body.driver_id), "POST /v1/dispatches/{dispatchId}/events");
        self.call(Call::new(speaker, route, Method::POST, path).body(body)).await
    }

    /// Cancels a dispatch.
    pub async fn cancel(&self, id: &str, body: &CancelDispatch) -> Result<Reply<Dispatch>, ApiError> {
        let path = format!("/v1/dispatches/{}/cancel", suffix(id));
        let speaker = match (&body.user_id, &body.driver_id) {
            (Some(user), _) => Speaker::User(user),
            (None, driver) => Speaker::Driver(driver.as_deref().unwrap_or_default()),
        };
        self.call(Call::new(speaker, "POST /v1/dispatches/{dispatchId}/cancel", Method::POST, path).body(body)).await
    }

    /// Reports positions, once.
    pub async fn post_locations(&self, body: &PostLocations) -> Result<Reply<LocationsTaken>, ApiError> {
        let path = "/v1/locations/batch".to_owned();
        let call = Call::new(Speaker::Operations, "POST /v1/locations/batch", Method::POST, path);
        self.call(call.body(body).once()).await
    }

    /// Opens the event stream of `driver` or `user`. `None` where that is not possible now.
    pub async fn events(&self, who: &'static str, suffix: &str) -> Option<Response> {
        let route = "GET /v1/events";
        let request = self.streams.get(format!("{}/v1/events", self.base)).query(&[(who, suffix)]);
        let speaker = if who == "driver" { Speaker::Driver(suffix) } else { Speaker::User(suffix) };
        let request = request.bearer_auth(self.token(speaker).ok()?);
        let sent = request.header(header::ACCEPT, "text/event-stream").send().await;
        self.book.call(route, end_of(&sent));
        sent.ok().filter(|response| response.status().is_success())
    }

    async fn act(&self, call: Call<'_>) -> Result<Reply<()>, ApiError> {
        Ok(match self.call::<IgnoredAny>(call).await? {
            Reply::Done(_) => Reply::Done(()),
            Reply::Refused(status) => Reply::Refused(status),
        })
    }

    async fn call<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<Reply<T>, ApiError> {
        let route = call.route;
        let token = self.token(call.speaker)?;
        let began = Instant::now();
        let mut pause = PAUSE;
        loop {
            let source = match self.attempt(&call, &token).await {
                Ok((200..300, body)) => {
                    return serde_json::from_slice(&body)
                        .map(Reply::Done)
                        .map_err(|source| ApiError::Unreadable { route, source });
                }
                Ok((status, _)) if status != 429 && status < 500 => return Ok(Reply::Refused(status)),
                Ok(_) => None,
                Err(error) => Some(error),
            };
            let patience = if self.answered.load(Ordering::Relaxed) { PATIENCE } else { PATIENCE_AT_FIRST };
            if call.tries == Tries::Once || began.elapsed() + pause > patience {
                return Err(ApiError::Unreachable { route, source });
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn attempt(&self, call: &Call<'_>, token: &str) -> Result<(u16, Vec<u8>), reqwest::Error> {
        // The semaphore is never closed; without a permit the call would still be right.
        let _permit = self.permits.acquire().await.ok();
        let mut request = self.calls.request(call.method.clone(), format!("{}{}", self.base, call.path));
        if let Some(key) = call.idempotency_key {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(body) = &call.body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body.clone());
        }
        let sent = request.bearer_auth(token).send().await;
        let answer = match sent {
            Ok(response) => {
                let status = response.status().as_u16();
                response.bytes().await.map(|body| (status, body.to_vec()))
            }
            Err(error) => Err(error),
        };
        let end = match &answer {
            Ok((status, _)) => {
                self.answered.store(true, Ordering::Relaxed);
                CallEnd::Status(*status)
            }
            Err(error) => end_of_error(error),
        };
        self.book.call(call.route, end);
        answer
    }

    fn token(&self, speaker: Speaker<'_>) -> Result<String, SigningError> {
        let (subject, scope) = speaker.subject_and_scope();
        self.key.token(&Claims { subject: &subject, scopes: &[scope], lifetime: TOKEN_LIFETIME }, wall_clock())
    }
}

/// A client for one address. This machine is reached without a proxy, and where there is no TLS, a machine without root
/// certificates will do.
fn client(builder: ClientBuilder, base: &str) -> reqwest::Result<Client> {
    let mut builder = builder.connect_timeout(CALL_TIMEOUT).tcp_nodelay(true);
    if let Ok(url) = Url::parse(base) {
        if url.scheme() == "http" {
            builder = builder.tls_certs_only([]);
        }
        if url.host_str().is_some_and(is_this_machine) {
            builder = builder.no_proxy();
        }
    }
    builder.build()
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn end_of(sent: &Result<Response, reqwest::Error>) -> CallEnd {
    match sent {
        Ok(response) => CallEnd::Status(response.status().as_u16()),
        Err(error) => end_of_error(error),
    }
}

fn end_of_error(error: &reqwest::Error) -> CallEnd {
    if error.is_timeout() { CallEnd::Timeout } else { CallEnd::Connection }
}

/// The part of a dispatch's id that stands in paths.
fn suffix(id: &str) -> &str {
    id.strip_prefix(DispatchId::PREFIX).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_several_names() {
        for host in ["localhost", "127.0.0.1", "[::1]"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["localhost.example.com", "10.0.0.1", "api.example.com"] {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[test]
    fn paths_have_the_id_without_its_prefix() {
        assert_eq!(suffix("dispatch#01JW"), "01JW");
    }
}
