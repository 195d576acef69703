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
    assert!(reported.lines().any(|line| line.starts_with("-: spec.city")), "{reported}");
    assert!(reported.lines().any(|line| line.starts_with("-: spec.timezone")), "{reported}");
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
    assert!(text(&failed.stderr).starts_with("error: cannot describe the stack"), "{}", text(&failed.stderr));
}
