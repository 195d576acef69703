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

use crate::auth::{AuthError, Principal};
use crate::http::middleware::rate_limit::Subject;
use crate::http::problem::ApiError;
use crate::http::state::AppState;
use crate::ports::{Person, StoredDispatch};

/// Admits requests with a valid token, within the rate limit of the caller.
pub(in crate::http) async fn authenticate(State(app): State<AppState>, mut request: Request, next: Next) -> Response {
    match known(&app, request.headers()).await {
        Ok(principal) => {
            request.extensions_mut().insert(Caller(principal));
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

async fn known(app: &AppState, headers: &HeaderMap) -> Result<Principal, ApiError> {
    let token = bearer(headers).ok_or(ApiError::Unauthenticated { given: false })?;
    let now = app.engine.ports.clock.now();
    let principal = app.access.authenticator.authenticate(token, now).await.map_err(|error| match error {
        AuthError::Refused(reason) => {
            tracing::info!(reason, "token rejected");
            ApiError::Unauthenticated { given: true }
        }
        AuthError::NoKeys => ApiError::NoKeys,
    })?;
    let subject = if principal.operations {
        Subject::Operations(&principal.subject)
    } else {
        Subject::Person(&principal.subject)
    };
    app.access.rates.take_subject(subject).map_err(|after_s| ApiError::TooMany { after_s })?;
    Ok(principal)
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
pub struct Caller(Principal);

impl Caller {
    /// The caller's id as a user; 403 if the token lacks the scope.
    pub fn user(&self) -> Result<&UserId, ApiError> {
        self.0.user.as_ref().ok_or(ApiError::Forbidden { needs: Scope::User })
    }

    /// The caller's id as a driver; 403 if the token lacks the scope.
    pub fn driver(&self) -> Result<&DriverId, ApiError> {
        self.0.driver.as_ref().ok_or(ApiError::Forbidden { needs: Scope::Driver })
    }

    /// The issuer's id of the caller.
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// The time until the caller's token expires.
    pub fn good_for(&self, now: EpochMs) -> Duration {
        Duration::from_millis(u64::try_from(self.0.good_until.0.saturating_sub(now.0)).unwrap_or(0))
    }

    /// Fails with 404 unless the caller is this person.
    pub fn must_be(&self, person: &Person) -> Result<(), ApiError> {
        let (is, what) = match person {
            Person::User(id) => (self.user()? == id, "user"),
            Person::Driver(id) => (self.driver()? == id, "driver"),
        };
        if is { Ok(()) } else { Err(ApiError::NotFound { what }) }
    }

    /// Fails with 404 unless the caller is this person or has the scope `operations`.
    pub fn may_read(&self, person: &Person) -> Result<(), ApiError> {
        if self.0.operations { Ok(()) } else { self.must_be(person) }
    }

    /// Whether the caller may read a dispatch: its user, the driver who has the open offer or the ride, and
    /// `operations`.
    pub fn sees(&self, dispatch: &StoredDispatch) -> bool {
        let state = &dispatch.state;
        self.0.operations
            || self.0.user.as_ref() == Some(&state.user)
            || (state.driver.is_some() && self.0.driver == state.driver)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or(ApiError::Unauthenticated { given: false })
    }
}

/// A caller with the scope `user`.
pub struct AsUser(pub Caller);

impl<S: Send + Sync> FromRequestParts<S> for AsUser {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, state).await?;
        caller.user()?;
        Ok(Self(caller))
    }
}

/// A caller with the scope `driver`.
pub struct AsDriver(pub Caller);

impl<S: Send + Sync> FromRequestParts<S> for AsDriver {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, state).await?;
        caller.driver()?;
        Ok(Self(caller))
    }
}

/// A caller with the scope `operations`.
pub struct AsOperations;

impl<S: Send + Sync> FromRequestParts<S> for AsOperations {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, state).await?;
        if caller.0.operations { Ok(Self) } else { Err(ApiError::Forbidden { needs: Scope::Operations }) }
    }
}
