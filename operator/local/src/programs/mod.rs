//! The programs of a run: where they are, and how they are started.

pub(crate) mod binaries;
pub(crate) mod emulator;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::args::Simulation;
use crate::endpoints::{AwsIdentity, emulator_credentials};
use crate::process::{ProcessSpec, Program, RestartBackoff, RestartPolicy};
use crate::state_dir::StateDir;

/// Time the runtime has to finish what it has begun. It stops accepting work at once.
const RUNTIME_GRACE: Duration = Duration::from_secs(15);

/// Time the simulator has to write its summary.
const SIMULATOR_GRACE: Duration = Duration::from_secs(10);

/// Redis has nothing to write.
const REDIS_GRACE: Duration = Duration::from_secs(5);

/// Memory limit of Redis: some hundred times what a city of 20,000 drivers needs.
const REDIS_MEMORY: &str = "256mb";

/// What Redis evicts at the limit, as in the template's parameter group.
const REDIS_EVICTION: &str = "volatile-ttl";

/// Variables that could bring a real AWS identity into a run that needs none.
const REAL_IDENTITY_ENV: [&str; 4] = ["AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_DEFAULT_PROFILE"];

/// `redis-server` without persistence: positions are newer than any file.
pub(crate) fn redis(executable: PathBuf, port: u16, state: &StateDir) -> ProcessSpec {
    let port = port.to_string();
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
    args.extend(["--dir".into(), state.root().as_os_str().to_owned()]);
    ProcessSpec {
        program: Program::Redis,
        executable,
        args,
        env: Vec::new(),
        without_env: Vec::new(),
        log: state.log(Program::Redis),
        restart: RestartPolicy::Always(RestartBackoff::LOCAL),
        grace: REDIS_GRACE,
    }
}

/// Ports of the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RuntimePorts {
    pub(crate) http: u16,
    /// Health and metrics.
    pub(crate) admin: u16,
}

/// `dispatch-runtime serve` with all roles.
pub(crate) fn runtime(
    executable: PathBuf,
    ports: RuntimePorts,
    identity: AwsIdentity,
    state: &StateDir,
) -> ProcessSpec {
    let (listen, admin) = (format!("127.0.0.1:{}", ports.http), format!("127.0.0.1:{}", ports.admin));
    let mut args: Vec<OsString> = vec!["serve".into(), "--config".into(), state.worker_config().into()];
    args.extend(["--role", "all", "--listen", &listen, "--admin-listen", &admin].map(OsString::from));
    let (env, without_env) = match identity {
        AwsIdentity::Emulated => (emulator_credentials().to_vec(), REAL_IDENTITY_ENV.to_vec()),
        AwsIdentity::Inherited => (Vec::new(), Vec::new()),
    };
    ProcessSpec {
        program: Program::Runtime,
        executable,
        args,
        env,
        without_env,
        log: state.log(Program::Runtime),
        restart: RestartPolicy::Always(RestartBackoff::LOCAL),
        grace: RUNTIME_GRACE,
    }
}

/// `dispatch-simulator` against the runtime's HTTP API. Without `length` it plays until it is stopped.
pub(crate) fn simulator(
    executable: PathBuf,
    simulation: &Simulation,
    length: Option<Duration>,
    api: &str,
    state: &StateDir,
) -> ProcessSpec {
    let words = [
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
    args.extend([state.simulation().into(), "--signing-key".into(), state.signing_key().into()]);
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
        restart: RestartPolicy::Never,
        grace: SIMULATOR_GRACE,
    }
}
