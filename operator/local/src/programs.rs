//! How the children of a local run are started.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::options::Simulation;
use crate::process::{Backoff, OnExit, ProcessSpec, Program};
use crate::state::{Keep, StateDir};

/// Time the runtime has to answer what it has begun; it stops taking new work at once.
const RUNTIME_GRACE: Duration = Duration::from_secs(15);

/// Time the simulator has to write its summary.
const SIMULATOR_GRACE: Duration = Duration::from_secs(10);

/// Time the emulator has to write its state.
const EMULATOR_GRACE: Duration = Duration::from_secs(10);

/// Redis has nothing to write.
const REDIS_GRACE: Duration = Duration::from_secs(5);

/// Memory Redis may take: some hundred times what a city of 20,000 drivers needs.
const REDIS_MEMORY: &str = "256mb";

/// What Redis gives up when it is full: the same as the template's parameter group says.
const REDIS_EVICTION: &str = "volatile-ttl";

/// Credentials that every emulator takes and AWS does not.
pub const EMULATOR_CREDENTIAL: &str = "test";

/// Variables that could bring somebody's real AWS identity into a run that uses none.
const IDENTITY_ENV: [&str; 4] = ["AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_DEFAULT_PROFILE"];

/// Variables by which somebody says which identity to use.
const GIVEN_IDENTITY_ENV: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"];

/// `redis-server` without persistence: positions are newer than any file.
pub fn redis(executable: PathBuf, port: u16, state: &StateDir) -> ProcessSpec {
    let port = port.to_string();
    let root = state.root().as_os_str();
    let words = [
        "--bind",
        "127.0.0.1",
        "--port",
        &port,
        "--save",
        "",
        "--appendonly",
        "no",
        "--maxmemory",
        REDIS_MEMORY,
        "--maxmemory-policy",
        REDIS_EVICTION,
    ];
    let mut args: Vec<OsString> = words.iter().map(OsString::from).collect();
    args.extend(["--dir".into(), root.to_owned()]);
    ProcessSpec {
        program: Program::Redis,
        executable,
        args,
        env: Vec::new(),
        without_env: Vec::new(),
        log: state.log(Program::Redis),
        on_exit: OnExit::Restart(Backoff::LOCAL),
        grace: REDIS_GRACE,
    }
}

/// What the emulator is told.
#[derive(Clone, Debug)]
pub struct Emulator<'a> {
    /// Its program.
    pub executable: PathBuf,
    /// Its port.
    pub port: u16,
    /// Region of requests that name none.
    pub region: &'a str,
    /// Account it plays; its own default otherwise.
    pub account: Option<&'a str>,
    /// Port of the Redis that its `ElastiCache` points to, where this run has one.
    pub redis_port: Option<u16>,
    /// Whether it keeps its state.
    pub keep: Keep,
}

/// `ministack`, bound to this machine. It is not restarted: what it held is lost with it.
pub fn ministack(emulator: &Emulator<'_>, state: &StateDir) -> ProcessSpec {
    let path = |path: PathBuf| path.to_string_lossy().into_owned();
    let keep = if emulator.keep == Keep::EmulatorState { "1" } else { "0" };
    let mut env = vec![
        ("GATEWAY_PORT", emulator.port.to_string()),
        ("BIND_HOST", "127.0.0.1".to_owned()),
        ("MINISTACK_REGION", emulator.region.to_owned()),
        ("STATE_DIR", path(state.emulator_state())),
        ("S3_DATA_DIR", path(state.emulator_objects())),
        ("TMPDIR", path(state.emulator_temporary())),
        ("PERSIST_STATE", keep.to_owned()),
        ("S3_PERSIST", keep.to_owned()),
        ("LOG_LEVEL", "WARNING".to_owned()),
        // It would start containers for an emulated ElastiCache where it finds a Docker; a local run starts none.
        ("DOCKER_HOST", format!("unix://{}", path(state.emulator_temporary().join("no-docker.sock")))),
    ];
    if let Some(account) = emulator.account {
        env.push(("MINISTACK_ACCOUNT_ID", account.to_owned()));
    }
    if let Some(port) = emulator.redis_port {
        env.extend([("REDIS_HOST", "127.0.0.1".to_owned()), ("REDIS_PORT", port.to_string())]);
    }
    env.extend(emulator_identity());
    ProcessSpec {
        program: Program::Ministack,
        executable: emulator.executable.clone(),
        args: Vec::new(),
        env,
        without_env: IDENTITY_ENV.to_vec(),
        log: state.log(Program::Ministack),
        on_exit: OnExit::Report,
        grace: EMULATOR_GRACE,
    }
}

/// Whose AWS identity engine and workers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The emulator's.
    Emulated,
    /// That of whoever started the run.
    Inherited,
}

impl Identity {
    /// The emulator's identity for the emulator, and for an address of this machine where the environment names no other: AWS
    /// itself is never there. `is_set` asks the environment for a variable.
    pub fn choose(own_emulator: bool, endpoint: &str, is_set: impl Fn(&str) -> bool) -> Self {
        let host = reqwest::Url::parse(endpoint).ok().and_then(|url| url.host_str().map(str::to_owned));
        let loopback = matches!(host.as_deref(), Some("localhost" | "127.0.0.1" | "[::1]"));
        if own_emulator || (loopback && !GIVEN_IDENTITY_ENV.iter().any(|name| is_set(name))) {
            Self::Emulated
        } else {
            Self::Inherited
        }
    }
}

/// `dispatch-runtime serve` with all roles.
pub fn runtime(executable: PathBuf, ports: RuntimePorts, identity: Identity, state: &StateDir) -> ProcessSpec {
    let (listen, admin) = (format!("127.0.0.1:{}", ports.http), format!("127.0.0.1:{}", ports.admin));
    let mut args: Vec<OsString> = vec!["serve".into(), "--config".into(), state.worker_config().into()];
    args.extend(["--role", "all", "--listen", &listen, "--admin-listen", &admin].map(OsString::from));
    let (env, without_env) = match identity {
        Identity::Emulated => (emulator_identity().to_vec(), IDENTITY_ENV.to_vec()),
        Identity::Inherited => (Vec::new(), Vec::new()),
    };
    ProcessSpec {
        program: Program::Runtime,
        executable,
        args,
        env,
        without_env,
        log: state.log(Program::Runtime),
        on_exit: OnExit::Restart(Backoff::LOCAL),
        grace: RUNTIME_GRACE,
    }
}

/// Ports of the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuntimePorts {
    /// HTTP API.
    pub http: u16,
    /// Health and metrics.
    pub admin: u16,
}

/// `dispatch-runtime simulate` against the runtime's HTTP API; without an end it plays until it is stopped.
pub fn simulator(
    executable: PathBuf,
    simulation: &Simulation,
    length: Option<Duration>,
    api: &str,
    state: &StateDir,
) -> ProcessSpec {
    let key = state.signing_key();
    let words = [
        "simulate",
        "--quiet",
        "--api",
        api,
        "--drivers",
        &simulation.drivers.to_string(),
        "--rate",
        &simulation.rate.to_string(),
        "--seed",
        &simulation.seed.to_string(),
        "--summary",
    ];
    let mut args: Vec<OsString> = words.iter().map(OsString::from).collect();
    args.extend([state.simulation().into(), "--signing-key".into(), key.into()]);
    if let Some(length) = length {
        args.extend(["--for".into(), format!("{}s", length.as_secs()).into()]);
    }
    ProcessSpec {
        program: Program::Simulator,
        executable,
        args,
        env: Vec::new(),
        without_env: Vec::new(),
        log: state.log(Program::Simulator),
        on_exit: OnExit::Report,
        grace: SIMULATOR_GRACE,
    }
}

fn emulator_identity() -> [(&'static str, String); 2] {
    [("AWS_ACCESS_KEY_ID", EMULATOR_CREDENTIAL.to_owned()), ("AWS_SECRET_ACCESS_KEY", EMULATOR_CREDENTIAL.to_owned())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_emulators_identity_is_never_used_for_another_machine_or_over_a_given_one() {
        assert_eq!(Identity::choose(true, "http://127.0.0.1:4566", |_| true), Identity::Emulated);
        assert_eq!(Identity::choose(false, "http://localhost:4566", |_| false), Identity::Emulated);
        assert_eq!(Identity::choose(false, "http://localhost:4566", |name| name == "AWS_PROFILE"), Identity::Inherited);
        let aws = "https://dynamodb.ap-northeast-2.amazonaws.com";
        assert_eq!(Identity::choose(false, aws, |_| false), Identity::Inherited);
    }

    #[test]
    fn the_emulator_never_sees_a_real_identity_and_starts_no_container() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path(), Keep::Nothing).unwrap();
        let emulator = Emulator {
            executable: "ministack".into(),
            port: 4566,
            region: "ap-northeast-2",
            account: None,
            redis_port: Some(6379),
            keep: Keep::Nothing,
        };
        let spec = ministack(&emulator, &state);
        let value = |name| spec.env.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str());
        assert_eq!(value("AWS_ACCESS_KEY_ID"), Some("test"));
        assert!(spec.without_env.contains(&"AWS_SESSION_TOKEN"));
        assert_eq!(value("PERSIST_STATE"), Some("0"));
        let socket = value("DOCKER_HOST").unwrap().strip_prefix("unix://").unwrap();
        assert!(!std::path::Path::new(socket).exists());
    }
}
