//! The AWS emulator: ministack, reduced to what a city needs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::endpoints::emulator_credentials;
use crate::process::{ProcessSpec, Program, RestartPolicy};
use crate::programs::REAL_IDENTITY_ENV;
use crate::state_dir::{Persistence, StateDir};

/// The program: an ASGI application around ministack. It says what it refuses, and why.
const APP: &str = include_str!("../../emulator/city_emulator.py");

/// Services that it serves, by ministack's names: those that the operator and the workers call. The template's other
/// resources are created by CloudFormation inside the emulator.
const SERVICES: &str = "cloudformation,dynamodb,dynamodbstreams,elasticache,s3,sns,sqs,sts";

/// Time the emulator has to write its state.
const GRACE: Duration = Duration::from_secs(10);

/// Seconds for which it keeps an idle connection; ministack's own value.
const KEEP_ALIVE_S: &str = "75";

/// Settings of an emulator.
#[derive(Clone, Debug)]
pub(crate) struct EmulatorSettings<'a> {
    /// Its web server, hypercorn.
    pub(crate) executable: PathBuf,
    pub(crate) port: u16,
    /// Region of requests that name none.
    pub(crate) region: &'a str,
    /// Account that it plays, if not its default.
    pub(crate) account: Option<&'a str>,
    /// Port of this run's Redis, for the address of emulated caches.
    pub(crate) redis_port: Option<u16>,
    pub(crate) persistence: Persistence,
}

/// Writes the program into the state folder.
pub(crate) fn install(state: &StateDir) -> io::Result<()> {
    fs::write(state.emulator_app(), APP)
}

/// The emulator on 127.0.0.1. It is not restarted: its data is lost when it ends.
pub(crate) fn emulator(settings: &EmulatorSettings<'_>, state: &StateDir) -> ProcessSpec {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let persist = if settings.persistence == Persistence::EmulatorState { "1" } else { "0" };
    let mut app = state.emulator_app().into_os_string();
    app.push(":app");
    let bind = format!("127.0.0.1:{}", settings.port);
    let mut args = vec![app];
    // No worker process: the server runs in the process that is started.
    args.extend(["--workers", "0", "--bind", &bind, "--keep-alive", KEEP_ALIVE_S].map(Into::into));
    args.extend(["--log-level", "WARNING"].map(Into::into));
    let mut env = vec![
        ("SERVICES", SERVICES.to_owned()),
        ("GATEWAY_PORT", settings.port.to_string()),
        ("MINISTACK_REGION", settings.region.to_owned()),
        ("STATE_DIR", text(&state.emulator_state())),
        ("S3_DATA_DIR", text(&state.emulator_objects())),
        ("TMPDIR", text(&state.emulator_temporary())),
        ("PERSIST_STATE", persist.to_owned()),
        ("S3_PERSIST", persist.to_owned()),
        ("LOG_LEVEL", "WARNING".to_owned()),
        // With a Docker it would start containers for emulated caches. A local run starts none.
        ("DOCKER_HOST", format!("unix://{}", text(&state.emulator_temporary().join("no-docker.sock")))),
    ];
    if let Some(account) = settings.account {
        env.push(("MINISTACK_ACCOUNT_ID", account.to_owned()));
    }
    if let Some(port) = settings.redis_port {
        env.extend([("REDIS_HOST", "127.0.0.1".to_owned()), ("REDIS_PORT", port.to_string())]);
    }
    env.extend(emulator_credentials());
    ProcessSpec {
        program: Program::Emulator,
        executable: settings.executable.clone(),
        args,
        env,
        without_env: REAL_IDENTITY_ENV.to_vec(),
        log: state.log(Program::Emulator),
        restart: RestartPolicy::Never,
        grace: GRACE,
    }
}

#[cfg(test)]
mod tests {
    use dispatch_api::manifest::read_manifests;
    use dispatch_api::validate::ValidatedSystem;
    use dispatch_operator::engine::plan::template::render;

    use super::*;

    fn spec() -> ProcessSpec {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path(), Persistence::None).unwrap();
        let settings = EmulatorSettings {
            executable: "hypercorn".into(),
            port: 4566,
            region: "ap-northeast-2",
            account: None,
            redis_port: Some(6379),
            persistence: Persistence::None,
        };
        emulator(&settings, &state)
    }

    #[test]
    fn the_emulator_never_sees_a_real_identity_and_starts_no_container() {
        let spec = spec();
        let value = |name| spec.env.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str());
        assert_eq!(value("AWS_ACCESS_KEY_ID"), Some("test"));
        assert!(spec.without_env.contains(&"AWS_SESSION_TOKEN"));
        assert_eq!(value("PERSIST_STATE"), Some("0"));
        assert!(!value("SERVICES").unwrap().contains("lambda"));
        let socket = value("DOCKER_HOST").unwrap().strip_prefix("unix://").unwrap();
        assert!(!std::path::Path::new(socket).exists());
    }

    #[test]
    fn the_emulator_creates_every_type_of_the_examples() {
        for manifest in [
            include_str!("../../../../examples/minimal.yaml"),
            include_str!("../../../../examples/seoul.yaml"),
            include_str!("../../../../examples/production.yaml"),
            include_str!("../../../../examples/external-cache.yaml"),
        ] {
            for system in read_manifests(manifest).unwrap() {
                let template = render(&ValidatedSystem::try_from_raw(&system).unwrap());
                for resource in template.body()["Resources"].as_object().unwrap().values() {
                    let listed = format!("        {},\n", resource["Type"]);
                    assert!(APP.contains(&listed), "{listed} is missing in city_emulator.py");
                }
            }
        }
    }
}
