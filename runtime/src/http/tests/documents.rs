//! The committed OpenAPI document.

use std::path::Path;

use crate::http::openapi;

#[test]
fn the_committed_openapi_document_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let made = openapi().to_pretty_json().unwrap() + "\n";
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(made == committed, "runtime/openapi.json is stale: run the tests with UPDATE_GENERATED=1");
}
