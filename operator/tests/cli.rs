//! The program on the command line: exit codes and output.
#![expect(clippy::expect_used, reason = "helpers of tests")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// An endpoint without a listener.
const NOWHERE: &str = "http://127.0.0.1:1";

fn operator(words: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_dispatch-operator"))
        .args(words)
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_ENDPOINT_URL", NOWHERE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // A program that rejects its command line does not read its input.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("the program ends")
}

fn seoul() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/seoul.yaml");
    std::fs::read_to_string(path).expect("the example")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn documents_go_to_stdout_without_any_call() {
    let crd = operator(&["crd", "-o", "json"], "");
    assert_eq!(crd.status.code(), Some(0));
    let crd: serde_json::Value = serde_json::from_slice(&crd.stdout).expect("JSON");
    assert_eq!(crd["kind"], "CustomResourceDefinition");
    let committed = include_str!("../../manifests/crd.yaml");
    let printed = text(&operator(&["crd"], "").stdout);
    assert!(committed.ends_with(&printed) && printed.starts_with("apiVersion:"), "it prints the committed definition");

    let template = operator(&["template", "-f", "-"], &seoul());
    assert_eq!((template.status.code(), text(&template.stderr)), (Some(0), String::new()));
    let template: serde_yaml::Value = serde_yaml::from_slice(&template.stdout).expect("YAML");
    assert!(template["Resources"]["Table"].is_mapping());
}

#[test]
fn a_wrong_manifest_is_reported_line_by_line_without_any_call() {
    let wrong = seoul().replace("city: seoul", "city: SEOUL").replace("timezone: Asia/Seoul", "timezone: Asia/Soul");
    let refused = operator(&["apply", "-f", "-"], &wrong);
    assert_eq!(refused.status.code(), Some(2));
    let reported = text(&refused.stderr);
    assert!(reported.lines().any(|line| line.starts_with("-: default/seoul: spec.city: ")), "{reported}");
    assert!(reported.lines().any(|line| line.starts_with("-: default/seoul: spec.timezone: ")), "{reported}");
    assert!(!reported.contains("connect"), "{reported}");
    assert_eq!(text(&refused.stdout), "");
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    for words in [&["apply"][..], &["plan", "-f", "-", "--secret", "fcm"], &["--log", "=,=", "crd"], &["nothing"]] {
        assert_eq!(operator(words, "").status.code(), Some(2), "{words:?}");
    }
    let missing = operator(&["status", "-f", "/no/such/file.yaml"], "");
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("/no/such/file.yaml"));
    let unasked = operator(&["destroy", "-f", "-"], &seoul());
    assert_eq!(unasked.status.code(), Some(2), "it cannot be confirmed");
}

#[test]
fn an_unreachable_endpoint_exits_with_1() {
    let failed = operator(&["status", "-f", "-"], &seoul());
    assert_eq!(failed.status.code(), Some(1));
    let reported = text(&failed.stderr);
    assert!(reported.starts_with("error: default/seoul: cannot describe the stack"), "{reported}");
}

#[test]
fn a_failed_system_does_not_keep_the_others_from_being_processed() {
    let two = format!("{}---\n{}", seoul(), seoul().replace("name: seoul", "name: busan"));
    let failed = operator(&["status", "-f", "-", "-o", "json"], &two);
    assert_eq!(failed.status.code(), Some(1));
    let reported = text(&failed.stderr);
    for name in ["seoul", "busan"] {
        let line = format!("error: default/{name}: cannot describe the stack");
        assert!(reported.lines().any(|reported| reported.starts_with(&line)), "{reported}");
    }
    assert_eq!(text(&failed.stdout), "[]\n", "no result");

    let templates = operator(&["template", "-f", "-", "-o", "json"], &two);
    assert_eq!(templates.status.code(), Some(0));
    let templates: serde_json::Value = serde_json::from_slice(&templates.stdout).expect("one JSON document");
    assert_eq!(templates.as_array().map(Vec::len), Some(2), "the results of several systems are one list");
}

/// Of an endpoint that never answers.
#[test]
fn ctrl_c_ends_an_apply_and_reports_that_aws_continues() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", silent.local_addr().expect("an address"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_dispatch-operator"))
        .args(["apply", "-f", "-"])
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_ENDPOINT_URL", endpoint)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    child.stdin.take().expect("a pipe").write_all(seoul().as_bytes()).expect("it reads the manifest");
    // It has called AWS, so it listens for signals.
    let _call = silent.accept().expect("a connection");
    let signal = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    assert!(signal.success());
    let ended = child.wait_with_output().expect("the program ends");
    let reported = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(130), "{reported}");
    assert!(reported.contains("interrupted; AWS continues what has begun"), "{reported}");
    assert!(reported.contains("note: default/seoul: spec.export.schedule runs in a cluster only"), "{reported}");
}
