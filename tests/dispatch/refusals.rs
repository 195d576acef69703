//! Every kind of refusal over the real listener, each asked for with secrets wherever a request has room: neither the answers nor the logs
//! repeat one.

use std::collections::BTreeSet;

use dispatch_tests::recorder::{Fate, Recorded};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::leaks::found_in;
use crate::trip::{Ride, Speaker, asking, told_by_problem, user_document};

/// A phone number, a place and a token that belong to nobody here.
const PHONE: &str = "01098761234";
const PLACE: &str = "37.512349,127.012654";
const TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1c2VyIzAxMDk4NzYxMjM0In0.c2lnbmF0dXJlLW9mLW5vYm9keQ";

/// Kinds of refusals that one caller can ask for; the others are those of time and load, which other tests have.
const KINDS: [&str; 17] = [
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
    "slow-body",
    "unauthenticated",
    "unavailable",
    "unsupported-media-type",
    "user-busy",
    "wrong-scope",
    "wrong-state",
];

/// A request: whose, and what it says.
struct Odd<'a> {
    speaker: Option<Speaker<'a>>,
    method: Method,
    path: String,
    body: String,
    kind: &'static str,
    key: Option<&'a str>,
}

fn odd<'a>(speaker: Speaker<'a>, method: Method, path: &str, body: &Value) -> Odd<'a> {
    let kind = "application/json";
    Odd { speaker: Some(speaker), method, path: path.to_owned(), body: body.to_string(), kind, key: None }
}

/// What was answered, with its head.
async fn send(bench: &Bench, odd: &Odd<'_>) -> (StatusCode, String, Value) {
    let token = odd.speaker.map_or_else(|| TOKEN.to_owned(), |speaker| bench.apps.token(speaker));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client
        .request(odd.method.clone(), format!("http://127.0.0.1:{}{}", bench.port, odd.path))
        .bearer_auth(token)
        .header(header::CONTENT_TYPE, odd.kind)
        .header(header::COOKIE, format!("session={TOKEN}"))
        .header(header::USER_AGENT, format!("app of {PHONE}"))
        .header(header::REFERER, format!("https://maps.example/?at={PLACE}"))
        .header("x-forwarded-for", PHONE)
        .header("x-request-id", format!("{PHONE} at {PLACE}"))
        .body(odd.body.clone());
    if let Some(key) = odd.key {
        request = request.header("idempotency-key", key);
    }
    let answer = request.send().await.unwrap();
    let (status, head) = (answer.status(), format!("{:?}", answer.headers()));
    (status, head, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
}

/// A ride that is over, the same people on another one, and somebody free.
async fn city() -> (Bench, Ride, Ride) {
    let bench = Bench::open("refusals").await;
    let over = bench.apps.ride("rider").await;
    bench.apps.available("rider", "ACTIVE").await;
    let mut ride = bench.apps.ask_under("rider", "again").await;
    bench.apps.accept(&mut ride).await;
    (bench, over, ride)
}

/// Requests nobody can use, whoever makes them.
fn unreadable() -> Vec<Odd<'static>> {
    let (user, operations) = (Speaker::User("user#rider"), Speaker::Operations);
    let mut wrong = user_document();
    wrong["phone"] = json!(format!("{PHONE}x"));
    let mut outside = asking("rider").document();
    outside["pickupLocation"]["lat"] = json!(137.512_349);
    let mut text = asking("rider").document();
    text["pickupLocation"]["lat"] = json!(PLACE);
    let mut whole = asking("rider").document();
    whole["pickupLocation"] = json!(format!("{PHONE} {PLACE}"));
    let batch = json!({ "locations": [{ "driverId": PHONE, "lat": 37.512_349, "lng": 127.012_654 }] });
    let with = |name: &str, value: &str| format!("/v1/users/rider/dispatches?{name}={value}");
    let mut all = vec![
        odd(user, Method::PUT, "/v1/users/rider", &wrong),
        odd(user, Method::POST, "/v1/dispatches", &outside),
        odd(user, Method::POST, "/v1/dispatches", &text),
        odd(user, Method::POST, "/v1/dispatches", &whole),
        odd(user, Method::PUT, "/v1/users/rider/device", &json!({ "token": format!("{TOKEN} {PHONE}") })),
        odd(operations, Method::POST, "/v1/locations/batch", &batch),
        odd(user, Method::GET, &with("limit", PHONE), &Value::Null),
        odd(user, Method::GET, &with("after", TOKEN), &Value::Null),
        odd(user, Method::GET, &format!("/v1/events?user={PLACE}"), &Value::Null),
        odd(operations, Method::GET, &format!("/v1/dispatches/{PLACE}"), &Value::Null),
        odd(operations, Method::GET, &format!("/v2/{PHONE}/{PLACE}?token={TOKEN}"), &Value::Null),
        odd(user, Method::DELETE, &format!("/v1/users/{PHONE}"), &Value::Null),
        odd(user, Method::POST, "/v1/dispatches", &json!({ "userId": PHONE.repeat(8_000) })),
    ];
    all.push(Odd { body: format!("{{\"phone\": \"{PHONE}"), ..odd(user, Method::PUT, "/v1/users/rider", &wrong) });
    all.push(Odd { kind: "text/plain", ..odd(user, Method::PUT, "/v1/users/rider", &user_document()) });
    all.push(Odd { speaker: None, ..odd(user, Method::PUT, "/v1/users/rider", &user_document()) });
    all
}

/// Requests that are refused for what they ask.
fn refused<'a>(over: &Ride, ride: &'a Ride) -> Vec<Odd<'a>> {
    let (user, driver) = (Speaker::User(&ride.user), Speaker::Driver(&ride.driver));
    let of =
        |ride: &Ride, rest: &str| format!("/v1/dispatches/{}/{rest}", ride.dispatch.trim_start_matches("dispatch#"));
    let answer = json!({ "driverId": ride.driver, "offerSeq": 99, "response": "ACCEPT" });
    let availability = json!({ "status": "INACTIVE", "location": user_document()["currentLocation"] });
    let mut again = asking("rider").document();
    again["destination"]["address"] = json!("서울시 중구 비밀골목 8");
    let keyed = |body: &Value| odd(user, Method::POST, "/v1/dispatches", body);
    vec![
        odd(user, Method::POST, "/v1/dispatches", &asking("rider").document()),
        Odd { key: Some("ask-rider"), ..keyed(&again) },
        odd(driver, Method::PUT, "/v1/drivers/rider/availability", &availability),
        odd(driver, Method::POST, "/v1/dispatches", &asking("rider").document()),
        odd(driver, Method::POST, &of(ride, "response"), &answer),
        odd(user, Method::POST, &of(over, "cancel"), &json!({ "userId": ride.user })),
        odd(Speaker::User("user#nobody"), Method::POST, &of(ride, "cancel"), &json!({ "userId": "user#nobody" })),
    ]
}

/// Requests that meet a table that does not answer, or says what nobody expects.
async fn failing(bench: &Bench, answers: &mut Vec<(StatusCode, String, Value)>) {
    for (code, status) in [("ThrottlingException", 400), ("InternalServerError", 500), ("ValidationException", 400)] {
        let body = format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"for a test"}}"#);
        bench.recorder.interfere(move |call: &Recorded| match call.service.as_str() {
            "dynamodb" => Fate::Answer { status, kind: "application/x-amz-json-1.0", body: body.clone() },
            _ => Fate::Pass,
        });
        let path = "/v1/users/rider";
        answers.push(send(bench, &odd(Speaker::User("user#rider"), Method::PUT, path, &user_document())).await);
        answers.push(send(bench, &odd(Speaker::User("user#rider"), Method::GET, path, &Value::Null)).await);
    }
    bench.recorder.stop_interfering();
}

/// A body that does not come; gives the answer's document.
async fn slow(bench: &Bench) -> Value {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let token = bench.apps.token(Speaker::User("user#rider"));
    let head = format!(
        "PUT /v1/users/rider HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: application/json\r\nauthorization: Bearer \
         {token}\r\ncontent-length: 500\r\n\r\n{{\"phone\": \"{PHONE}\""
    );
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", bench.port)).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    serde_json::from_str(body).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_refusal_of_any_kind_repeats_a_secret_it_was_sent() {
    let (mut bench, over, ride) = city().await;
    let mut answers = Vec::new();
    for odd in unreadable().iter().chain(&refused(&over, &ride)) {
        answers.push(send(&bench, odd).await);
    }
    failing(&bench, &mut answers).await;
    let slow = slow(&bench).await;
    answers.push((StatusCode::REQUEST_TIMEOUT, String::new(), slow));
    let mut kinds = BTreeSet::new();
    for (status, head, body) in &answers {
        assert!(!status.is_success(), "{body}");
        assert_eq!(told_by_problem(*status, body), [""; 0], "{body}");
        assert_eq!(found_in("a head", head, &[]), [""; 0], "{head}");
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
