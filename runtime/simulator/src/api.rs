//! The client of the public HTTP API. Every call is counted, has a timeout and a concurrency limit, and is retried
//! while the service is unavailable.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dispatch_core::dispatch::TripEvent;
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

/// Timeout of a call. It is not shorter than the deadline of the service, so it means a lost connection.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an unused connection is kept: longer than the time between two reports of a driver. All simulated phones
/// share the connections, so a call that is retried would otherwise meet many of a machine that is gone.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// Maximum silence of an event stream: three heartbeats of the service.
const STREAM_SILENCE: Duration = Duration::from_secs(45);

/// How long a call is retried before the first response of the service, when the URL may be wrong.
const PATIENCE_AT_FIRST: Duration = Duration::from_secs(10);

/// First and maximum pause between two attempts.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Maximum concurrent calls, without event streams. More would only measure the queue in front of the service.
const CALLS_MAX: usize = 128;

/// Lifetime of a token. Each call has a new one, which must outlast all retries.
const TOKEN_LIFETIME: Duration = Duration::from_mins(10);

/// Why a call failed.
#[derive(Debug, Error)]
pub enum ApiError {
    /// The service was unavailable, or failed, in every attempt.
    #[error("cannot call {route}: the service does not respond, or responds with 5xx only")]
    Unreachable {
        /// Method and path.
        route: &'static str,
        /// The last connection error; absent if the service responded with an error.
        #[source]
        source: Option<reqwest::Error>,
    },
    /// The service refused every attempt for the moment, and said so; or none reached a server.
    #[error("cannot call {route}: the service is overloaded or unavailable")]
    Unavailable {
        /// Method and path.
        route: &'static str,
    },
    /// The response does not match the API's documents.
    #[error("cannot read the response to {route}")]
    Unreadable {
        /// Method and path.
        route: &'static str,
        #[source]
        source: serde_json::Error,
    },
    #[error("cannot create the HTTP client")]
    Client(#[source] reqwest::Error),
    #[error("cannot sign the tokens of drivers and users")]
    Key(#[from] SigningError),
}

/// The response to a call.
#[derive(Debug)]
pub(crate) enum Reply<T> {
    /// The call succeeded.
    Done(T),
    /// The service refused the call with this status; a retry would not help.
    Refused(u16),
}

/// The caller of a call.
#[derive(Clone, Copy)]
pub(crate) enum Speaker<'a> {
    /// A user, by its id with or without the prefix.
    User(&'a str),
    /// A driver, by its id with or without the prefix.
    Driver(&'a str),
    Payments,
    Operations,
}

impl Speaker<'_> {
    fn subject_and_scope(self) -> (String, &'static str) {
        let whole = |prefix: &str, id: &str| format!("{prefix}{}", id.strip_prefix(prefix).unwrap_or(id));
        match self {
            Self::User(id) => (whole(UserId::PREFIX, id), "user"),
            Self::Driver(id) => (whole(DriverId::PREFIX, id), "driver"),
            Self::Payments => ("payments".to_owned(), "payments"),
            Self::Operations => ("simulator".to_owned(), "operations"),
        }
    }
}

/// How often a call is attempted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tries {
    /// Until the service responds, for at most `--patience`.
    UntilAnswered,
    /// Once, because the next call of its kind follows soon.
    Once,
}

/// An attempt that did not succeed.
#[derive(Clone, Copy)]
enum Attempt {
    /// The service responded with this status.
    Answered(u16),
    /// No connection was made.
    NotSent,
    /// Sent, without a response.
    Lost,
}

/// What the attempts of a call say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Outage {
    /// Nothing was done: the service refused each attempt for the moment, as documented, or received none.
    #[default]
    Refused,
    /// An attempt may have had an effect, or failed as none should.
    Unknown,
}

impl Outage {
    fn note(&mut self, attempt: Attempt) {
        // A response to a later attempt with the same key would be that of the first one.
        if !matches!(attempt, Attempt::Answered(429 | 503) | Attempt::NotSent) {
            *self = Self::Unknown;
        }
    }
}

struct Call<'a> {
    /// Method and path pattern, under which the call is counted.
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
        // Documents of strings and finite numbers can always be serialized; the service would reject an empty body.
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

pub(crate) struct Api {
    base: String,
    key: SigningKey,
    calls: Client,
    streams: Client,
    permits: Semaphore,
    book: Arc<Book>,
    /// Whether the service has responded to any call yet.
    answered: AtomicBool,
    /// How long a call is retried while the service is unavailable.
    patience: Duration,
}

impl Api {
    pub(crate) fn new(args: &Args, book: Arc<Book>) -> Result<Self, ApiError> {
        let client = |builder| client(builder, &args.api).map_err(ApiError::Client);
        Ok(Self {
            base: args.api.clone(),
            key: SigningKey::read(&args.signing_key)?,
            calls: client(Client::builder().timeout(CALL_TIMEOUT).pool_idle_timeout(IDLE_MAX))?,
            streams: client(Client::builder().read_timeout(STREAM_SILENCE).pool_max_idle_per_host(0))?,
            permits: Semaphore::new(CALLS_MAX),
            book,
            answered: AtomicBool::new(false),
            patience: args.patience,
        })
    }

    /// Creates or replaces a user's profile.
    pub(crate) async fn put_user(&self, suffix: &str, body: &PutUser) -> Result<Reply<()>, ApiError> {
        let path = format!("/v1/users/{suffix}");
        self.act(Call::new(Speaker::User(suffix), "PUT /v1/users/{userId}", Method::PUT, path).body(body)).await
    }

    /// Creates or replaces a driver's profile.
    pub(crate) async fn put_driver(&self, suffix: &str, body: &PutDriver) -> Result<Reply<()>, ApiError> {
        let path = format!("/v1/drivers/{suffix}");
        self.act(Call::new(Speaker::Driver(suffix), "PUT /v1/drivers/{driverId}", Method::PUT, path).body(body)).await
    }

    /// Makes a driver available or unavailable.
    pub(crate) async fn put_availability(&self, suffix: &str, body: &PutAvailability) -> Result<Reply<()>, ApiError> {
        let path = format!("/v1/drivers/{suffix}/availability");
        let route = "PUT /v1/drivers/{driverId}/availability";
        self.act(Call::new(Speaker::Driver(suffix), route, Method::PUT, path).body(body)).await
    }

    /// Reads a driver's profile.
    pub(crate) async fn driver(&self, suffix: &str) -> Result<Reply<DriverProfile>, ApiError> {
        let path = format!("/v1/drivers/{suffix}");
        self.call(Call::new(Speaker::Driver(suffix), "GET /v1/drivers/{driverId}", Method::GET, path)).await
    }

    /// Requests a ride.
    pub(crate) async fn create(&self, key: &str, body: &CreateDispatch) -> Result<Reply<Dispatch>, ApiError> {
        let (speaker, path) = (Speaker::User(&body.user_id), "/v1/dispatches".to_owned());
        self.call(Call::new(speaker, "POST /v1/dispatches", Method::POST, path).key(key).body(body)).await
    }

    /// Reads a dispatch as the given caller.
    pub(crate) async fn dispatch(&self, speaker: Speaker<'_>, id: &str) -> Result<Reply<Dispatch>, ApiError> {
        let path = format!("/v1/dispatches/{}", suffix(id));
        self.call(Call::new(speaker, "GET /v1/dispatches/{dispatchId}", Method::GET, path)).await
    }

    /// Answers an offer.
    pub(crate) async fn respond(&self, id: &str, body: &OfferResponse) -> Result<Reply<Dispatch>, ApiError> {
        let path = format!("/v1/dispatches/{}/response", suffix(id));
        let (speaker, route) = (Speaker::Driver(&body.driver_id), "POST /v1/dispatches/{dispatchId}/response");
        self.call(Call::new(speaker, route, Method::POST, path).body(body)).await
    }

    /// Reports progress on a ride as its driver, and the payment as the city's payment service would.
    pub(crate) async fn report(&self, id: &str, body: &TripReport) -> Result<Reply<Dispatch>, ApiError> {
        let path = format!("/v1/dispatches/{}/events", suffix(id));
        let is_payment = body.event_type == TripEvent::PaymentCompleted;
        let speaker = if is_payment { Speaker::Payments } else { Speaker::Driver(&body.driver_id) };
        let route = "POST /v1/dispatches/{dispatchId}/events";
        self.call(Call::new(speaker, route, Method::POST, path).body(body)).await
    }

    /// Cancels a dispatch.
    pub(crate) async fn cancel(&self, id: &str, body: &CancelDispatch) -> Result<Reply<Dispatch>, ApiError> {
        let path = format!("/v1/dispatches/{}/cancel", suffix(id));
        let speaker = match (&body.user_id, &body.driver_id) {
            (Some(user), _) => Speaker::User(user),
            (None, driver) => Speaker::Driver(driver.as_deref().unwrap_or_default()),
        };
        self.call(Call::new(speaker, "POST /v1/dispatches/{dispatchId}/cancel", Method::POST, path).body(body)).await
    }

    /// Reports positions, without retries.
    pub(crate) async fn post_locations(&self, body: &PostLocations) -> Result<Reply<LocationsTaken>, ApiError> {
        let path = "/v1/locations/batch".to_owned();
        let call = Call::new(Speaker::Operations, "POST /v1/locations/batch", Method::POST, path);
        self.call(call.body(body).once()).await
    }

    /// Opens the event stream of a `driver` or `user`. `None` if it cannot be opened now.
    pub(crate) async fn events(&self, who: &'static str, suffix: &str) -> Option<Response> {
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
        let mut outage = Outage::default();
        loop {
            let source = match self.attempt(&call, &token).await {
                Ok((200..300, body)) => {
                    return serde_json::from_slice(&body)
                        .map(Reply::Done)
                        .map_err(|source| ApiError::Unreadable { route, source });
                }
                Ok((status, _)) if status != 429 && status < 500 => return Ok(Reply::Refused(status)),
                Ok((status, _)) => {
                    outage.note(Attempt::Answered(status));
                    None
                }
                Err(error) => {
                    outage.note(if error.is_connect() { Attempt::NotSent } else { Attempt::Lost });
                    Some(error)
                }
            };
            let patience = if self.answered.load(Ordering::Relaxed) { self.patience } else { PATIENCE_AT_FIRST };
            if call.tries == Tries::Once || began.elapsed() + pause > patience {
                return Err(match outage {
                    Outage::Refused => ApiError::Unavailable { route },
                    Outage::Unknown => ApiError::Unreachable { route, source },
                });
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn attempt(&self, call: &Call<'_>, token: &str) -> Result<(u16, Vec<u8>), reqwest::Error> {
        // The semaphore is never closed, so this always returns a permit.
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

/// A client for one URL. A service on this machine is called without a proxy. Without TLS no root certificates are
/// loaded, because the machine may have none.
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

/// The part of a dispatch's id that is used in paths.
fn suffix(id: &str) -> &str {
    id.strip_prefix(DispatchId::PREFIX).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine_are_recognized() {
        for host in ["localhost", "127.0.0.1", "[::1]"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["localhost.example.com", "10.0.0.1", "api.example.com"] {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[test]
    fn an_outage_refuses_what_had_no_effect() {
        use Attempt::{Answered, Lost, NotSent};
        let outage = |attempts: &[Attempt]| {
            let mut outage = Outage::default();
            for attempt in attempts {
                outage.note(*attempt);
            }
            outage
        };
        for refused in [&[Answered(503)][..], &[Answered(429), Answered(503), NotSent], &[NotSent, NotSent]] {
            assert_eq!(outage(refused), Outage::Refused);
        }
        // A request that was sent may be stored, and 500 is never the right answer.
        for unknown in [&[Lost][..], &[Lost, Answered(503)], &[Answered(503), Answered(500)], &[Answered(504)]] {
            assert_eq!(outage(unknown), Outage::Unknown);
        }
    }

    #[test]
    fn paths_contain_the_id_without_its_prefix() {
        assert_eq!(suffix("dispatch#01JW"), "01JW");
    }
}
