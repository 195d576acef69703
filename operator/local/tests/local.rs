//! `dispatch-local run` as a process, with the real emulator and the real Redis. Small Python programs replace runtime
//! and simulator, so these tests cover supervision and isolation only; the end-to-end suite covers a whole city.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot continue fails")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

const WITHIN: Duration = Duration::from_mins(1);

/// Answers `/readyz` and `/metrics`.
const RUNTIME: &str = r#"#!/usr/bin/env python3
import http.server, signal, sys
option = lambda name: sys.argv[sys.argv.index(name) + 1]
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"dispatch_requests_total 7\n"
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
host, port = option("--admin-listen").split(":")
http.server.HTTPServer((host, int(port)), Page).serve_forever()
"#;

/// Ends at once, successfully if it has one driver.
const SIMULATOR: &str = r#"#!/usr/bin/env python3
import json, sys
option = lambda name: sys.argv[sys.argv.index(name) + 1]
open(option("--signing-key")).close()
json.dump({"verdict": "replacement"}, open(option("--summary"), "w"))
print("report of the simulator")
sys.exit(option("--drivers") != "1")
"#;

const MANIFEST: &str = "\
apiVersion: dispatch.coactus.io/v1alpha1
kind: DispatchSystem
metadata: { name: seoul }
spec:
  city: seoul
  region: ap-northeast-2
  timezone: Asia/Seoul
  dispatch: { maxAttempts: 5 }
";

struct City {
    dir: tempfile::TempDir,
    local: Child,
}

impl City {
    fn start(options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let ministack = std::env::var_os("DISPATCH_MINISTACK")
            .map_or_else(|| repository.join(".venv/bin/ministack"), PathBuf::from);
        fs::write(dir.path().join("seoul.yaml"), MANIFEST).unwrap();
        for (name, text) in [("runtime", RUNTIME), ("simulator", SIMULATOR)] {
            let program = dir.path().join(name);
            fs::write(&program, text).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let output = fs::File::create(dir.path().join("output")).unwrap();
        let local = Command::new(env!("CARGO_BIN_EXE_dispatch-local"))
            .args(["run", "-f", "seoul.yaml", "--state-dir", "state"])
            .args(["--runtime-bin", "./runtime", "--simulator-bin", "./simulator"])
            .args(options)
            .env("DISPATCH_MINISTACK", ministack)
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Self { dir, local }
    }

    fn output(&self) -> String {
        fs::read_to_string(self.dir.path().join("output")).unwrap()
    }

    fn wait_for(&self, text: &str) {
        until(|| self.output().contains(text), || format!("{text:?} was not printed:\n{}", self.output()));
    }

    fn edit(&self, manifest: &str) {
        fs::write(self.dir.path().join("seoul.yaml"), manifest).unwrap();
    }

    fn worker_config(&self) -> Value {
        serde_json::from_slice(&fs::read(self.dir.path().join("state/worker.json")).unwrap()).unwrap()
    }

    /// Value of a variable in the run's `env` file, as a shell reads it.
    fn variable(&self, name: &str) -> String {
        let script = format!(". state/env; printf %s \"${name}\"");
        let shell = Command::new("sh").args(["-euc", &script]).current_dir(self.dir.path()).output().unwrap();
        String::from_utf8(shell.stdout).unwrap()
    }

    /// Every child process, with its command line.
    fn children(&self) -> Vec<(Pid, String)> {
        let parent = format!("PPid:\t{}\n", self.local.id());
        let processes = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let status = fs::read_to_string(entry.path().join("status")).ok()?;
            let line = fs::read_to_string(entry.path().join("cmdline")).ok()?;
            status.contains(&parent).then(|| (Pid::from_raw(pid).unwrap(), line))
        });
        processes.collect()
    }

    fn child(&self, program: &str) -> Pid {
        let children = self.children();
        children.iter().find(|(_, line)| line.contains(program)).unwrap_or_else(|| panic!("{program}: {children:?}")).0
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.local), signal).unwrap();
    }

    fn ended(&mut self) -> ExitStatus {
        let mut ended = None;
        until(
            || {
                ended = self.local.try_wait().unwrap();
                ended.is_some()
            },
            || "dispatch-local did not end".to_owned(),
        );
        ended.unwrap()
    }
}

impl Drop for City {
    fn drop(&mut self) {
        // After a failed test the reaper ends the children.
        let _ = self.local.kill();
        let _ = self.local.wait();
    }
}

fn until(mut condition: impl FnMut() -> bool, otherwise: impl Fn() -> String) {
    let deadline = Instant::now() + WITHIN;
    while !condition() {
        assert!(Instant::now() < deadline, "{}", otherwise());
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn all_gone(children: &[(Pid, String)]) {
    for (pid, line) in children {
        until(|| test_kill_process(*pid).is_err(), || format!("{line} is still alive"));
    }
}

/// A request to a server on this machine: status and everything after it.
fn http(address: &str, request: &str, headers: &[&str], body: &str) -> (u16, String) {
    let authority = address.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(authority).unwrap();
    stream.set_read_timeout(Some(WITHIN)).unwrap();
    let mut lines = vec![format!("{request} HTTP/1.1")];
    if !headers.iter().any(|header| header.starts_with("host:")) {
        lines.push(format!("host: {authority}"));
    }
    lines.extend(headers.iter().map(|&header| header.to_owned()));
    lines.extend(["connection: close".to_owned(), format!("content-length: {}", body.len())]);
    write!(stream, "{}\r\n\r\n{body}", lines.join("\r\n")).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}

#[test]
fn a_city_applies_edits_restarts_its_workers_and_leaves_no_process() {
    let mut city = City::start(&[]);
    city.wait_for("seoul  Ready");
    let children = city.children();
    assert_eq!(children.len(), 4, "reaper, emulator, Redis and runtime: {children:?}");

    city.wait_for("export USER_TOKEN=ey");
    assert_eq!(city.worker_config()["auth"]["issuer"], "https://local.dispatch.invalid");

    kill_process(city.child("runtime"), Signal::KILL).unwrap();
    city.wait_for("runtime exited with signal 9; it restarts in 0.2 s");

    city.edit(&MANIFEST.replace("maxAttempts: 5", "maxAttempts: -1"));
    city.wait_for("seoul.yaml is invalid; the previous version stays in effect:");
    assert_eq!(city.worker_config()["dispatch"]["maxAttempts"], 5);

    city.edit(&MANIFEST.replace("maxAttempts: 5", "maxAttempts: 4"));
    city.wait_for("the workers reload the dispatch rules without a restart");
    assert_eq!(city.worker_config()["dispatch"]["maxAttempts"], 4);

    let children = city.children();
    city.signal(Signal::INT);
    assert_eq!(city.ended().code(), Some(0), "{}", city.output());
    all_gone(&children);
}

/// What a web page in the developer's browser, or a program of another user, could try: run code through a function.
#[test]
fn the_emulator_serves_the_city_and_runs_no_code() {
    let city = City::start(&[]);
    city.wait_for("seoul  Ready");
    let aws = city.variable("AWS_ENDPOINT_URL");
    city.wait_for(&format!("AWS       {aws}  (region ap-northeast-2, credentials test, test)"));
    assert!(!aws.ends_with(":4566"), "{aws}");
    assert_eq!(city.variable("AWS_ACCESS_KEY_ID"), "test");
    let mode = fs::metadata(city.dir.path().join("state/env")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let signed = |service: &str| {
        format!("authorization: AWS4-HMAC-SHA256 Credential=test/20250525/ap-northeast-2/{service}/aws4_request")
    };
    let function = "POST /2015-03-31/functions";
    assert_eq!(http(&aws, function, &[], "{}").0, 403);
    assert_eq!(http(&aws, function, &[&signed("lambda")], "{}").0, 403);
    assert_eq!(http(&aws, function, &[&signed("cloudformation")], "{}").0, 400);

    // A page can send forms without a preflight, but not signed ones. Under a name of its own it could sign them.
    let form = "content-type: application/x-www-form-urlencoded";
    let list = "Action=ListStacks&Version=2010-05-15";
    assert_eq!(http(&aws, "POST /", &[form], list).0, 403);
    let (status, answer) = http(&aws, "POST /", &[form, &signed("cloudformation")], list);
    assert!(status == 200 && answer.contains("coactus-default-seoul"), "{answer}");
    assert_eq!(http(&aws, "POST /", &[form, &signed("cloudformation"), "host: evil.example:80"], list).0, 403);
    let preflight = ["origin: http://evil.example", "access-control-request-method: POST"];
    assert_eq!(http(&aws, "OPTIONS /", &preflight, "").0, 403);
    assert_eq!(http(&aws, "POST /_ministack/config", &[], r#"{"lambda_svc.LAMBDA_EXECUTOR":"local"}"#).0, 403);

    // CloudFormation creates the city's types of resources only.
    for resource in ["AWS%3A%3ALambda%3A%3AFunction", "AWS%3A%3AGlue%3A%3AJob", "AWS%3A%3AECS%3A%3ATaskDefinition"] {
        let template = format!("%7B%22Resources%22%3A%7B%22R%22%3A%7B%22Type%22%3A%22{resource}%22%7D%7D%7D");
        let create = format!("Action=CreateStack&Version=2010-05-15&StackName=other&TemplateBody={template}");
        let (status, answer) = http(&aws, "POST /", &[form, &signed("cloudformation")], &create);
        assert!(status == 400 && answer.contains("Unrecognized resource types"), "{answer}");
    }
}

#[test]
fn the_emulators_port_can_be_pinned() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let city = City::start(&["--aws-port", &port.to_string()]);
    city.wait_for("seoul  Ready");
    assert_eq!(city.variable("AWS_ENDPOINT_URL"), format!("http://127.0.0.1:{port}"));
    let mut second = City::start(&["--aws-port", &port.to_string()]);
    assert_eq!(second.ended().code(), Some(1));
    assert!(second.output().contains(&format!("cannot listen on 127.0.0.1:{port}")), "{}", second.output());
}

#[test]
fn the_apps_get_tokens_and_other_pages_do_not() {
    let city = City::start(&[]);
    city.wait_for("seoul  Ready");
    city.wait_for("apps      http://127.0.0.1:");
    let output = city.output();
    let apps = output.lines().find_map(|line| line.strip_prefix("apps      ")).unwrap().to_owned();
    until(|| TcpStream::connect(apps.strip_prefix("http://").unwrap()).is_ok(), || "no apps".to_owned());
    assert_eq!(http(&apps, "GET /", &[], "").0, 200);
    let person = r#"{"person":"user#90001"}"#;
    let (status, answer) = http(&apps, "POST /session", &[&format!("origin: {apps}")], person);
    assert!(status == 200 && answer.contains(r#"{"token":"ey"#), "{answer}");
    assert_eq!(http(&apps, "POST /session", &["origin: http://evil.example"], person).0, 403);
    assert_eq!(http(&apps, "POST /session", &[], person).0, 403);
}

#[test]
fn keys_and_tokens_are_made_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let local = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_dispatch-local")).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let keys: Value = serde_json::from_str(&local(&["keys", "--dir", dir.path().to_str().unwrap()])).unwrap();
    assert_eq!(keys["auth"]["issuer"], "https://local.dispatch.invalid");
    let key = dir.path().join("signing-key.json");
    let token = local(&["token", "--key", key.to_str().unwrap(), "--sub", "user#00002", "--scope", "user"]);
    assert_eq!(token.trim_end().split('.').count(), 3);
}

#[test]
fn a_killed_run_leaves_no_process() {
    let mut city = City::start(&[]);
    city.wait_for("seoul  Ready");
    let children = city.children();
    assert_eq!(children.len(), 4, "reaper, emulator, Redis and runtime: {children:?}");
    city.signal(Signal::KILL);
    city.ended();
    all_gone(&children);
}

#[test]
fn a_lost_emulator_ends_the_run() {
    let mut city = City::start(&[]);
    city.wait_for("seoul  Ready");
    let children = city.children();
    kill_process(city.child("ministack"), Signal::KILL).unwrap();
    assert_eq!(city.ended().code(), Some(1));
    assert!(city.output().contains("ministack exited with signal 9"), "{}", city.output());
    all_gone(&children);
}

#[test]
fn the_simulations_verdict_is_that_of_the_run() {
    for (simulation, code) in [("drivers=2,rate=1", 1), ("drivers=1,rate=1", 0)] {
        let mut city = City::start(&["--simulate", simulation, "--for", "1s", "--summary", "out/summary.json"]);
        assert_eq!(city.ended().code(), Some(code), "{}", city.output());
        assert!(city.output().contains("report of the simulator"));
        let summary: Value =
            serde_json::from_slice(&fs::read(city.dir.path().join("out/summary.json")).unwrap()).unwrap();
        assert_eq!(summary["success"], code == 0);
        assert_eq!(summary["simulation"]["verdict"], "replacement");
        assert_eq!(summary["stackStatus"], "CREATE_COMPLETE");
    }
}
