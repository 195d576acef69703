//! The audit trail: who read or changed whose data.

use std::io::Write;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use dispatch_http_types::{ROUTES, Scope};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

use super::{Who, World, pickup};
use crate::telemetry::AUDIT;

/// The log lines of a test, as JSON.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// Records the lines of this thread.
    fn record() -> (Self, DefaultGuard) {
        let lines = Self::default();
        let format = tracing_subscriber::fmt().json().flatten_event(true).with_writer(lines.clone()).finish();
        (lines, tracing::subscriber::set_default(format))
    }

    /// The lines of the audit trail since the last call: subject, operation, objects and outcome.
    fn take(&self) -> Vec<[String; 4]> {
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock())).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let audit = lines.filter(|line| line["target"] == AUDIT);
        audit
            .map(|line| {
                ["subject", "operation", "object", "outcome"].map(|name| line[name].as_str().unwrap().to_owned())
            })
            .collect()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

fn line(subject: &str, operation: &str, object: &str, outcome: &str) -> [String; 4] {
    [subject, operation, object, outcome].map(str::to_owned)
}

fn request(who: &Who, method: &str, path: &str, body: &Value) -> Request<Body> {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let request = request.header("authorization", format!("Bearer {}", who.token()));
    request.body(if body.is_null() { Body::empty() } else { Body::from(body.to_string()) }).unwrap()
}

fn user(suffix: &str) -> Who {
    Who::User(suffix.to_owned())
}

fn driver(suffix: &str) -> Who {
    Who::Driver(suffix.to_owned())
}

#[tokio::test]
async fn every_route_writes_one_line_for_every_request_of_operations() {
    let world = World::new();
    let id = world.has_offer().await;
    let (lines, _guard) = Lines::record();
    for route in ROUTES {
        let path = route.path.replace("{dispatchId}", &id).replace("{userId}", "00001").replace("{driverId}", "00001");
        let answer = world.send(request(&Who::Operations, route.method.as_str(), &path, &json!({}))).await;
        let outcome = if answer.status.is_success() { "done" } else { "refused" };
        let written = lines.take();
        assert_eq!(written.len(), 1, "{}", route.operation_id);
        let [subject, operation, object, ended] = &written[0];
        assert_eq!((subject.as_str(), operation.as_str(), ended.as_str()), ("console", route.operation_id, outcome));
        let named = ["{userId}", "{driverId}", "{dispatchId}"].iter().any(|name| route.path.contains(name));
        assert_eq!(object != "-", named, "{}: {object}", route.operation_id);
    }
    world.send(request(&Who::Operations, "GET", "/v1/nothing", &Value::Null)).await;
    assert_eq!(lines.take(), [line("console", "unknown", "-", "refused")]);
}

#[tokio::test]
async fn routes_for_operations_write_a_line_for_every_caller() {
    let world = World::new();
    let (lines, _guard) = Lines::record();
    for route in ROUTES.iter().filter(|route| route.scopes == [Scope::Operations]) {
        let path = route.path.replace("{dispatchId}", "A").replace("{userId}", "00001").replace("{driverId}", "00001");
        world.send(request(&driver("00001"), route.method.as_str(), &path, &json!({}))).await;
        let written = lines.take();
        assert_eq!(written.len(), 1, "{}", route.operation_id);
        assert_eq!((written[0][0].as_str(), written[0][3].as_str()), ("driver#00001", "refused"));
    }
}

#[tokio::test]
async fn the_data_of_another_person_is_read_with_a_line_and_own_data_without() {
    let world = World::new();
    let id = world.has_offer().await;
    let (lines, _guard) = Lines::record();
    let path = format!("/v1/dispatches/{id}");
    let of = |who: &Who, outcome: &str| line(&subject(who), "getDispatch", &format!("dispatch#{id}{outcome}"), "done");
    let read = async |who: &Who| world.send(request(who, "GET", &path, &Value::Null)).await.expect(StatusCode::OK);
    read(&user("00001")).await;
    assert_eq!(lines.take(), [of(&user("00001"), ",driver#00001")]);
    read(&driver("00001")).await;
    assert_eq!(lines.take(), [of(&driver("00001"), ",user#00001")]);
    read(&Who::Operations).await;
    assert_eq!(lines.take(), [of(&Who::Operations, ",user#00001,driver#00001")]);

    for (who, path) in [(user("00001"), "/v1/users/00001"), (driver("00001"), "/v1/drivers/00001")] {
        world.send(request(&who, "GET", path, &Value::Null)).await.expect(StatusCode::OK);
    }
    let answer = json!({"driverId": "driver#00001", "offerSeq": 1, "response": "REJECT"});
    world.send(request(&driver("00001"), "POST", &format!("{path}/response"), &answer)).await.expect(StatusCode::OK);
    let written = lines.take();
    assert_eq!(written.len(), 1, "the answer shows the user's dispatch: {written:?}");
    read(&user("00001")).await;
    assert!(lines.take().is_empty(), "no driver is on the dispatch any more");
}

fn subject(who: &Who) -> String {
    match who {
        Who::User(suffix) => format!("user#{suffix}"),
        Who::Driver(suffix) => format!("driver#{suffix}"),
        Who::Payments => "payments".to_owned(),
        Who::Operations => "console".to_owned(),
    }
}

#[tokio::test]
async fn refused_attempts_on_the_data_of_another_person_write_a_line() {
    let world = World::new();
    let id = world.has_offer().await;
    let (lines, _guard) = Lines::record();
    let dispatch = format!("dispatch#{id}");
    for (who, method, path, body, operation, object) in [
        (user("2"), "GET", "/v1/users/00001".to_owned(), Value::Null, "getUser", "user#00001"),
        (
            driver("2"),
            "GET",
            "/v1/drivers/00001/dispatches".to_owned(),
            Value::Null,
            "listDriverDispatches",
            "driver#00001",
        ),
        (user("2"), "GET", format!("/v1/dispatches/{id}"), Value::Null, "getDispatch", dispatch.as_str()),
        (
            driver("2"),
            "POST",
            format!("/v1/dispatches/{id}/response"),
            json!({"driverId": "driver#2", "offerSeq": 1, "response": "ACCEPT"}),
            "respondToOffer",
            dispatch.as_str(),
        ),
        (
            driver("2"),
            "PUT",
            "/v1/drivers/00001/availability".to_owned(),
            json!({"status": "INACTIVE", "location": pickup()}),
            "putAvailability",
            "driver#00001",
        ),
    ] {
        world.send(request(&who, method, &path, &body)).await.expect(StatusCode::NOT_FOUND);
        assert_eq!(lines.take(), [line(&subject(&who), operation, object, "refused")]);
    }
}

#[tokio::test]
async fn a_request_that_ends_without_an_answer_has_a_line() {
    let world = World::new();
    let (lines, _guard) = Lines::record();
    let mut asked = request(&Who::Operations, "POST", "/v1/locations/batch", &Value::Null);
    *asked.body_mut() = Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    assert!(tokio::time::timeout(std::time::Duration::from_millis(20), world.send(asked)).await.is_err());
    assert_eq!(lines.take(), [line("console", "postLocations", "-", "unknown")]);
}
