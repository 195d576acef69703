//! Privacy on real processes: what drivers see, what expires, what the audit trail says, and the erasure of a person.

use dispatch_api::worker_config::{OfferAddressesConfig, PrivacyConfig};
use dispatch_tests::support::until;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::trip::{Call, Caller, Reply, Ride};

/// Addresses, coordinates and the phone number of the user of a test ride.
const OF_USER: [&str; 5] = ["카나리아로 7", "비밀골목", "37.512349", "37.521357", "01098761234"];

async fn open(name: &str, privacy: PrivacyConfig) -> Bench {
    Bench::open_with(name, |config| config.dispatch.privacy = privacy).await
}

async fn call(bench: &Bench, caller: Caller<'_>, method: Method, path: String) -> (StatusCode, Value) {
    match bench.apps.once(caller, &Call::new(method, path)).await {
        Reply::Answer { status, body } => (status, body),
        Reply::NoAnswer => panic!("no answer"),
    }
}

async fn read(bench: &Bench, caller: Caller<'_>, ride: &Ride) -> Value {
    let path = format!("/v1/dispatches/{}", ride.dispatch.trim_start_matches("dispatch#"));
    let (status, body) = call(bench, caller, Method::GET, path).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body
}

fn addresses(document: &Value) -> [&str; 2] {
    ["pickupLocation", "destination"].map(|place| document[place]["address"].as_str().unwrap())
}

/// The audit lines of the worker, as text.
fn audit_lines(bench: &Bench) -> Vec<String> {
    let log = bench.surroundings.folder.path().join(format!("{}.log", bench.name));
    let text = std::fs::read_to_string(log).unwrap();
    text.lines().filter(|line| line.contains(" audit: ")).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drivers_see_districts_until_they_accept_and_reads_are_in_the_audit_trail() {
    let privacy = PrivacyConfig { offer_addresses: OfferAddressesConfig::District, ..PrivacyConfig::default() };
    let bench = open("districts", privacy).await;
    let (user, driver) = bench.apps.people("quiet").await;
    let event = bench.apps.first_event(&driver, "OFFER").await;
    let mut ride = bench.apps.ask("quiet").await;
    let event = event.await;
    assert!(event.contains("\"pickupAddress\":\"서울시 중구\""), "{event}");
    assert!(event.contains("\"destinationAddress\":\"서울시 중구\""), "{event}");
    assert!(event.contains("\"estimatedFare\":") && event.contains("\"estimatedDistance\":"), "{event}");
    let offered = read(&bench, Caller::Driver(&driver), &ride).await;
    assert_eq!(addresses(&offered), ["서울시 중구", "서울시 중구"]);
    assert!(!OF_USER.iter().any(|own| offered.to_string().contains(own)), "{offered}");
    assert_eq!(addresses(&read(&bench, Caller::User(&user), &ride).await)[0], "서울시 중구 카나리아로 7");

    bench.apps.accept(&mut ride).await;
    let accepted = read(&bench, Caller::Driver(&driver), &ride).await;
    assert_eq!(addresses(&accepted)[0], "서울시 중구 카나리아로 7");
    read(&bench, Caller::User(&user), &ride).await;
    read(&bench, Caller::Operations, &ride).await;

    let lines = audit_lines(&bench);
    for (subject, operation, object) in [
        (driver.as_str(), "deliverOffer", ride.dispatch.clone()),
        (driver.as_str(), "getDispatch", format!("{},{user}", ride.dispatch)),
        (user.as_str(), "getDispatch", format!("{},{driver}", ride.dispatch)),
        ("operator", "getDispatch", format!("{},{user},{driver}", ride.dispatch)),
        ("operator", "postLocations", "-".to_owned()),
    ] {
        let parts = [("subject", subject), ("operation", operation), ("object", &object), ("outcome", "done")]
            .map(|(name, value)| format!("{name}=\"{value}\""));
        let found = lines.iter().any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(found, "{parts:?} in {lines:#?}");
    }
    bench.apps.drive(&ride).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finished_ride_blurs_for_its_driver_and_expires_in_the_table() {
    let bench = open("blurred", PrivacyConfig { blur_rides_after_ms: 2000, ..PrivacyConfig::default() }).await;
    bench.apps.people("early").await;
    let ride = bench.apps.ride("short").await;
    let waiting = bench.apps.ask("early").await;
    let blurred = until("the blur", async || {
        let shown = read(&bench, Caller::Driver(&ride.driver), &ride).await;
        (addresses(&shown) == ["서울시 중구", "서울시 중구"]).then_some(shown)
    });
    let blurred = blurred.await;
    assert!(!OF_USER.iter().any(|own| blurred.to_string().contains(own)), "{blurred}");
    assert!(blurred["actualFare"].as_u64().unwrap() > 0);
    assert_eq!(addresses(&read(&bench, Caller::User(&ride.user), &ride).await)[0], "서울시 중구 카나리아로 7");

    let items = bench.city.scan(&bench.city.config.table.name).await;
    let expiring = |id: &str, entity: &str| {
        let item = items.iter().find(|item| {
            let text = item.to_string();
            item["EntityType"] == entity && text.contains(id)
        });
        item.unwrap_or_else(|| panic!("no {entity} of {id}"))["expiresAt"].as_f64()
    };
    for entity in ["DISPATCH", "USER_DISPATCH_HISTORY", "DRIVER_COMPLETED_RIDE", "DRIVER_STATUS_HISTORY"] {
        let year = 365.0 * 24.0 * 60.0 * 60.0;
        assert!(expiring(&ride.dispatch, entity).is_some_and(|at| at > 1_700_000_000.0 + year), "{entity}");
    }
    let open = items.iter().find(|item| item["PK"] == waiting.dispatch.as_str() && item["SK"] == "METADATA");
    if let Some(open) = open.filter(|open| open["status"] == "REQUESTED" || open["status"] == "ACCEPTED") {
        assert!(open["expiresAt"].is_null(), "{open}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_export_and_erase_a_person_and_the_worker_survives_expired_items() {
    let mut bench = Bench::open("erased").await;
    let ride = bench.apps.ride("leaver").await;
    // Otherwise the driver could get the next ride.
    bench.apps.available("leaver", "INACTIVE").await;
    let mut busy = {
        bench.apps.people("busy").await;
        bench.apps.ask("busy").await
    };
    bench.apps.accept(&mut busy).await;
    let operations = |what: &str, kind: &str, id: &str| format!("/v1/operations/{kind}/{id}/{what}");

    let (status, exported) =
        call(&bench, Caller::Operations, Method::GET, operations("export", "users", "leaver")).await;
    assert_eq!(status, StatusCode::OK, "{exported}");
    assert!(exported.to_string().contains("01098761234"), "{exported}");
    let refused = call(&bench, Caller::Operations, Method::POST, operations("erase", "users", "busy")).await;
    assert_eq!(
        (refused.0, &refused.1["type"]),
        (StatusCode::CONFLICT, &json!("tag:coactus.io,2026:dispatch/open-ride"))
    );
    let forbidden =
        call(&bench, Caller::User("user#leaver"), Method::POST, operations("erase", "users", "leaver")).await;
    assert_eq!(forbidden.0, StatusCode::FORBIDDEN);

    for kind in ["users", "drivers"] {
        let receipt = until("the erasure", async || {
            let (status, receipt) =
                call(&bench, Caller::Operations, Method::POST, operations("erase", kind, "leaver")).await;
            assert_eq!(status, StatusCode::OK, "{receipt}");
            receipt["completedAt"].is_string().then_some(receipt)
        });
        let receipt = receipt.await;
        assert_eq!(receipt["found"]["profiles"], 1, "{receipt}");
        assert_eq!(receipt["digest"].as_str().map(str::len), Some(64));
    }
    let (status, _) = call(&bench, Caller::User("user#leaver"), Method::GET, "/v1/users/leaver".to_owned()).await;
    assert_eq!(status, StatusCode::NOT_FOUND);

    let items = bench.city.scan(&bench.city.config.table.name).await;
    let mine = |item: &Value| {
        let text = item.to_string();
        (text.contains("leaver") || text.contains(&ride.dispatch))
            && !item["PK"].as_str().unwrap().starts_with("ANSWER#")
    };
    let mine: Vec<&Value> = items.iter().filter(|item| mine(item)).collect();
    let text = mine.iter().map(ToString::to_string).collect::<String>();
    let left: Vec<&&str> = OF_USER
        .iter()
        .chain(&["01012348765", "카나리아로 9", "서울12가3456"])
        .filter(|own| text.contains(**own))
        .collect();
    assert!(left.is_empty(), "{left:?} in {mine:#?}");
    let dispatch = mine.iter().find(|item| item["PK"] == ride.dispatch.as_str() && item["SK"] == "METADATA").unwrap();
    assert!(dispatch["actualFare"].as_f64().unwrap() > 0.0, "{dispatch}");
    let keys = bench.city.redis.lock().await.command("KEYS *").await.unwrap();
    let keys: Vec<String> = redis::from_redis_value(keys).unwrap();
    assert!(!keys.iter().any(|key| key.contains("leaver") || key.contains(&ride.dispatch)), "{keys:?}");
    assert!(
        audit_lines(&bench).iter().any(|line| line.contains("operation=\"eraseUser\"") && line.contains("user#leaver"))
    );

    // DynamoDB deletes what has expired; the records of that reach the stream.
    for item in items.iter().filter(|item| item["erasedAt"].is_string() && item["expiresAt"].is_number()) {
        let key = ["PK", "SK"].map(|name| (name, item[name].as_str().unwrap().to_owned()));
        let mut delete = bench.city.dynamodb().delete_item().table_name(&bench.city.config.table.name);
        for (name, value) in key {
            delete = delete.key(name, aws_sdk_dynamodb::types::AttributeValue::S(value));
        }
        delete.send().await.unwrap();
    }
    bench.apps.drive(&busy).await;
    let after = bench.apps.ride("later").await;
    assert_eq!(bench.worker.admin("livez").await, Some(200));
    bench.rides = vec![busy, after];
}
