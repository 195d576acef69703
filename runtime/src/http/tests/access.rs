//! Authorization: every route with every kind of caller, on their own data and on other callers' data.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};

use super::{Answer, Who, World, destination, driver_profile, pickup, ride_request, user_profile};
use crate::http::openapi;

/// One row of the matrix: the status that each caller receives. The dispatch belongs to user 00001 and is offered to
/// driver 00001.
struct Row {
    method: &'static str,
    /// The path pattern in the `OpenAPI` document.
    route: &'static str,
    path: String,
    body: Value,
    /// User 00001, user 00002, driver 00001, driver 00002, operations, payments.
    answers: [u16; 6],
}

fn callers() -> [Who; 6] {
    let (one, two) = ("00001".to_owned(), "00002".to_owned());
    [Who::User(one.clone()), Who::User(two.clone()), Who::Driver(one), Who::Driver(two), Who::Operations, Who::Payments]
}

fn matrix(dispatch: &str) -> Vec<Row> {
    let row = |method, route: &'static str, body, answers| {
        let path = route.replace("{dispatchId}", dispatch).replace("{userId}", "00001").replace("{driverId}", "00001");
        Row { method, route, path, body, answers }
    };
    let nothing = || Value::Null;
    let ping = json!({"lat": 37.5655, "lng": 126.9785});
    let answer = |driver: &str| json!({"driverId": driver, "offerSeq": 1, "response": "REJECT"});
    let report = json!({"driverId": "driver#00001", "type": "PICKUP_STARTED"});
    let order = json!({"reason": "교통사고"});
    let paid = json!({"driverId": "driver#00001", "type": "PAYMENT_COMPLETED"});
    let batch = json!({"locations": [{"driverId": "driver#00001", "lat": 37.5655, "lng": 126.9785}]});
    let change = json!({"status": "ACTIVE", "location": pickup()});
    let device = json!({"token": "token-of-a-device"});
    let mut rows = vec![
        row("POST", "/v1/dispatches", ride_request(), [409, 404, 403, 403, 403, 403]),
        row("GET", "/v1/dispatches/{dispatchId}", nothing(), [200, 404, 200, 404, 200, 200]),
        row("POST", "/v1/dispatches/{dispatchId}/response", answer("driver#00001"), [403, 403, 200, 404, 403, 403]),
        row("POST", "/v1/dispatches/{dispatchId}/response", answer("driver#00002"), [403, 403, 404, 404, 403, 403]),
        row("POST", "/v1/dispatches/{dispatchId}/events", report, [403, 403, 409, 404, 403, 403]),
        // The ride is not over yet. A driver's word pays nothing.
        row("POST", "/v1/dispatches/{dispatchId}/events", paid, [403, 403, 403, 403, 409, 409]),
        row(
            "POST",
            "/v1/dispatches/{dispatchId}/cancel",
            json!({"userId": "user#00001"}),
            [200, 404, 403, 403, 403, 403],
        ),
        row(
            "POST",
            "/v1/dispatches/{dispatchId}/cancel",
            json!({"userId": "user#00002"}),
            [404, 404, 403, 403, 403, 403],
        ),
        // Only a driver who accepted can cancel; a driver with an open offer gets a conflict.
        row(
            "POST",
            "/v1/dispatches/{dispatchId}/cancel",
            json!({"driverId": "driver#00001"}),
            [403, 403, 409, 404, 403, 403],
        ),
        row("GET", "/v1/users/{userId}/dispatches", nothing(), [200, 404, 403, 403, 200, 403]),
        row("GET", "/v1/drivers/{driverId}/dispatches", nothing(), [403, 403, 200, 404, 200, 403]),
        row("PUT", "/v1/users/{userId}", user_profile(), [200, 404, 403, 403, 403, 403]),
        row("GET", "/v1/users/{userId}", nothing(), [200, 404, 403, 403, 200, 403]),
        row("PUT", "/v1/drivers/{driverId}", driver_profile(), [403, 403, 200, 404, 403, 403]),
        row("GET", "/v1/drivers/{driverId}", nothing(), [403, 403, 200, 404, 200, 403]),
        row("PUT", "/v1/users/{userId}/device", device.clone(), [200, 404, 403, 403, 403, 403]),
        row("PUT", "/v1/drivers/{driverId}/device", device, [403, 403, 200, 404, 403, 403]),
        row("DELETE", "/v1/users/{userId}/device", nothing(), [204, 404, 403, 403, 403, 403]),
        row("DELETE", "/v1/drivers/{driverId}/device", nothing(), [403, 403, 204, 404, 403, 403]),
        row("PUT", "/v1/drivers/{driverId}/availability", change, [403, 403, 200, 404, 403, 403]),
        row("POST", "/v1/drivers/{driverId}/locations", ping, [403, 403, 202, 404, 403, 403]),
        row("POST", "/v1/locations/batch", batch, [403, 403, 403, 403, 202, 403]),
        row("POST", "/v1/operations/dispatches/{dispatchId}/cancel", order.clone(), [403, 403, 403, 403, 200, 403]),
        row("POST", "/v1/operations/dispatches/{dispatchId}/complete", order.clone(), [403, 403, 403, 403, 409, 403]),
        row("POST", "/v1/operations/dispatches/{dispatchId}/release", order.clone(), [403, 403, 403, 403, 409, 403]),
        row("POST", "/v1/operations/dispatches/{dispatchId}/review", order, [403, 403, 403, 403, 200, 403]),
        row("GET", "/v1/operations/reviews", nothing(), [403, 403, 403, 403, 200, 403]),
        // The user is on the dispatch; the driver has only an offer.
        row("POST", "/v1/operations/users/{userId}/erase", nothing(), [403, 403, 403, 403, 409, 403]),
        row("POST", "/v1/operations/drivers/{driverId}/erase", nothing(), [403, 403, 403, 403, 200, 403]),
        row("GET", "/v1/operations/users/{userId}/export", nothing(), [403, 403, 403, 403, 200, 403]),
        row("GET", "/v1/operations/drivers/{driverId}/export", nothing(), [403, 403, 403, 403, 200, 403]),
    ];
    for (query, answers) in
        [("user=00001", [200, 404, 403, 403, 403, 403]), ("driver=00001", [403, 403, 200, 404, 403, 403])]
    {
        let path = format!("/v1/events?{query}");
        rows.push(Row { method: "GET", route: "/v1/events", path, body: Value::Null, answers });
    }
    rows
}

async fn call(world: &World, row: &Row, token: Option<&str>) -> (Option<Answer>, u16) {
    let request = Request::builder()
        .method(row.method)
        .uri(&row.path)
        .header("host", "dispatch")
        .header("content-type", "application/json");
    let request = match token {
        Some(token) => request.header("authorization", format!("Bearer {token}")),
        None => request.header("authorization", ""),
    };
    let request =
        request.body(Body::from(if row.body.is_null() { String::new() } else { row.body.to_string() })).unwrap();
    if row.route == "/v1/events" {
        // A stream has no end to wait for.
        let response = tower::ServiceExt::oneshot(world.api.clone(), request).await.unwrap();
        return (None, response.status().as_u16());
    }
    let answer = world.send(request).await;
    let status = answer.status.as_u16();
    (Some(answer), status)
}

async fn world() -> (World, String) {
    let world = World::new();
    let dispatch = world.has_offer().await;
    world.has_user("00002").await;
    world.has_active_driver("00002").await;
    (world, dispatch)
}

fn state(world: &World, dispatch: &str) -> Vec<Vec<Value>> {
    let dispatch = format!("dispatch#{dispatch}");
    [dispatch.as_str(), "user#00001", "driver#00001"].map(|pk| world.store.partition(pk)).to_vec()
}

#[tokio::test]
async fn every_route_answers_every_caller_as_the_matrix_says() {
    let mut seen = 0;
    let rows = matrix("unused").len();
    for index in 0..rows {
        for (number, caller) in callers().iter().enumerate() {
            let (world, dispatch) = world().await;
            let row = matrix(&dispatch).swap_remove(index);
            let before = state(&world, &dispatch);
            let (answer, status) = call(&world, &row, Some(&caller.token())).await;
            let name = format!("{} {} {} by {caller:?}", row.method, row.path, row.body);
            assert_eq!(status, row.answers[number], "{name}: {:?}", answer.map(|answer| answer.body));
            if matches!(status, 403 | 404) {
                assert_eq!(state(&world, &dispatch), before, "{name} changed something");
            }
            if status == 404 {
                let problem = answer.map(|answer| answer.body).unwrap_or_default();
                assert!(
                    !problem.to_string().contains("driver#") && problem.get("current").is_none(),
                    "{name}: {problem}"
                );
            }
            seen += 1;
        }
        let (world, dispatch) = world().await;
        let row = matrix(&dispatch).swap_remove(index);
        assert_eq!(call(&world, &row, None).await.1, 401, "{} {} without a token", row.method, row.path);
    }
    assert_eq!(seen, rows * 6);
}

#[test]
fn the_matrix_has_every_route_and_the_document_names_its_scopes() {
    let document = serde_json::to_value(openapi()).unwrap();
    let rows = matrix("unused");
    let mut documented = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            documented.insert((method.to_uppercase(), path.clone()));
            let scopes: BTreeSet<&str> =
                operation["security"].as_array().unwrap().iter().filter_map(|one| one["bearer"][0].as_str()).collect();
            let of_row = |row: &&Row| row.route == path && row.method.eq_ignore_ascii_case(method);
            let taken = |callers: &[usize]| {
                rows.iter().filter(of_row).any(|row| callers.iter().any(|caller| row.answers[*caller] != 403))
            };
            for (scope, callers) in
                [("user", &[0, 1][..]), ("driver", &[2, 3]), ("payments", &[5]), ("operations", &[4])]
            {
                assert_eq!(taken(callers), scopes.contains(scope), "{method} {path}: {scope}");
            }
        }
    }
    let covered: BTreeSet<(String, String)> =
        rows.iter().map(|row| (row.method.to_owned(), row.route.to_owned())).collect();
    assert_eq!(covered, documented);
}

#[tokio::test]
async fn a_rejected_token_gets_a_challenge_and_no_further_detail() {
    let world = World::new();
    let with =
        |value: &str| Request::get("/v1/users/00001").header("authorization", value).body(Body::empty()).unwrap();
    for wrong in ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "bearer a.b.c", "Bearer a b"] {
        let answer = world.send(with(wrong)).await;
        let challenge = answer.header("www-authenticate").to_owned();
        assert!(answer.headers.contains_key("x-request-id"));
        let problem = answer.expect(StatusCode::UNAUTHORIZED);
        assert_eq!(problem["type"], "tag:coactus.io,2026:dispatch/unauthenticated");
        assert!(challenge.starts_with("Bearer") && !challenge.contains("scope"), "{wrong}: {challenge}");
    }
    let twice = with(&format!("Bearer {}", Who::User("00001".to_owned()).token()));
    let (mut parts, body) = twice.into_parts();
    parts.headers.append("authorization", "Bearer another".parse().unwrap());
    world.send(Request::from_parts(parts, body)).await.expect(StatusCode::UNAUTHORIZED);
    let driver = with(&format!("Bearer {}", Who::Driver("00001".to_owned()).token()));
    let answer = world.send(driver).await;
    assert_eq!(answer.header("www-authenticate"), "Bearer error=\"insufficient_scope\", scope=\"user\"");
    answer.expect(StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn the_previous_driver_does_not_see_an_offer_to_another_driver() {
    let (world, dispatch) = world().await;
    let path = format!("/v1/dispatches/{dispatch}/response");
    let answer = |driver: &str, seq: u32, word: &str| json!({"driverId": driver, "offerSeq": seq, "response": word});
    world.post(&path, answer("driver#00001", 1, "REJECT")).await.expect(StatusCode::OK);
    let id = dispatch_core::ids::DispatchId::from_suffix(&dispatch).unwrap();
    world.offer(&id, &dispatch_core::ids::DriverId::parse("driver#00002").unwrap()).await;
    let late = world.post(&path, answer("driver#00001", 1, "ACCEPT")).await.expect(StatusCode::CONFLICT);
    assert!(!late.to_string().contains("driver#00002") && !late.to_string().contains("126.9"), "{late}");
    world.post(&path, answer("driver#00002", 2, "ACCEPT")).await.expect(StatusCode::OK);
    let read = |who: Who| {
        let request = Request::get(format!("/v1/dispatches/{dispatch}"))
            .header("authorization", format!("Bearer {}", who.token()));
        world.send(request.body(Body::empty()).unwrap())
    };
    read(Who::Driver("00001".to_owned())).await.expect(StatusCode::NOT_FOUND);
    let shown = read(Who::Driver("00002".to_owned())).await.expect(StatusCode::OK);
    assert_eq!(shown["destination"], destination());
    assert!(!shown.to_string().contains("0101234"), "no phone number is shown to the other party");
}
