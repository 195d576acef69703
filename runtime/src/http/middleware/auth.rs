//! Authentication and authorization of the caller.
//!
//! Every request passes [`authenticate`] before its handler. Handlers take one of the extractors of this module, which
//! check the scope before the body is read, and pass the caller's own id to the engine. What belongs to another caller
//! is answered like what does not exist, with 404. 403 is for callers without the scope, whose request would fail
//! whatever it named.

use std::time::Duration;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use dispatch_core::ids::{DriverId, UserId};
use dispatch_core::time::EpochMs;
use dispatch_http_types::Scope;

use crate::auth::{AuthError, Authenticator, Principal};
use crate::http::middleware::limits::Admitted;
use crate::http::middleware::rate_limit::Subject;
use crate::http::middleware::request::refused;
use crate::http::middleware::trail::Trail;
use crate::http::problem::{ApiError, RETRY_AFTER_S};
use crate::http::state::AppState;
use crate::ports::{Person, StoredDispatch};

/// Admits requests with a valid token, within the rate limit of the caller.
pub(in crate::http) async fn authenticate(State(app): State<AppState>, mut request: Request, next: Next) -> Response {
    let admitted = request.extensions().get::<Admitted>().cloned();
    match known(&app, request.headers(), admitted).await {
        Ok(principal) => {
            // Operations callers act for many people.
            let share = if principal.operations { None } else { app.admission.person(&principal.subject) };
            if share.is_none() && !principal.operations {
                return ApiError::TooMany { after_s: RETRY_AFTER_S }.into_response();
            }
            request.extensions_mut().insert(Caller { principal, trail: Trail::default() });
            let response = next.run(request).await;
            drop(share);
            response
        }
        Err(error) => error.into_response(),
    }
}

async fn known(app: &AppState, headers: &HeaderMap, admitted: Option<Admitted>) -> Result<Principal, ApiError> {
    let token = bearer(headers).ok_or(ApiError::Unauthenticated { given: false })?;
    let authenticator = &app.access.authenticator;
    let token = Authenticator::read(token).map_err(rejected)?;
    if !authenticator.has_key_of(&token) {
        // Anyone can name an unknown key, so the wait for the issuer must not take a place from others.
        wait_outside(app, admitted, authenticator.fetch_keys()).await?;
    }
    let principal = authenticator.verify(&token, app.engine.ports.clock.now()).map_err(rejected)?;
    if !principal.is_for(&app.engine.city.name) {
        return Err(rejected(AuthError::Refused("it is for another city")));
    }
    let subject = if principal.is_staff() {
        Subject::Operations(&principal.subject)
    } else {
        Subject::Person(&principal.subject)
    };
    app.access.rates.take_subject(subject).map_err(|after_s| ApiError::TooMany { after_s })?;
    Ok(principal)
}

fn rejected(error: AuthError) -> ApiError {
    match error {
        AuthError::Refused(reason) => {
            tracing::info!(reason, "token rejected");
            ApiError::Unauthenticated { given: true }
        }
        AuthError::NoKeys => ApiError::NoKeys,
    }
}

/// Waits without a place among the concurrent requests.
async fn wait_outside(
    app: &AppState,
    admitted: Option<Admitted>,
    wait: impl Future<Output = ()>,
) -> Result<(), ApiError> {
    let Some(admitted) = admitted else {
        wait.await;
        return Ok(());
    };
    admitted.leave();
    wait.await;
    admitted.return_to(&app.admission).map_err(|exceeded| refused(app, exceeded))
}

/// The only bearer token of a request (RFC 6750, section 2.1). Tokens in queries and bodies are ignored.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (only, another) = (given.next()?, given.next());
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    let token = token.trim_matches(' ');
    (another.is_none() && scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// A caller with any scope.
#[derive(Clone)]
pub(crate) struct Caller {
    principal: Principal,
    /// The other persons whose data this request concerns.
    trail: Trail,
}

impl Caller {
    /// The caller's id as a user; 403 if the token lacks the scope.
    pub(crate) fn user(&self) -> Result<&UserId, ApiError> {
        self.principal.user.as_ref().ok_or(ApiError::Forbidden { needs: Scope::User })
    }

    /// The caller's id as a driver; 403 if the token lacks the scope.
    pub(crate) fn driver(&self) -> Result<&DriverId, ApiError> {
        self.principal.driver.as_ref().ok_or(ApiError::Forbidden { needs: Scope::Driver })
    }

    /// Fails with 403 unless the caller may report payments.
    pub(crate) fn may_report_payments(&self) -> Result<(), ApiError> {
        if self.principal.is_staff() { Ok(()) } else { Err(ApiError::Forbidden { needs: Scope::Payments }) }
    }

    /// The issuer's id of the caller.
    pub(crate) fn subject(&self) -> &str {
        &self.principal.subject
    }

    /// The time until the caller's token expires.
    pub(crate) fn good_for(&self, now: EpochMs) -> Duration {
        Duration::from_millis(self.principal.good_until.since_ms(now))
    }

    /// Fails with 404 unless the caller is this person.
    pub(crate) fn must_be(&self, person: &Person) -> Result<(), ApiError> {
        let (is, what) = match person {
            Person::User(id) => (self.user()? == id, "user"),
            Person::Driver(id) => (self.driver()? == id, "driver"),
        };
        if is {
            return Ok(());
        }
        self.note(person.as_str());
        Err(ApiError::NotFound { what })
    }

    /// Fails with 404 unless the caller is this person or has the scope `operations`.
    pub(crate) fn may_read(&self, person: &Person) -> Result<(), ApiError> {
        if self.principal.operations { Ok(()) } else { self.must_be(person) }
    }

    /// Whether the caller may read a dispatch: its user, the driver who has the open offer or the ride, `payments` and
    /// `operations`.
    pub(crate) fn sees(&self, dispatch: &StoredDispatch) -> bool {
        let sees = self.principal.is_staff() || self.is_user_of(dispatch) || self.is_driver_of(dispatch);
        if !sees {
            self.note(dispatch.state.id.as_str());
        }
        sees
    }

    /// Whether the caller requested a dispatch.
    pub(crate) fn is_user_of(&self, dispatch: &StoredDispatch) -> bool {
        self.principal.user.as_ref() == Some(&dispatch.state.user)
    }

    /// Whether the caller has the open offer or the ride.
    pub(crate) fn is_driver_of(&self, dispatch: &StoredDispatch) -> bool {
        dispatch.state.driver.is_some() && self.principal.driver == dispatch.state.driver
    }

    /// Whether the caller has the scope `operations`.
    pub(crate) fn is_operations(&self) -> bool {
        self.principal.operations
    }

    /// Notes in the audit trail that the request concerns data of another person, by the id of the person or dispatch.
    pub(crate) fn note(&self, object: &str) {
        self.trail.note(object);
    }

    pub(super) fn trail(&self) -> &Trail {
        &self.trail
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or(ApiError::Unauthenticated { given: false })
    }
}

/// A caller with the scope `user`.
pub(crate) struct AsUser(pub Caller);

impl<S: Send + Sync> FromRequestParts<S> for AsUser {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, state).await?;
        caller.user()?;
        Ok(Self(caller))
    }
}

/// A caller with the scope `driver`.
pub(crate) struct AsDriver(pub Caller);

impl<S: Send + Sync> FromRequestParts<S> for AsDriver {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, state).await?;
        caller.driver()?;
        Ok(Self(caller))
    }
}

/// A caller who may report on rides: a driver, or a program with the scope `payments` or `operations`.
pub(crate) struct AsReporter(pub Caller);

impl<S: Send + Sync> FromRequestParts<S> for AsReporter {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, state).await?;
        if !caller.principal.is_staff() {
            caller.driver()?;
        }
        Ok(Self(caller))
    }
}

/// A caller with the scope `operations`.
pub(crate) struct AsOperations(pub Caller);

impl<S: Send + Sync> FromRequestParts<S> for AsOperations {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, state).await?;
        if caller.principal.operations {
            Ok(Self(caller))
        } else {
            Err(ApiError::Forbidden { needs: Scope::Operations })
        }
    }
}
