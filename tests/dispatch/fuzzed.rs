//! The API against its OpenAPI document, by requests that schemathesis generates from it: valid ones, which must be
//! accepted, and invalid ones, which must be refused as documented.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use reqwest::Method;
use serde_json::Value;

use crate::process::{Surroundings, free_port, number};
use crate::support::City;
use crate::trip::{Apps, Call, Caller, Reply, user_document};

/// Time for each kind of caller; `DISPATCH_FUZZ_SECONDS` sets another one.
const SECONDS: u64 = 20;
/// A fixed seed, so that a failure repeats; `DISPATCH_FUZZ_SEED` sets another one.
const SEED: u64 = 20_250_525;

/// Half the circumference of the earth: the longest possible trip.
const LONGEST_TRIP_M: u32 = 20_100_000;

/// The repository.
fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests are a folder of the repository")
}

/// The program, if `make` has installed it.
fn schemathesis() -> Option<PathBuf> {
    let program = repository().join(".venv/bin/schemathesis");
    program.exists().then_some(program)
}

/// The document without the header `Idempotency-Key`: a key must not be used for another request, which no schema says.
fn document_without_keys() -> Value {
    let text = std::fs::read_to_string(repository().join("runtime/openapi.json")).unwrap();
    let mut document: Value = serde_json::from_str(&text).unwrap();
    let operations = document["paths"]
        .as_object_mut()
        .unwrap()
        .values_mut()
        .flat_map(|path| path.as_object_mut().unwrap().values_mut());
    for operation in operations {
        if let Some(parameters) = operation.get_mut("parameters").and_then(Value::as_array_mut) {
            parameters.retain(|parameter| parameter["name"] != "Idempotency-Key");
        }
    }
    document
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn generated_requests_are_answered_as_the_document_says() {
    let Some(program) = schemathesis() else {
        println!("skipped: generated_requests_are_answered_as_the_document_says: no .venv/bin/schemathesis");
        return;
    };
    let mut city = City::create().await;
    // Two places of a valid request may be far apart: no schema says how far.
    city.config.dispatch.longest_trip_m = LONGEST_TRIP_M;
    let document = document_without_keys();
    let surroundings = Surroundings::new(&city.config.to_json_pretty().unwrap(), city.ministack.endpoint(), None);
    std::fs::write(surroundings.folder.path().join("openapi.json"), document.to_string()).unwrap();
    let port = free_port();
    let _worker = surroundings.start("fuzzed", "all", port).await;
    let apps = Apps::new(&city, port);
    let sign_on = Call::new(Method::PUT, "/v1/users/00001".to_owned()).body(user_document());
    assert!(matches!(apps.once(Caller::User("user#00001"), &sign_on).await, Reply::Answer { .. }));
    let seconds = number("DISPATCH_FUZZ_SECONDS", SECONDS).to_string();
    let seed = number("DISPATCH_FUZZ_SEED", SEED).to_string();
    for caller in [Caller::User("user#00001"), Caller::Driver("driver#00001"), Caller::Operations] {
        let output = Command::new(&program)
            .args(["--config-file"])
            .arg(repository().join("tests/dispatch/schemathesis.toml"))
            .arg("run")
            .arg(surroundings.folder.path().join("openapi.json"))
            .args(["--url", &format!("http://127.0.0.1:{port}"), "--max-time", &seconds, "--seed", &seed])
            .args(["--header", &format!("Authorization: Bearer {}", apps.token(caller))])
            .current_dir(surroundings.folder.path())
            .env("HYPOTHESIS_STORAGE_DIRECTORY", surroundings.folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        println!("{caller:?}\n{text}");
        assert!(output.status.success(), "{caller:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
