//! A complete ride with failures, and a search for personal data in all logs, metrics and problems.

use std::io::Write;
use std::sync::Arc;

use parking_lot::Mutex;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

use super::{World, access, wide_limits, with_json};
use crate::http::{HttpRole, router};
use crate::testing::faults::{FailAt, Failing, Faults};

const PHONES: [&str; 2] = ["01098761234", "01012348765"];
const COORDINATES: [&str; 4] = ["37.512349", "126.987654", "37.498761", "126.954321"];
const PLACES: [&str; 2] = ["카나리아로", "비밀골목"];

/// All log lines of this thread.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Everything written so far.
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

fn place(index: usize) -> Value {
    let coordinate = |at: usize| COORDINATES[at].parse::<f64>().unwrap();
    json!({"lat": coordinate(2 * index), "lng": coordinate(2 * index + 1), "address": format!("서울시 중구 {} 7", PLACES[index])})
}

/// The problems that clients received.
#[derive(Default)]
struct Problems(Vec<String>);

async fn call(world: &World, problems: &mut Problems, request: Request<Body>) -> Value {
    let answer = world.send(request).await;
    if !answer.status.is_success() {
        let mut problem = answer.body.clone();
        // `current` is the caller's own dispatch.
        problem.as_object_mut().unwrap().remove("current");
        problems.0.push(problem.to_string());
    }
    answer.body
}

#[tokio::test]
async fn logs_metrics_and_problems_of_a_ride_with_failures_contain_no_personal_data() {
    let log = Log::default();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).with_ansi(false);
    let guard = tracing::subscriber::set_default(subscriber.finish());
    let faults = Faults::default();
    let plan = faults.clone();
    let mut world = World::new();
    // The same city with failing ports.
    let failing = World::with(|ports| {
        ports.dispatches = Arc::new(Failing::new(world.store.clone(), plan.clone()));
        ports.profiles = Arc::new(world.store.clone());
    });
    world.state = failing.state.clone();
    world.state.access = access(&wide_limits());
    world.api = router(world.state.clone(), &HttpRole::ALL.into());
    let mut problems = Problems::default();
    ride(&world, &faults, &mut problems).await;
    drop(guard);

    let logged = log.text();
    let metrics = world.state.engine.metrics.encode().unwrap();
    assert!(
        logged.contains("token rejected") && logged.contains("path=\"/v1/dispatches/{dispatchId}/response\""),
        "{logged}"
    );
    assert!(problems.0.len() > 12, "{:#?}", problems.0);
    let tokens = ["eyJ", "Bearer ey", "token-of-a-device", "key-of-a-client"];
    for canary in PHONES.iter().chain(&COORDINATES).chain(&PLACES).chain(&tokens) {
        for (what, text) in [("logs", &logged), ("metrics", &metrics), ("problems", &problems.0.join("\n"))] {
            assert!(!text.contains(canary), "{canary} in the {what}");
        }
    }
}

async fn ride(world: &World, faults: &Faults, problems: &mut Problems) {
    let user = json!({
        "phone": PHONES[0], "paymentMethods": [], "currentLocation": place(0),
        "preferences": {"defaultRideType": "STANDARD", "favoriteLocations": []},
    });
    let driver = json!({
        "phone": PHONES[1], "vehicleInfo": {"manufacturer": "현대", "licensePlate": "서울12가3456"},
        "preferences": {"preferredRegions": [], "maxDistance": 20.0, "autoAccept": false, "minimumFare": 0},
    });
    let keyed = |request: axum::http::request::Builder| request.header("idempotency-key", "key-of-a-client");
    call(world, problems, with_json(Request::put("/v1/users/00001"), &user)).await;
    call(world, problems, with_json(Request::put("/v1/drivers/00001"), &driver)).await;
    let mut wrong = user.clone();
    wrong["phone"] = json!(format!("{}x", PHONES[0]));
    call(world, problems, with_json(Request::put("/v1/users/00001"), &wrong)).await;
    wrong["currentLocation"]["lat"] = json!(COORDINATES[0]);
    call(world, problems, with_json(Request::put("/v1/users/00001"), &wrong)).await;
    call(world, problems, with_json(Request::put("/v1/users/00001/device"), &json!({"token": "token-of-a-device"})))
        .await;
    call(world, problems, with_json(Request::put("/v1/users/00001/device"), &json!({"token": "token-of-a-device x"})))
        .await;
    let change = json!({"status": "ACTIVE", "location": place(0)});
    call(world, problems, with_json(Request::put("/v1/drivers/00001/availability"), &change)).await;
    let request = json!({"userId": "user#00001", "pickupLocation": place(0), "destination": place(1)});
    for at in [FailAt::Before, FailAt::After] {
        faults.fail_call(1, at);
        call(world, problems, with_json(keyed(Request::post("/v1/dispatches")), &request)).await;
    }
    let created = call(world, problems, with_json(keyed(Request::post("/v1/dispatches")), &request)).await;
    let id = dispatch_core::ids::DispatchId::parse(created["dispatchId"].as_str().unwrap()).unwrap();
    world.offer(&id, &dispatch_core::ids::DriverId::parse("driver#00001").unwrap()).await;
    let path = |rest: &str| format!("/v1/dispatches/{}/{rest}", id.suffix());
    let answer = json!({"driverId": "driver#00001", "offerSeq": 1, "response": "ACCEPT"});
    for call_number in [1, 2] {
        faults.fail_call(call_number, FailAt::After);
        call(world, problems, with_json(keyed(Request::post(path("response"))), &answer)).await;
    }
    call(world, problems, with_json(keyed(Request::post(path("response"))), &answer)).await;
    for (header, value) in
        [("authorization", "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0."), ("authorization", "nothing")]
    {
        let request = Request::get("/v1/users/00001").header(header, value).body(Body::empty()).unwrap();
        call(world, problems, request).await;
    }
    let ping = json!({"lat": COORDINATES[0].parse::<f64>().unwrap(), "lng": COORDINATES[1].parse::<f64>().unwrap()});
    call(world, problems, with_json(Request::post("/v1/drivers/00001/locations"), &ping)).await;
    let strange = json!({"lat": COORDINATES[0], "lng": 500});
    call(world, problems, with_json(Request::post("/v1/drivers/00001/locations"), &strange)).await;
    for event in ["PASSENGER_PICKED_UP", "PICKUP_STARTED", "TRIP_STARTED", "TRIP_COMPLETED", "PAYMENT_COMPLETED"] {
        let report = json!({"driverId": "driver#00001", "type": event});
        faults.fail_call(1, FailAt::Before);
        call(world, problems, with_json(Request::post(path("events")), &report)).await;
        call(world, problems, with_json(Request::post(path("events")), &report)).await;
    }
    let late = json!({"userId": "user#00001"});
    call(world, problems, with_json(Request::post(path("cancel")), &late)).await;
    let stranger = json!({"driverId": "driver#00009", "offerSeq": 1, "response": "ACCEPT"});
    call(world, problems, with_json(Request::post(path("response")), &stranger)).await;
    let done = world.get(&format!("/v1/dispatches/{}", id.suffix())).await.expect(StatusCode::OK);
    assert_eq!(done["status"], "COMPLETED");
}
