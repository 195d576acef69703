//! The audit trail of requests.
//!
//! A line is written for every request of a caller with the scope `operations`, for every request to a route that only
//! this scope may use, and for every request in which a caller asked for or received data of another person. Routes
//! need no code for the first two. For the third, [`Caller`] notes whose data a request concerns: its checks note
//! refused attempts, and [`view`](crate::http::view) notes the other party of each dispatch that it shows.

use axum::extract::{MatchedPath, Request};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use dispatch_core::ids::{DispatchId, DriverId, UserId};
use dispatch_http_types::{ROUTES, Route, Scope};

use crate::http::extract::PathId;
use crate::http::middleware::auth::Caller;
use crate::telemetry::{AuditLine, AuditOutcome};

/// Writes the line of a request, if it needs one.
pub(in crate::http) async fn record(request: Request, next: Next) -> Response {
    let Some(caller) = request.extensions().get::<Caller>().cloned() else { return next.run(request).await };
    let pattern = request.extensions().get::<MatchedPath>().map(|matched| matched.as_str().to_owned());
    let route = pattern.as_deref().and_then(|pattern| route_of(request.method(), pattern));
    let mut entry = Entry {
        operation: route.map_or("unknown", |route| route.operation_id),
        always: caller.is_operations() || route.is_some_and(|route| route.scopes == [Scope::Operations]),
        objects: pattern.map(|pattern| objects_of(&pattern, request.uri().path())).unwrap_or_default(),
        caller,
        outcome: AuditOutcome::Unknown,
    };
    let response = next.run(request).await;
    entry.outcome = AuditOutcome::from_status(response.status().as_u16());
    response
}

fn route_of(method: &Method, pattern: &str) -> Option<&'static Route> {
    // The router answers HEAD like GET.
    let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
    ROUTES.iter().find(|route| route.path == pattern && route.method.as_str() == method)
}

/// The ids in a path. Anything else in their place could be personal data.
fn objects_of(pattern: &str, path: &str) -> Vec<String> {
    let parts = pattern.split('/').zip(path.split('/'));
    parts.filter(|(name, _)| name.starts_with('{')).map(|(name, given)| object(name, given)).collect()
}

fn object(name: &str, given: &str) -> String {
    let given = given.replace("%23", "#");
    let id = match name {
        "{userId}" => UserId::read(UserId::NAME, &given).ok().map(|id| id.to_string()),
        "{driverId}" => DriverId::read(DriverId::NAME, &given).ok().map(|id| id.to_string()),
        "{dispatchId}" => DispatchId::read(DispatchId::NAME, &given).ok().map(|id| id.to_string()),
        _ => None,
    };
    id.unwrap_or_else(|| "invalid".to_owned())
}

/// The line of a request. It is written when the request ends in any way, also when its client or its deadline ended
/// it.
struct Entry {
    caller: Caller,
    operation: &'static str,
    /// Whether the line is written although no data of another person is concerned.
    always: bool,
    /// The ids in the path.
    objects: Vec<String>,
    outcome: AuditOutcome,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let noted = self.caller.trail().noted();
        if noted.is_empty() && !self.always {
            return;
        }
        let mut objects = std::mem::take(&mut self.objects);
        objects.extend(noted);
        let mut seen = std::collections::HashSet::new();
        objects.retain(|object| seen.insert(object.clone()));
        let (subject, operation, outcome) = (self.caller.subject(), self.operation, self.outcome);
        AuditLine { subject, operation, objects: &objects, outcome }.write();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_the_ids_of_the_path_and_nothing_else() {
        let of = |pattern, path| objects_of(pattern, path).join(",");
        assert_eq!(of("/v1/users/{userId}", "/v1/users/00001"), "user#00001");
        assert_eq!(of("/v1/users/{userId}", "/v1/users/user%2300001"), "user#00001");
        assert_eq!(of("/v1/drivers/{driverId}/dispatches", "/v1/drivers/7/dispatches"), "driver#7");
        assert_eq!(of("/v1/dispatches/{dispatchId}", "/v1/dispatches/A"), "dispatch#A");
        assert_eq!(of("/v1/users/{userId}", "/v1/users/%EA%B9%80"), "invalid");
        assert_eq!(of("/v1/locations/batch", "/v1/locations/batch"), "");
    }
}
