//! The caller of a request: who it is, and what is whose.
//!
//! Every request passes [`authenticate`] before its handler; there is no way around it. Handlers take one of the extractors here,
//! which ask for a scope before the body is read, and bring the caller's own id to the engine. What is somebody else's looks like
//! what does not exist; 403 is for callers of the wrong kind, who would be refused whatever they named.

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

/// Lets through whom it knows, as often as its share allows.
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
            tracing::info!(reason, "a token is refused");
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

/// The one bearer token of a request (RFC 6750, section 2.1; tokens in queries and bodies are not looked for).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (only, another) = (given.next()?, given.next());
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    let token = token.trim_matches(' ');
    (another.is_none() && scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// A caller of any kind.
#[derive(Clone)]
pub struct Caller(Principal);

impl Caller {
    /// The user it is.
    pub fn user(&self) -> Result<&UserId, ApiError> {
        self.0.user.as_ref().ok_or(ApiError::Forbidden { needs: Scope::User })
    }

    /// The driver it is.
    pub fn driver(&self) -> Result<&DriverId, ApiError> {
        self.0.driver.as_ref().ok_or(ApiError::Forbidden { needs: Scope::Driver })
    }

    /// Whom the issuer means.
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// How long its token is still good.
    pub fn good_for(&self, now: EpochMs) -> Duration {
        Duration::from_millis(u64::try_from(self.0.good_until.0.saturating_sub(now.0)).unwrap_or(0))
    }

    /// Refuses who is not this person.
    pub fn must_be(&self, person: &Person) -> Result<(), ApiError> {
        let (is, what) = match person {
            Person::User(id) => (self.user()? == id, "user"),
            Person::Driver(id) => (self.driver()? == id, "driver"),
        };
        if is { Ok(()) } else { Err(ApiError::NotFound { what }) }
    }

    /// Refuses who may not read about this person: others but operators.
    pub fn may_read(&self, person: &Person) -> Result<(), ApiError> {
        if self.0.operations { Ok(()) } else { self.must_be(person) }
    }

    /// Whether a dispatch is shown to it: to its user, to the driver who is asked or drives, to operators.
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

/// A caller who is a user.
pub struct AsUser(pub Caller);

impl<S: Send + Sync> FromRequestParts<S> for AsUser {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, state).await?;
        caller.user()?;
        Ok(Self(caller))
    }
}

/// A caller who is a driver.
pub struct AsDriver(pub Caller);

impl<S: Send + Sync> FromRequestParts<S> for AsDriver {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, state).await?;
        caller.driver()?;
        Ok(Self(caller))
    }
}

/// A caller who is one of the city's own staff or programs.
pub struct AsOperations;

impl<S: Send + Sync> FromRequestParts<S> for AsOperations {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, state).await?;
        if caller.0.operations { Ok(Self) } else { Err(ApiError::Forbidden { needs: Scope::Operations }) }
    }
}
