//! The committed OpenAPI document and its examples.

use std::path::Path;

use dispatch_http_types as dto;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::http::openapi;

#[test]
fn the_generated_openapi_document_is_committed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let made = openapi().to_pretty_json().unwrap() + "\n";
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(made == committed, "runtime/openapi.json is stale: run the tests with UPDATE_GENERATED=1");
}

/// Checks that the example of a schema survives a round trip through its type unchanged.
fn example_is_its_own_type<T: DeserializeOwned + Serialize>(document: &Value, name: &str) {
    let example = &document["components"]["schemas"][name]["example"];
    let read: T = serde_json::from_value(example.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
    let written = serde_json::to_value(read).unwrap();
    // 20 and 20.0 are the same number but different JSON values.
    assert_eq!(written.to_string().replace("20.0", "20"), example.to_string().replace("20.0", "20"), "{name}");
}

#[test]
fn every_example_is_a_document_of_its_type() {
    let document = serde_json::to_value(openapi()).unwrap();
    example_is_its_own_type::<dto::Location>(&document, "Location");
    example_is_its_own_type::<dto::CreateDispatch>(&document, "CreateDispatch");
    example_is_its_own_type::<dto::Dispatch>(&document, "Dispatch");
    example_is_its_own_type::<dto::RoutePoint>(&document, "RoutePoint");
    example_is_its_own_type::<dto::OfferResponse>(&document, "OfferResponse");
    example_is_its_own_type::<dto::TripReport>(&document, "TripReport");
    example_is_its_own_type::<dto::CancelDispatch>(&document, "CancelDispatch");
    example_is_its_own_type::<dto::PutUser>(&document, "PutUser");
    example_is_its_own_type::<dto::UserProfile>(&document, "UserProfile");
    example_is_its_own_type::<dto::PutDriver>(&document, "PutDriver");
    example_is_its_own_type::<dto::DriverProfile>(&document, "DriverProfile");
    example_is_its_own_type::<dto::DriverPreferences>(&document, "DriverPreferences");
    example_is_its_own_type::<dto::CurrentStatus>(&document, "CurrentStatus");
    example_is_its_own_type::<dto::PutDevice>(&document, "PutDevice");
    example_is_its_own_type::<dto::PutAvailability>(&document, "PutAvailability");
    example_is_its_own_type::<dto::PostLocation>(&document, "PostLocation");
    example_is_its_own_type::<dto::BatchLocation>(&document, "BatchLocation");
    example_is_its_own_type::<dto::PostLocations>(&document, "PostLocations");
}

#[test]
fn every_operation_describes_itself_and_its_problems() {
    let document = serde_json::to_value(openapi()).unwrap();
    let mut operations = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            operations += 1;
            let name = format!("{method} {path}");
            assert!(operation["summary"].is_string() && operation["operationId"].is_string(), "{name}");
            let scopes = operation["security"].as_array().unwrap();
            assert!(
                scopes.iter().all(|one| one["bearer"].as_array().unwrap().len() == 1) && !scopes.is_empty(),
                "{name}"
            );
            for status in ["401", "403", "422", "429", "500", "503"] {
                let content = &operation["responses"][status]["content"]["application/problem+json"];
                assert_eq!(content["example"]["status"].to_string(), status, "{name}");
            }
            let body = operation.get("requestBody").is_some();
            assert_eq!(operation["responses"].get("415").is_some(), body, "{name}");
        }
    }
    assert_eq!(operations, 28);
}
