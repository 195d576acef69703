//! Malformed and hostile input.

use std::fmt::Write as _;

use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode};
use proptest::prelude::*;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{Answer, Who, World, authorized, driver_profile, pickup, ride_request, user_profile, with_json};

/// Every route that takes a body, with a valid body.
fn good() -> Vec<(&'static str, &'static str, Value)> {
    let favorite = json!({"id": "f", "name": "집", "address": "서울", "lat": 37.5, "lng": 127.0});
    let mut user = user_profile();
    user["preferences"]["favoriteLocations"] = json!([favorite]);
    vec![
        ("POST", "/v1/dispatches", ride_request()),
        (
            "POST",
            "/v1/dispatches/00001/response",
            json!({"driverId": "driver#00001", "offerSeq": 1, "response": "ACCEPT"}),
        ),
        ("POST", "/v1/dispatches/00001/events", json!({"driverId": "driver#00001", "type": "TRIP_COMPLETED"})),
        ("POST", "/v1/dispatches/00001/cancel", json!({"userId": "user#00001"})),
        ("PUT", "/v1/users/00001", user),
        ("PUT", "/v1/users/00001/device", json!({"token": "token"})),
        ("PUT", "/v1/drivers/00001", driver_profile()),
        ("PUT", "/v1/drivers/00001/availability", json!({"status": "ACTIVE", "location": pickup()})),
        ("POST", "/v1/drivers/00001/locations", json!({"lat": 37.5, "lng": 127.0})),
        (
            "POST",
            "/v1/locations/batch",
            json!({"locations": [{"driverId": "driver#00001", "lat": 37.5, "lng": 127.0}]}),
        ),
    ]
}

/// The pointers of all objects in a document.
fn objects(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            found.push(at.to_owned());
            for (name, member) in members {
                objects(member, &format!("{at}/{name}"), found);
            }
        }
        Value::Array(entries) => {
            for (index, entry) in entries.iter().enumerate() {
                objects(entry, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

fn builder(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path)
}

#[tokio::test]
async fn an_unknown_field_is_rejected_at_every_level() {
    let world = World::new();
    let mut tried = 0;
    for (method, path, body) in good() {
        let mut places = Vec::new();
        objects(&body, "", &mut places);
        for place in places {
            for privileged in ["status2", "ver", "GSI1PK", "__proto__"] {
                let mut body = body.clone();
                body.pointer_mut(&place).unwrap()[privileged] = json!("1");
                let answer = world.send(with_json(builder(method, path), &body)).await;
                let problem = answer.expect(StatusCode::UNPROCESSABLE_ENTITY);
                let field = problem["field"].as_str().unwrap();
                assert!(field.ends_with(privileged), "{path} {place}: {field}");
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 4 * 20);
}

/// A change of one value of a body, by its pointer.
struct Change {
    pointer: String,
    strange: Vec<Value>,
}

/// Sends every body of [`good`] with each of these changes, and checks that the field at the pointer is named; returns
/// the number of requests.
async fn each_is_refused_by_name(changes: impl Fn(&Value) -> Vec<Change>) -> usize {
    let world = World::new();
    let mut tried = 0;
    for (method, path, body) in good() {
        for Change { pointer, strange } in changes(&body) {
            for strange in strange {
                let mut body = body.clone();
                *body.pointer_mut(&pointer).unwrap() = strange;
                let problem = world.send(with_json(builder(method, path), &body)).await;
                let problem = problem.expect(StatusCode::UNPROCESSABLE_ENTITY);
                assert_eq!(problem["field"], field_of(&pointer), "{path} {body}");
                tried += 1;
            }
        }
    }
    tried
}

/// The name of a field in problems: `/locations/0/lat` is `locations[0].lat`.
fn field_of(pointer: &str) -> String {
    let mut name = String::new();
    for part in pointer.split('/').skip(1) {
        match part.parse::<usize>() {
            Ok(index) => write!(name, "[{index}]").unwrap(),
            Err(_) if name.is_empty() => name.push_str(part),
            Err(_) => write!(name, ".{part}").unwrap(),
        }
    }
    if name.is_empty() { "body".to_owned() } else { name }
}

/// The values of an object as lists: in this order, reversed, and empty.
fn as_lists(object: &Value) -> Vec<Value> {
    let values: Vec<Value> = object.as_object().unwrap().values().cloned().collect();
    vec![Value::from(values.clone()), values.into_iter().rev().collect(), json!([])]
}

#[tokio::test]
async fn lists_are_not_objects_at_any_depth() {
    let tried = each_is_refused_by_name(|body| {
        let mut places = Vec::new();
        objects(body, "", &mut places);
        let lists = |pointer: String| Change { strange: as_lists(body.pointer(&pointer).unwrap()), pointer };
        places.into_iter().map(lists).collect()
    });
    assert_eq!(tried.await, 3 * 20);
    // The fields in the order of the types, which a derived implementation reads.
    let world = World::new();
    for (path, list) in [
        ("/v1/drivers/00001/locations", json!([37.5, 127.0])),
        ("/v1/dispatches", json!(["user#00001", [37.5, 127.0, "a"], [37.6, 127.0, "b"]])),
        ("/v1/locations/batch", json!([[["driver#00001", 37.5, 127.0]]])),
        ("/v1/locations/batch", json!({"locations": [["driver#00001", 37.5, 127.0, null, null]]})),
        ("/v1/dispatches/00001/response", json!(["driver#00001", 1, "ACCEPT"])),
    ] {
        world.post(path, list).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    }
}

#[tokio::test]
async fn an_enum_is_a_text_and_no_object() {
    let tried = each_is_refused_by_name(|body| {
        let mut places = Vec::new();
        all_places(body, "", &mut places);
        let texts = places.into_iter().filter_map(|pointer| {
            let text = body.pointer(&pointer)?.as_str()?.to_owned();
            Some(Change { pointer, strange: vec![json!({ text.clone(): null }), json!([text]), json!(0)] })
        });
        texts.collect()
    });
    assert_eq!(tried.await, 3 * 25);
}

#[tokio::test]
async fn numbers_that_dynamodb_cannot_store_are_refused_by_name() {
    let strange = [1e-200, -1e-200, 5e-324, 1e-20_f64.next_down(), -9.9e-21, 1e20_f64.next_up(), -1.1e20, f64::MAX]
        .map(Value::from);
    let tried = each_is_refused_by_name(|body| {
        let mut places = Vec::new();
        all_places(body, "", &mut places);
        places.retain(|pointer| body.pointer(pointer).is_some_and(Value::is_number));
        places.into_iter().map(|pointer| Change { pointer, strange: strange.to_vec() }).collect()
    });
    assert_eq!(tried.await, 8 * 17);
    let world = World::new();
    world.has_user("00001").await;
    for least in [0.0, -0.0, 1e-20, -1e-20] {
        let mut body = user_profile();
        body["currentLocation"]["lat"] = json!(least);
        world.put("/v1/users/00001", body).await.expect(StatusCode::OK);
    }
    let accuracy = json!({"lat": 37.5, "lng": 127.0, "accuracyMeters": 1e-200});
    let problem = world.post("/v1/drivers/00001/locations", accuracy).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(problem["field"], "accuracyMeters");
    assert_eq!(problem["detail"], "must be 0 or a number with a magnitude from 1e-20 to 1e20");
}

#[tokio::test]
async fn an_integer_may_be_written_with_a_fraction_of_zero() {
    let mut tried = 0;
    for (method, path, body) in good() {
        let mut places = Vec::new();
        all_places(&body, "", &mut places);
        places.retain(|pointer| body.pointer(pointer).is_some_and(Value::is_u64));
        for pointer in places {
            let mut answers = Vec::new();
            for end in ["", ".0", "e0", ".5"] {
                let mut marked = body.clone();
                let number = format!("{}{end}", std::mem::replace(marked.pointer_mut(&pointer).unwrap(), json!("N")));
                let text = marked.to_string().replace("\"N\"", &number);
                let request = builder(method, path).header("content-type", "application/json");
                let request = authorized(request.body(Body::from(text)).unwrap(), &body);
                answers.push(World::new().send(request).await);
            }
            let [plain, fraction, exponent, half]: [Answer; 4] = answers.try_into().map_err(|_| "four").unwrap();
            assert_ne!(plain.status, StatusCode::UNPROCESSABLE_ENTITY, "{path} {pointer}");
            assert_eq!((fraction.status, exponent.status), (plain.status, plain.status), "{path} {pointer}");
            let problem = half.expect(StatusCode::UNPROCESSABLE_ENTITY);
            assert_eq!(problem["field"], field_of(&pointer), "{path}");
            tried += 1;
        }
    }
    assert_eq!(tried, 2, "the sequence of an offer and the minimum fare");
}

#[tokio::test]
async fn whole_ids_are_accepted_in_paths_and_queries() {
    let world = World::new();
    let id = world.has_offer().await;
    let call = async |who: &Who, path: &str| {
        let request = builder("GET", path).header("authorization", format!("Bearer {}", who.token()));
        world.send(request.body(Body::empty()).unwrap()).await
    };
    let (user, driver) = (Who::User("00001".to_owned()), Who::Driver("00001".to_owned()));
    for (who, plain, whole) in [
        (&user, "/v1/users/00001".to_owned(), "/v1/users/user%2300001".to_owned()),
        (&driver, "/v1/drivers/00001".to_owned(), "/v1/drivers/driver%2300001".to_owned()),
        (&user, format!("/v1/dispatches/{id}"), format!("/v1/dispatches/dispatch%23{id}")),
        (&user, "/v1/users/00001/dispatches".to_owned(), "/v1/users/us%65r%2300001/dispatches".to_owned()),
    ] {
        let plain = call(who, &plain).await.expect(StatusCode::OK);
        assert_eq!(call(who, &whole).await.expect(StatusCode::OK), plain);
    }
    for wrong in [
        "/v1/users/driver%2300001",
        "/v1/users/user%23user%2300001",
        "/v1/users/user%23",
        "/v1/users/USER%2300001",
        "/v1/users/user%252300001",
        "/v1/users/user%2300001%23",
    ] {
        let problem = call(&user, wrong).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(problem["field"], "userId", "{wrong}");
    }
    let stranger = Who::User("00002".to_owned());
    call(&stranger, "/v1/users/user%2300001").await.expect(StatusCode::NOT_FOUND);
    let stream = builder("GET", "/v1/events?driver=driver%2300001").header("host", "dispatch");
    let stream = stream.header("authorization", format!("Bearer {}", driver.token())).body(Body::empty()).unwrap();
    assert_eq!(world.api.clone().oneshot(stream).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn deep_endless_and_strange_bodies_are_rejected() {
    let world = World::new();
    let send = |body: String| {
        let request = builder("PUT", "/v1/users/00001").header("content-type", "application/json");
        world.send(authorized(request.body(Body::from(body)).unwrap(), &Value::Null))
    };
    send("[".repeat(60_000)).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    let deep = format!("{{\"phone\": {}", "{\"a\":".repeat(10_000));
    send(deep).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    send(format!("{{\"phone\": \"{}\"", "0".repeat(70_000))).await.expect(StatusCode::PAYLOAD_TOO_LARGE);
    for number in ["1e999", "NaN", "Infinity", "-1e400"] {
        let body = user_profile().to_string().replace("37.5662", number);
        let status = send(body).await.status;
        assert!(matches!(status.as_u16(), 400 | 422), "{number}: {status}");
    }
    let nul = user_profile().to_string().replace("서울시", "\\u0000");
    send(nul).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    let lone_surrogate = user_profile().to_string().replace("서울시", "\\ud800");
    assert!(send(lone_surrogate).await.status.is_client_error());
    send(format!("{} x", user_profile())).await.expect(StatusCode::BAD_REQUEST);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_times_out() {
    let world = World::new();
    let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
    let request = builder("PUT", "/v1/users/00001").header("content-type", "application/json").body(never).unwrap();
    let begun = tokio::time::Instant::now();
    let problem = world.send(authorized(request, &Value::Null)).await.expect(StatusCode::REQUEST_TIMEOUT);
    assert_eq!(problem["type"], "tag:coactus.io,2026:dispatch/slow-body");
    assert_eq!(begun.elapsed().as_secs(), 5);
}

#[tokio::test]
async fn responses_have_security_headers_and_allow_no_other_origin() {
    let world = World::new();
    let request = builder("GET", "/v1/users/00001").header("origin", "https://evil.example.com").body(Body::empty());
    let answer = world.send(authorized(request.unwrap(), &Value::Null)).await;
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("content-security-policy"), "default-src 'none'; frame-ancestors 'none'");
    assert_eq!(answer.header("strict-transport-security"), "max-age=31536000");
    assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("access-control")));
    let preflight = builder("OPTIONS", "/v1/users/00001").header("access-control-request-method", "PUT");
    let answer = world.send(authorized(preflight.body(Body::empty()).unwrap(), &Value::Null)).await;
    answer.expect(StatusCode::METHOD_NOT_ALLOWED);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        r"\PC{0,12}|[\x00-\x1f]{0,3}|(user|driver|dispatch)#[A-Za-z0-9#/]{0,70}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map("[a-zA-Z]{0,8}", inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// A valid body with one part replaced.
fn nearly_good() -> impl Strategy<Value = (usize, Value)> {
    let routes = good().len();
    (0..routes, any::<prop::sample::Index>(), any_json()).prop_map(|(route, place, strange)| {
        let mut body = good().swap_remove(route).2;
        let mut places = Vec::new();
        all_places(&body, "", &mut places);
        let place = place.get(&places).clone();
        *body.pointer_mut(&place).unwrap() = strange;
        (route, body)
    })
}

fn all_places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(members) => members.iter().for_each(|(name, it)| all_places(it, &format!("{at}/{name}"), found)),
        Value::Array(entries) => {
            entries.iter().enumerate().for_each(|(index, it)| all_places(it, &format!("{at}/{index}"), found));
        }
        _ => {}
    }
}

fn status_of(route: usize, body: Vec<u8>, owner: &Value) -> StatusCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let world = World::new();
        world.has_user("00001").await;
        world.has_active_driver("00001").await;
        let (method, path, _) = good().swap_remove(route);
        let request = builder(method, path).header("content-type", "application/json");
        let request = request.header("idempotency-key", "key").body(Body::from(body)).unwrap();
        world.send(authorized(request, owner)).await.status
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn no_document_causes_a_server_error((route, body) in nearly_good()) {
        let status = status_of(route, body.to_string().into_bytes(), &body);
        prop_assert!(status.as_u16() < 500, "{status} {body}");
    }

    #[test]
    fn no_bytes_cause_a_server_error(route in 0..10_usize, body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let status = status_of(route, body, &Value::Null);
        prop_assert!(status.is_client_error(), "{status}");
    }
}
