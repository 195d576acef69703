//! The routes of the HTTP API. Tests compare the router of the workers and the OpenAPI document with this list, and the
//! operator creates the routes of the API Gateway from it.

use std::fmt;

/// The HTTP methods that the API uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    Get,
    Post,
    Put,
    Delete,
}

impl Method {
    /// The spelling in an HTTP request line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A kind of caller. An access token lists the scopes of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    User,
    Driver,
    /// Programs that report payments.
    Payments,
    /// The city's staff and programs.
    Operations,
}

impl Scope {
    /// The default spelling in a token. A city may configure others.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Driver => "driver",
            Self::Payments => "payments",
            Self::Operations => "operations",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One operation of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    pub method: Method,
    /// The path with its parameters in braces: `/v1/dispatches/{dispatchId}`.
    pub path: &'static str,
    /// The `operationId` in the OpenAPI document.
    pub operation_id: &'static str,
    /// The scopes that the route accepts; a token needs at least one of them.
    pub scopes: &'static [Scope],
    /// Whether the route accepts an `Idempotency-Key`.
    pub idempotency_key: bool,
}

impl Route {
    const fn new(method: Method, path: &'static str, operation_id: &'static str, scopes: &'static [Scope]) -> Self {
        Self { method, path, operation_id, scopes, idempotency_key: false }
    }

    const fn with_idempotency_key(self) -> Self {
        Self { idempotency_key: true, ..self }
    }

    /// The route key of an API Gateway, for example `POST /v1/dispatches`.
    pub fn key(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

use Method::{Delete, Get, Post, Put};
use Scope::{Driver, Operations, Payments, User};

/// Every route of the API. The workers serve exactly these routes, and the API Gateway has a route for each of their
/// paths.
pub const ROUTES: &[Route] = &[
    Route::new(Post, "/v1/dispatches", "createDispatch", &[User]).with_idempotency_key(),
    Route::new(Get, "/v1/dispatches/{dispatchId}", "getDispatch", &[User, Driver, Payments, Operations]),
    Route::new(Post, "/v1/dispatches/{dispatchId}/response", "respondToOffer", &[Driver]).with_idempotency_key(),
    Route::new(Post, "/v1/dispatches/{dispatchId}/events", "reportTripEvent", &[Driver, Payments, Operations])
        .with_idempotency_key(),
    Route::new(Post, "/v1/dispatches/{dispatchId}/cancel", "cancelDispatch", &[User, Driver]).with_idempotency_key(),
    Route::new(Get, "/v1/users/{userId}/dispatches", "listUserDispatches", &[User, Operations]),
    Route::new(Get, "/v1/drivers/{driverId}/dispatches", "listDriverDispatches", &[Driver, Operations]),
    Route::new(Put, "/v1/users/{userId}", "putUser", &[User]),
    Route::new(Get, "/v1/users/{userId}", "getUser", &[User, Operations]),
    Route::new(Put, "/v1/drivers/{driverId}", "putDriver", &[Driver]),
    Route::new(Get, "/v1/drivers/{driverId}", "getDriver", &[Driver, Operations]),
    Route::new(Put, "/v1/users/{userId}/device", "putUserDevice", &[User]),
    Route::new(Delete, "/v1/users/{userId}/device", "deleteUserDevice", &[User]),
    Route::new(Put, "/v1/drivers/{driverId}/device", "putDriverDevice", &[Driver]),
    Route::new(Delete, "/v1/drivers/{driverId}/device", "deleteDriverDevice", &[Driver]),
    Route::new(Put, "/v1/drivers/{driverId}/availability", "putAvailability", &[Driver]),
    Route::new(Post, "/v1/drivers/{driverId}/locations", "postLocation", &[Driver]),
    Route::new(Post, "/v1/locations/batch", "postLocations", &[Operations]),
    Route::new(Post, "/v1/operations/dispatches/{dispatchId}/cancel", "cancelByOperations", &[Operations]),
    Route::new(Post, "/v1/operations/dispatches/{dispatchId}/complete", "completeByOperations", &[Operations]),
    Route::new(Post, "/v1/operations/dispatches/{dispatchId}/release", "releaseByOperations", &[Operations]),
    Route::new(Post, "/v1/operations/dispatches/{dispatchId}/review", "closeReview", &[Operations]),
    Route::new(Get, "/v1/operations/reviews", "listReviews", &[Operations]),
    Route::new(Get, "/v1/events", "streamEvents", &[User, Driver]),
    Route::new(Post, "/v1/operations/users/{userId}/erase", "eraseUser", &[Operations]),
    Route::new(Post, "/v1/operations/drivers/{driverId}/erase", "eraseDriver", &[Operations]),
    Route::new(Get, "/v1/operations/users/{userId}/export", "exportUser", &[Operations]),
    Route::new(Get, "/v1/operations/drivers/{driverId}/export", "exportDriver", &[Operations]),
];
