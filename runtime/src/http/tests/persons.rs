//! Erasure and export of one person's data.

use axum::http::StatusCode;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{World, user_profile};

const SECRETS: [&str; 6] = ["01012341234", "명동", "종로구", "37.5662", "126.9784", "서울12가3456"];

fn secrets_in(text: &str) -> Vec<&'static str> {
    SECRETS.into_iter().filter(|secret| text.contains(secret)).collect()
}

/// Everything that the table holds under these keys.
fn stored(world: &World, keys: &[&str]) -> String {
    keys.iter().flat_map(|key| world.store.partition(key)).map(|item| item.to_string()).collect()
}

#[tokio::test]
async fn a_user_is_erased_with_a_receipt_and_fares_and_times_stay() {
    let world = World::new();
    let id = world.has_ride().await;
    let dispatch = format!("dispatch#{id}");
    let before = world.get(&format!("/v1/dispatches/{id}")).await.expect(StatusCode::OK);
    world.put("/v1/users/00001/device", json!({"token": "t".repeat(20)})).await.expect(StatusCode::OK);

    let receipt = world.post("/v1/operations/users/00001/erase", json!(null)).await.expect(StatusCode::OK);
    let found = json!({
        "profiles": 1, "devices": 1, "dispatches": 1, "routes": 0, "histories": 1, "rides": 0, "others": 0
    });
    assert_eq!((&receipt["personId"], &receipt["found"]), (&json!("user#00001"), &found));
    assert!(receipt["completedAt"].is_string(), "{receipt}");
    let covered = format!(
        "{{\"personId\":\"user#00001\",\"startedAt\":{},\"completedAt\":{},\"found\":{{\"profiles\":1,\"devices\":1,\
         \"dispatches\":1,\"routes\":0,\"histories\":1,\"rides\":0,\"others\":0}}}}",
        receipt["startedAt"], receipt["completedAt"]
    );
    let digest = Sha256::digest(covered).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    assert_eq!(receipt["digest"], digest.as_str());

    assert_eq!(secrets_in(&stored(&world, &["user#00001", &dispatch])), [""; 0]);
    let after = world.get(&format!("/v1/dispatches/{id}")).await.expect(StatusCode::OK);
    for kept in ["actualFare", "estimatedFare", "createdAt", "durationSeconds", "distanceMeters", "status", "driverId"]
    {
        assert_eq!(after[kept], before[kept], "{kept}");
    }
    world.get("/v1/users/00001").await.expect(StatusCode::NOT_FOUND);
    assert!(!secrets_in(&stored(&world, &["driver#00001"])).is_empty(), "the driver's data stays");

    let again = world.post("/v1/operations/users/00001/erase", json!(null)).await.expect(StatusCode::OK);
    assert_eq!((&again["found"]["profiles"], &again["found"]["devices"]), (&json!(0), &json!(0)));
    // A user who comes back has a new profile and can request rides.
    world.put("/v1/users/00001", user_profile()).await.expect(StatusCode::OK);
    world.post("/v1/dispatches", super::ride_request()).await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn a_driver_is_erased_from_table_and_cache() {
    let world = World::new();
    let id = world.has_ride().await;
    let driver = dispatch_core::ids::DriverId::parse("driver#00001").unwrap();
    assert!(world.fleet.entry(&driver).is_some());
    let receipt = world.post("/v1/operations/drivers/00001/erase", json!(null)).await.expect(StatusCode::OK);
    assert_eq!((&receipt["found"]["profiles"], &receipt["found"]["rides"]), (&json!(1), &json!(1)));
    assert!(receipt["found"]["histories"].as_u64().unwrap() >= 2, "{receipt}");
    assert!(world.fleet.entry(&driver).is_none());
    assert_eq!(secrets_in(&stored(&world, &["driver#00001"])), [""; 0]);
    world.get("/v1/drivers/00001").await.expect(StatusCode::NOT_FOUND);
    let ride = world.get(&format!("/v1/dispatches/{id}")).await.expect(StatusCode::OK);
    assert_eq!((&ride["route"], &ride["pickupLocation"]["address"]), (&json!([]), &json!("서울시 중구 명동")));
}

#[tokio::test]
async fn a_person_on_a_ride_cannot_be_erased() {
    let world = World::new();
    let id = world.has_offer().await;
    let answer = json!({"driverId": "driver#00001", "offerSeq": 1, "response": "ACCEPT"});
    world.post(&format!("/v1/dispatches/{id}/response"), answer).await.expect(StatusCode::OK);
    let keys = ["user#00001", "driver#00001", &format!("dispatch#{id}")];
    let before = stored(&world, &keys);
    for path in ["/v1/operations/users/00001/erase", "/v1/operations/drivers/00001/erase"] {
        let problem = world.post(path, json!(null)).await.expect(StatusCode::CONFLICT);
        assert_eq!(problem["type"], "tag:coactus.io,2026:dispatch/open-ride");
    }
    assert_eq!(stored(&world, &keys), before, "nothing changed");
}

#[tokio::test]
async fn an_export_holds_what_is_stored_about_a_person() {
    let world = World::new();
    let id = world.has_ride().await;
    let kinds = |page: &Value| {
        let items = page["items"].as_array().unwrap().iter();
        let mut kinds: Vec<String> = items.map(|item| item["kind"].as_str().unwrap().to_owned()).collect();
        kinds.sort();
        kinds.dedup();
        kinds.join(" ")
    };
    let user = world.get("/v1/operations/users/00001/export").await.expect(StatusCode::OK);
    assert_eq!((user["next"].clone(), kinds(&user).as_str()), (Value::Null, "DISPATCH HISTORY PROFILE"));
    let text = user.to_string();
    assert!(["01012341234", "명동", &id].iter().all(|own| text.contains(own)), "{text}");
    assert!(!text.contains("GSI1PK"));
    let driver = world.get("/v1/operations/drivers/00001/export").await.expect(StatusCode::OK);
    assert_eq!(kinds(&driver), "DISPATCH HISTORY PROFILE RIDE");
    let ride = driver["items"].as_array().unwrap().iter().find(|item| item["kind"] == "DISPATCH").unwrap();
    assert!(ride["data"]["pickupLocation"].is_null(), "the place is the user's");

    let nothing = world.get("/v1/operations/users/00009/export").await.expect(StatusCode::OK);
    assert_eq!(nothing["items"], json!([]));
    let wrong = world.get("/v1/operations/users/00001/export?after=x").await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(wrong["field"], "after");
}
