//! Every kind of refusal over the real listener, provoked by requests with secrets in every part: neither the answers
//! nor the logs repeat a secret.

use std::collections::BTreeSet;

use dispatch_tests::recorder::{Fate, Recorded};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::leaks::found_in;
use crate::trip::{Caller, Ride, ride_request, secrets_in_problem, user_document};

/// A phone number, a position and a token that the rides do not use.
const PHONE: &str = "01098761234";
const PLACE: &str = "37.512349,127.012654";
const TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1c2VyIzAxMDk4NzYxMjM0In0.c2lnbmF0dXJlLW9mLW5vYm9keQ";

/// Kinds of refusals that one caller can provoke. Those of time-outs and load are in other tests.
const KINDS: [&str; 19] = [
    "body-too-large",
    "driver-busy",
    "idempotency-key-reused",
    "internal",
    "invalid-field",
    "malformed-json",
    "method-not-allowed",
    "no-such-path",
    "not-found",
    "offer-over",
    "same-place",
    "slow-body",
    "trip-too-long",
    "unauthenticated",
    "unavailable",
    "unsupported-media-type",
    "user-busy",
    "wrong-scope",
    "wrong-state",
];

/// A request that is refused.
struct RefusedRequest<'a> {
    /// Without a caller the token is invalid.
    caller: Option<Caller<'a>>,
    method: Method,
    path: String,
    body: String,
    content_type: &'static str,
    key: Option<&'a str>,
}

fn request<'a>(caller: Caller<'a>, method: Method, path: &str, body: &Value) -> RefusedRequest<'a> {
    let (path, body, content_type) = (path.to_owned(), body.to_string(), "application/json");
    RefusedRequest { caller: Some(caller), method, path, body, content_type, key: None }
}

/// Sends a request; returns status, headers and body of the answer.
async fn send(bench: &Bench, refused: &RefusedRequest<'_>) -> (StatusCode, String, Value) {
    let token = refused.caller.map_or_else(|| TOKEN.to_owned(), |caller| bench.apps.token(caller));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client
        .request(refused.method.clone(), format!("http://127.0.0.1:{}{}", bench.port, refused.path))
        .bearer_auth(token)
        .header(header::CONTENT_TYPE, refused.content_type)
        .header(header::COOKIE, format!("session={TOKEN}"))
        .header(header::USER_AGENT, format!("app of {PHONE}"))
        .header(header::REFERER, format!("https://maps.example/?at={PLACE}"))
        .header("x-forwarded-for", PHONE)
        .header("x-request-id", format!("{PHONE} at {PLACE}"))
        .body(refused.body.clone());
    if let Some(key) = refused.key {
        request = request.header("idempotency-key", key);
    }
    let answer = request.send().await.unwrap();
    let (status, head) = (answer.status(), format!("{:?}", answer.headers()));
    (status, head, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
}

/// A completed ride, and an accepted one of the same people.
async fn city() -> (Bench, Ride, Ride) {
    let bench = Bench::open("refusals").await;
    let over = bench.apps.ride("rider").await;
    bench.apps.available("rider", "ACTIVE").await;
    let mut ride = bench.apps.ask_with_key("rider", "again").await;
    bench.apps.accept(&mut ride).await;
    (bench, over, ride)
}

/// Requests that are invalid for every caller.
fn invalid() -> Vec<RefusedRequest<'static>> {
    let (user, operations) = (Caller::User("user#rider"), Caller::Operations);
    let mut wrong = user_document();
    wrong["phone"] = json!(format!("{PHONE}x"));
    let mut outside = ride_request("rider").document();
    outside["pickupLocation"]["lat"] = json!(137.512_349);
    let mut text = ride_request("rider").document();
    text["pickupLocation"]["lat"] = json!(PLACE);
    let mut whole = ride_request("rider").document();
    whole["pickupLocation"] = json!(format!("{PHONE} {PLACE}"));
    let mut nowhere = ride_request("rider").document();
    nowhere["destination"] = nowhere["pickupLocation"].clone();
    let mut far = ride_request("rider").document();
    far["destination"]["lat"] = json!(7.512_349);
    let batch = json!({ "locations": [{ "driverId": PHONE, "lat": 37.512_349, "lng": 127.012_654 }] });
    let with = |name: &str, value: &str| format!("/v1/users/rider/dispatches?{name}={value}");
    let mut all = vec![
        request(user, Method::PUT, "/v1/users/rider", &wrong),
        request(user, Method::POST, "/v1/dispatches", &outside),
        request(user, Method::POST, "/v1/dispatches", &text),
        request(user, Method::POST, "/v1/dispatches", &whole),
        request(user, Method::POST, "/v1/dispatches", &nowhere),
        request(user, Method::POST, "/v1/dispatches", &far),
        request(user, Method::PUT, "/v1/users/rider/device", &json!({ "token": format!("{TOKEN} {PHONE}") })),
        request(operations, Method::POST, "/v1/locations/batch", &batch),
        request(user, Method::GET, &with("limit", PHONE), &Value::Null),
        request(user, Method::GET, &with("after", TOKEN), &Value::Null),
        request(user, Method::GET, &format!("/v1/events?user={PLACE}"), &Value::Null),
        request(operations, Method::GET, &format!("/v1/dispatches/{PLACE}"), &Value::Null),
        request(operations, Method::GET, &format!("/v2/{PHONE}/{PLACE}?token={TOKEN}"), &Value::Null),
        request(user, Method::DELETE, &format!("/v1/users/{PHONE}"), &Value::Null),
        request(user, Method::POST, "/v1/dispatches", &json!({ "userId": PHONE.repeat(8_000) })),
    ];
    all.push(RefusedRequest {
        body: format!("{{\"phone\": \"{PHONE}"),
        ..request(user, Method::PUT, "/v1/users/rider", &wrong)
    });
    all.push(RefusedRequest {
        content_type: "text/plain",
        ..request(user, Method::PUT, "/v1/users/rider", &user_document())
    });
    all.push(RefusedRequest { caller: None, ..request(user, Method::PUT, "/v1/users/rider", &user_document()) });
    all
}

/// Valid requests that the state of the dispatch, or the caller's scope, forbids.
fn forbidden<'a>(over: &Ride, ride: &'a Ride) -> Vec<RefusedRequest<'a>> {
    let (user, driver) = (Caller::User(&ride.user), Caller::Driver(&ride.driver));
    let of =
        |ride: &Ride, rest: &str| format!("/v1/dispatches/{}/{rest}", ride.dispatch.trim_start_matches("dispatch#"));
    let answer = json!({ "driverId": ride.driver, "offerSeq": 99, "response": "ACCEPT" });
    let availability = json!({ "status": "INACTIVE", "location": user_document()["currentLocation"] });
    let mut again = ride_request("rider").document();
    again["destination"]["address"] = json!("서울시 중구 비밀골목 8");
    let keyed = |body: &Value| request(user, Method::POST, "/v1/dispatches", body);
    vec![
        request(user, Method::POST, "/v1/dispatches", &ride_request("rider").document()),
        RefusedRequest { key: Some("ask-rider"), ..keyed(&again) },
        request(driver, Method::PUT, "/v1/drivers/rider/availability", &availability),
        request(driver, Method::POST, "/v1/dispatches", &ride_request("rider").document()),
        request(driver, Method::POST, &of(ride, "response"), &answer),
        request(user, Method::POST, &of(over, "cancel"), &json!({ "userId": ride.user })),
        request(Caller::User("user#other"), Method::POST, &of(ride, "cancel"), &json!({ "userId": "user#other" })),
    ]
}

/// Requests while the table throttles, fails, or answers with an unexpected error.
async fn with_failing_table(bench: &Bench, answers: &mut Vec<(StatusCode, String, Value)>) {
    for (code, status) in [("ThrottlingException", 400), ("InternalServerError", 500), ("ValidationException", 400)] {
        let body = format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"for a test"}}"#);
        bench.recorder.interfere(move |call: &Recorded| match call.service.as_str() {
            "dynamodb" => Fate::Answer { status, kind: "application/x-amz-json-1.0", body: body.clone() },
            _ => Fate::Pass,
        });
        let path = "/v1/users/rider";
        answers.push(send(bench, &request(Caller::User("user#rider"), Method::PUT, path, &user_document())).await);
        answers.push(send(bench, &request(Caller::User("user#rider"), Method::GET, path, &Value::Null)).await);
    }
    bench.recorder.stop_interfering();
}

/// Sends a request whose body never ends; returns the body of the answer.
async fn with_slow_body(bench: &Bench) -> Value {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let token = bench.apps.token(Caller::User("user#rider"));
    let head = format!(
        "PUT /v1/users/rider HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: application/json\r\n\
         authorization: Bearer {token}\r\ncontent-length: 500\r\n\r\n{{\"phone\": \"{PHONE}\""
    );
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", bench.port)).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    serde_json::from_str(body).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_refusal_repeats_a_secret_of_its_request() {
    let (mut bench, over, ride) = city().await;
    let mut answers = Vec::new();
    for request in invalid().iter().chain(&forbidden(&over, &ride)) {
        answers.push(send(&bench, request).await);
    }
    with_failing_table(&bench, &mut answers).await;
    let slow = with_slow_body(&bench).await;
    answers.push((StatusCode::REQUEST_TIMEOUT, String::new(), slow));
    let mut kinds = BTreeSet::new();
    for (status, head, body) in &answers {
        assert!(!status.is_success(), "{body}");
        assert_eq!(secrets_in_problem(*status, body), [""; 0], "{body}");
        assert_eq!(found_in("a header", head, &[]), [""; 0], "{head}");
        kinds.insert(kind(body));
    }
    println!("{} refusals of {} kinds: {kinds:?}", answers.len(), kinds.len());
    let missing: Vec<&str> = KINDS.into_iter().filter(|wanted| !kinds.contains(*wanted)).collect();
    assert_eq!(missing, [""; 0], "never provoked");
    bench.apps.drive(&ride).await;
    bench.rides.extend([over, ride]);
    bench.audit().await;
}

fn kind(problem: &Value) -> String {
    problem["type"].as_str().unwrap_or_default().rsplit(['/', ':']).next().unwrap_or_default().to_owned()
}
