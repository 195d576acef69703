//! Users who request and cancel, trips that a city does not serve, and clients that take more than their share.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dispatch_tests::recorder::{Fate, Recorded};
use dispatch_tests::support::until;
use parking_lot::Mutex;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant, timeout};

use crate::bench::Bench;
use crate::process::{Surroundings, free_port, simulator};
use crate::support::City;
use crate::trip::{Apps, Call, Caller, Reply, ride_request, user_document};

/// Status and body of one call.
async fn answer(apps: &Apps, caller: Caller<'_>, call: &Call) -> (StatusCode, Value) {
    match apps.once(caller, call).await {
        Reply::Answer { status, body } => (status, body),
        Reply::NoAnswer => panic!("{call:?} has no answer"),
    }
}

/// The last part of a problem's type.
fn kind(problem: &Value) -> &str {
    problem["type"].as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default()
}

async fn sign_on(apps: &Apps, name: &str) {
    let call = Call::new(Method::PUT, format!("/v1/users/{name}")).body(user_document());
    let (status, body) = answer(apps, Caller::User(&format!("user#{name}")), &call).await;
    assert_eq!(status, StatusCode::OK, "{body}");
}

/// A request of a user with a key of its own.
async fn request(apps: &Apps, name: &str, key: &str) -> (StatusCode, Value) {
    answer(apps, Caller::User(&format!("user#{name}")), &ride_request(name).key(key.to_owned())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_cancels_often_waits_on_every_worker_and_after_restarts() {
    let city = City::create().await;
    let surroundings = Surroundings::new(&city.config.to_json_pretty().unwrap(), city.ministack.endpoint(), None);
    let (first, second) = (free_port(), free_port());
    let mut one = surroundings.start("one", "all", first).await;
    let apps = Apps::new(&city, first);
    sign_on(&apps, "fickle").await;
    sign_on(&apps, "steady").await;
    for number in 0..3 {
        let (status, stored) = request(&apps, "fickle", &format!("key-{number}")).await;
        assert_eq!(status, StatusCode::CREATED, "{stored}");
        let id = stored["dispatchId"].as_str().unwrap().trim_start_matches("dispatch#");
        let cancel = Call::new(Method::POST, format!("/v1/dispatches/{id}/cancel"));
        let cancel = cancel.body(json!({ "userId": "user#fickle" }));
        let (status, body) = answer(&apps, Caller::User("user#fickle"), &cancel).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }
    let (status, refused) = request(&apps, "fickle", "key-4").await;
    assert_eq!((status, kind(&refused)), (StatusCode::TOO_MANY_REQUESTS, "cancelled-too-often"), "{refused}");
    let until = refused["retryAt"].as_str().unwrap().to_owned();
    assert!(refused["detail"].as_str().unwrap().contains(&until), "{refused}");
    // A repeated request is no new one, and other users are not concerned.
    assert_eq!(request(&apps, "fickle", "key-2").await.0, StatusCode::OK);
    assert_eq!(request(&apps, "steady", "key-1").await.0, StatusCode::CREATED);

    one.kill();
    let two = surroundings.start("two", "all", second).await;
    let others = Apps::new(&city, second);
    let (status, refused) = request(&others, "fickle", "key-5").await;
    assert_eq!((status, refused["retryAt"].as_str()), (StatusCode::TOO_MANY_REQUESTS, Some(until.as_str())));
    assert_eq!(two.metric("dispatch_requests_refused_total{reason=\"cancelled-too-often\"}").await, 1);
}

/// A request from the place of all rides to another one.
fn trip_to(lat: f64, lng: f64) -> Call {
    let mut document = ride_request("rider").document();
    document["destination"] = json!({ "lat": lat, "lng": lng, "address": "서울시 중구 명동" });
    Call::new(Method::POST, "/v1/dispatches".to_owned()).body(document)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_worker_serves_the_area_that_the_city_has_now() {
    let mut city = City::create().await;
    let rectangle = |west: f64, east: f64| {
        vec![vec![vec![west, 37.4], vec![east, 37.4], vec![east, 37.7], vec![west, 37.7], vec![west, 37.4]]]
    };
    city.config.dispatch.service_area = Some(vec![rectangle(126.7, 127.2)]);
    let surroundings = Surroundings::new(&city.config.to_json_pretty().unwrap(), city.ministack.endpoint(), None);
    let port = free_port();
    let _worker = surroundings.start("area", "all", port).await;
    let apps = Apps::new(&city, port);
    sign_on(&apps, "rider").await;
    let user = Caller::User("user#rider");
    let refused = async |call: &Call| {
        let (status, body) = answer(&apps, user, call).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        (kind(&body).to_owned(), body["field"].as_str().unwrap_or_default().to_owned())
    };
    let named = |kind: &str, field: &str| (kind.to_owned(), field.to_owned());
    assert_eq!(refused(&trip_to(35.1151, 129.0415)).await, named("outside-service-area", "destination"));
    assert_eq!(refused(&trip_to(37.512_349, 127.012_654)).await, named("same-place", "destination"));

    // Another area, and a shorter longest trip: the pickup is outside now.
    city.config.dispatch.service_area = Some(vec![rectangle(126.7, 126.8), rectangle(127.1, 127.2)]);
    std::fs::write(surroundings.folder.path().join("worker.json"), city.config.to_json_pretty().unwrap()).unwrap();
    until("the worker to apply the area", async || {
        (refused(&trip_to(35.1151, 129.0415)).await == named("outside-service-area", "pickupLocation")).then_some(())
    })
    .await;
    city.config.dispatch.service_area = None;
    city.config.dispatch.longest_trip_m = 5000;
    std::fs::write(surroundings.folder.path().join("worker.json"), city.config.to_json_pretty().unwrap()).unwrap();
    until("the worker to apply the longest trip", async || {
        (refused(&trip_to(35.1151, 129.0415)).await == named("trip-too-long", "destination")).then_some(())
    })
    .await;
    let (status, stored) = answer(&apps, user, &trip_to(37.521_357, 127.024_689)).await;
    assert_eq!(status, StatusCode::CREATED, "{stored}");
}

/// The status of a request for an event stream that a proxy passes on, with the connection, which stays open.
async fn stream_of(address: SocketAddr, apps: &Apps, name: &str, client: &str) -> (String, TcpStream) {
    let token = apps.token(Caller::User(&format!("user#{name}")));
    let request = format!(
        "GET /v1/events?user={name} HTTP/1.1\r\nhost: dispatch\r\nauthorization: Bearer {token}\r\n\
         x-forwarded-for: 198.51.100.9, {client}\r\n\r\n"
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    (String::from_utf8_lossy(&head[9..]).into_owned(), stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_holds_its_share_of_a_process_and_others_are_served() {
    let mut city = City::create().await;
    city.config.limits.client_address_header = Some("x-forwarded-for".to_owned());
    city.config.limits.address_share_percent = 25;
    let surroundings = Surroundings::new(&city.config.to_json_pretty().unwrap(), city.ministack.endpoint(), None);
    let port = free_port();
    // Bounds of 120 connections, 90 of which may be streams.
    let _worker = surroundings.start_after("ulimit -n 256", "shares", "all", port).await;
    let (apps, address) = (Apps::new(&city, port), SocketAddr::from(([127, 0, 0, 1], port)));
    let mut held = Vec::new();
    for number in 0..30 {
        held.push(stream_of(address, &apps, &format!("carrier-{number}"), "203.0.113.7").await);
    }
    let opened = held.iter().filter(|(status, _)| status == "200").count();
    assert_eq!(opened, 22, "a quarter of 90");
    assert!(held[opened..].iter().all(|(status, _)| status == "429"));
    assert_eq!(stream_of(address, &apps, "other", "203.0.113.8").await.0, "200");
    // A stream that ends makes room.
    held.remove(0);
    until("the place of an ended stream", async || {
        (stream_of(address, &apps, "late", "203.0.113.7").await.0 == "200").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_head_behind_a_request_ends_within_ten_seconds() {
    let city = City::create().await;
    let surroundings = Surroundings::new(&city.config.to_json_pretty().unwrap(), city.ministack.endpoint(), None);
    let port = free_port();
    let _worker = surroundings.start("heads", "all", port).await;
    let apps = Apps::new(&city, port);
    let token = apps.token(Caller::User("user#silent"));
    let request = format!("GET /v1/users/silent HTTP/1.1\r\nhost: dispatch\r\nauthorization: Bearer {token}\r\n\r\n");
    let open = async |more: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(format!("{request}{more}").as_bytes()).await.unwrap();
        let mut answer = [0; 4096];
        assert!(stream.read(&mut answer).await.unwrap() > 0);
        stream
    };
    let (mut half, mut idle) = (open("GET /v1/users/silent HTTP/1.1\r\nx-slow: ").await, open("").await);
    let begun = Instant::now();
    let mut byte = [0];
    let closed = timeout(Duration::from_secs(20), half.read(&mut byte)).await.expect("it is closed");
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    assert!((8..15).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    // A connection without half a head stays.
    idle.write_all(request.as_bytes()).await.unwrap();
    assert!(idle.read(&mut byte).await.unwrap() > 0);
}

/// Time for which the table is not available to new requests.
const OUTAGE: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_outage_refuses_is_counted_and_no_violation() {
    let bench = Bench::open("outage").await;
    let summary = bench.surroundings.folder.path().join("summary.json");
    // While it lasts, no new request is stored. Those that are stored continue.
    let (outage, stored) = (Arc::new(AtomicBool::new(false)), Mutex::new(HashSet::new()));
    let body = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ThrottlingException","message":"for a test"}"#;
    let lasts = Arc::clone(&outage);
    bench.recorder.interfere(move |call: &Recorded| {
        if call.operation != "TransactWriteItems" || !call.item.starts_with("dispatch#") {
            return Fate::Pass;
        }
        let mut stored = stored.lock();
        if lasts.load(Ordering::Relaxed) && !stored.contains(&call.item) {
            return Fate::Answer { status: 400, kind: "application/x-amz-json-1.0", body: body.to_owned() };
        }
        stored.insert(call.item.clone());
        Fate::Pass
    });
    let mut traffic = Command::new(simulator())
        .env("DISPATCH_SIGNING_KEY", bench.city.signing_key())
        .args(["--api", &format!("http://127.0.0.1:{}", bench.port), "--drivers", "15", "--rate", "3", "--for", "12s"])
        .args(["--patience", "1s", "--trip-seconds", "1", "--cancel-share", "0", "--summary"])
        .arg(&summary)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("dispatch-simulator is built");
    until("the first requests", async || (bench.worker.metric("dispatch_requests_total ").await >= 3).then_some(()))
        .await;
    outage.store(true, Ordering::Relaxed);
    tokio::time::sleep(OUTAGE).await;
    outage.store(false, Ordering::Relaxed);
    let status = until_ended(&mut traffic).await;
    let shown = std::fs::read_to_string(&summary).unwrap_or_default();
    let summary: Value = serde_json::from_str(&shown).unwrap();
    assert!(status.success(), "the simulator ended with {status}: {shown}");
    println!("{} requests, {} refused", summary["requests"], summary["refused"]);
    assert!(summary["refused"].as_u64().unwrap() > 0 && summary["clean"] == true, "{shown}");
    assert!(summary["completed"].as_u64().unwrap() > 0, "{shown}");
}

async fn until_ended(process: &mut std::process::Child) -> std::process::ExitStatus {
    let deadline = Instant::now() + Duration::from_mins(2);
    loop {
        if let Some(status) = process.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "the simulator does not end");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
