//! `dispatch-operator local` as a process, with the real emulator and the real Redis. A small HTTP server stands in for the
//! runtime, so that these tests are about supervision alone; the whole city runs in the end-to-end suite.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_mins(1);

/// Has keys, answers `/readyz` and `/metrics`; `simulate` ends at once, well when it has one driver.
const STAND_IN: &str = r#"
import http.server, json, signal, sys
option = lambda name: sys.argv[sys.argv.index(name) + 1]
if sys.argv[1] == "keys":
    auth = {"issuer": "https://local.test", "audiences": ["dispatch"], "jwksFile": option("--dir") + "/jwks.json"}
    print(json.dumps({"auth": auth, "tokens": {"user": "u.u.u", "driver": "d.d.d", "operations": "o.o.o"}}))
    sys.exit(0)
if sys.argv[1] == "simulate":
    json.dump({"verdict": "stand-in"}, open(option("--summary"), "w"))
    print("the simulator's words")
    sys.exit(option("--drivers") != "1")
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
    operator: Child,
}

impl City {
    fn start(options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let ministack =
            std::env::var_os("DISPATCH_MINISTACK").map_or_else(|| root.join(".venv/bin/ministack"), PathBuf::from);
        fs::write(dir.path().join("seoul.yaml"), MANIFEST).unwrap();
        let runtime = dir.path().join("runtime");
        fs::write(&runtime, format!("#!/usr/bin/env python3\n{STAND_IN}")).unwrap();
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755)).unwrap();
        let output = fs::File::create(dir.path().join("output")).unwrap();
        let operator = Command::new(env!("CARGO_BIN_EXE_dispatch-operator"))
            .args(["local", "-f", "seoul.yaml", "--state-dir", "state", "--runtime-bin", "./runtime"])
            .args(options)
            .env("DISPATCH_MINISTACK", ministack)
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Self { dir, operator }
    }

    fn output(&self) -> String {
        fs::read_to_string(self.dir.path().join("output")).unwrap()
    }

    fn wait_for(&self, text: &str) {
        until(|| self.output().contains(text), || format!("{text:?} never came:\n{}", self.output()));
    }

    fn edit(&self, manifest: &str) {
        fs::write(self.dir.path().join("seoul.yaml"), manifest).unwrap();
    }

    fn worker_config(&self) -> Value {
        serde_json::from_slice(&fs::read(self.dir.path().join("state/worker.json")).unwrap()).unwrap()
    }

    /// Every process whose parent is the operator, with its command line.
    fn children(&self) -> Vec<(Pid, String)> {
        let parent = format!("PPid:\t{}\n", self.operator.id());
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
        kill_process(Pid::from_child(&self.operator), signal).unwrap();
    }

    fn ended(&mut self) -> ExitStatus {
        let mut ended = None;
        until(
            || {
                ended = self.operator.try_wait().unwrap();
                ended.is_some()
            },
            || "the operator never ended".to_owned(),
        );
        ended.unwrap()
    }
}

impl Drop for City {
    fn drop(&mut self) {
        // A failed test leaves nothing behind either: the guard ends the children.
        let _ = self.operator.kill();
        let _ = self.operator.wait();
    }
}

fn until(mut condition: impl FnMut() -> bool, otherwise: impl Fn() -> String) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{}", otherwise());
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn all_gone(children: &[(Pid, String)]) {
    for (pid, line) in children {
        until(|| test_kill_process(*pid).is_err(), || format!("{line} still lives"));
    }
}

#[test]
fn a_city_follows_edits_restarts_its_workers_and_leaves_nothing_behind() {
    let mut city = City::start(&[]);
    city.wait_for("seoul  Ready");
    let children = city.children();
    assert_eq!(children.len(), 4, "guard, emulator, Redis and runtime: {children:?}");

    city.wait_for("export USER_TOKEN=u.u.u");
    assert_eq!(city.worker_config()["auth"]["issuer"], "https://local.test");

    kill_process(city.child("runtime"), Signal::KILL).unwrap();
    city.wait_for("runtime ended with signal 9; it is started again in 0.2 s");

    city.edit(&MANIFEST.replace("maxAttempts: 5", "maxAttempts: -1"));
    city.wait_for("seoul.yaml is refused:");
    assert_eq!(city.worker_config()["dispatch"]["maxAttempts"], 5);

    city.edit(&MANIFEST.replace("maxAttempts: 5", "maxAttempts: 4"));
    city.wait_for("the workers take the new dispatch rules over without a restart");
    assert_eq!(city.worker_config()["dispatch"]["maxAttempts"], 4);

    let children = city.children();
    city.signal(Signal::INT);
    assert_eq!(city.ended().code(), Some(0), "{}", city.output());
    all_gone(&children);
}

#[test]
fn a_killed_operator_leaves_nothing_behind() {
    let mut city = City::start(&[]);
    city.wait_for("seoul  Ready");
    let children = city.children();
    assert_eq!(children.len(), 4, "guard, emulator, Redis and runtime: {children:?}");
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
    assert!(city.output().contains("ministack ended with signal 9"), "{}", city.output());
    all_gone(&children);
}

#[test]
fn the_simulations_verdict_is_the_runs() {
    for (simulation, code) in [("drivers=2,rate=1", 1), ("drivers=1,rate=1", 0)] {
        let mut city = City::start(&["--simulate", simulation, "--for", "1s", "--summary", "out/summary.json"]);
        assert_eq!(city.ended().code(), Some(code), "{}", city.output());
        assert!(city.output().contains("the simulator's words"));
        let summary: Value =
            serde_json::from_slice(&fs::read(city.dir.path().join("out/summary.json")).unwrap()).unwrap();
        assert_eq!(summary["success"], code == 0);
        assert_eq!(summary["simulation"]["verdict"], "stand-in");
        assert_eq!(summary["stackStatus"], "CREATE_COMPLETE");
    }
}
