//! The options of `dispatch-local run`.

mod options;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use dispatch_operator::commands::options::SecretFiles;

pub(crate) use self::options::Simulation;
use crate::manifest::CacheSource;

const EXAMPLES: &str = "\
Examples:
  # Start Seoul and stay until Ctrl-C. Edits of the file are planned and applied while it runs.
  dispatch-local run -f examples/seoul.yaml

  # Start it, play a minute of traffic, print and write the summary, stop.
  dispatch-local run -f examples/seoul.yaml --simulate drivers=300,rate=2 --for 60s --summary summary.json

  # Use a running AWS endpoint and a running Redis instead of starting any.
  dispatch-local run -f examples/seoul.yaml --aws-endpoint http://127.0.0.1:4566 --redis redis://127.0.0.1:6379

Addresses and, for the emulated AWS, its credentials are printed and written to STATE_DIR/env, for `. .local/seoul/env`.

Exit codes:
  0    the system became ready, and the simulation, if any, found no violation
  1    the run failed; the last lines say why
  2    wrong usage or invalid manifest; nothing was started
  4    the system did not become ready
  130  interrupted before the system was ready or the simulation had ended";

/// Run the city of a manifest until Ctrl-C or for a given time.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    /// Manifest of one system.
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Use this AWS endpoint instead of starting an emulator. Credentials are those of the AWS SDKs; if there are none
    /// and the address is a loopback address, the emulators' "test". (--endpoint-url has no effect here.)
    #[arg(long, value_name = "URL", value_parser = aws_url)]
    pub aws_endpoint: Option<String>,
    /// Port of the emulated AWS on 127.0.0.1. Default: a free one.
    #[arg(long, value_name = "PORT", conflicts_with = "aws_endpoint")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub aws_port: Option<u16>,
    /// Use this Redis (redis://host:port or rediss://host:port) instead of starting one. The stack then has no
    /// ElastiCache, as if the manifest named the Redis in `spec.cache.external`.
    #[arg(long, value_name = "URL", value_parser = redis_url)]
    pub redis: Option<String>,
    /// The emulator, in a Python environment that also has its web server, hypercorn. Default: .venv/bin/ministack in
    /// this folder or in one above, then PATH.
    #[arg(long, value_name = "PROGRAM", env = "DISPATCH_MINISTACK", hide_env_values = true)]
    pub ministack: Option<PathBuf>,
    /// The Redis server. Default: redis-server on PATH.
    #[arg(long, value_name = "PROGRAM", env = "DISPATCH_REDIS_SERVER", hide_env_values = true)]
    pub redis_server: Option<PathBuf>,
    /// The runtime. Default: dispatch-runtime beside this program, then PATH.
    #[arg(long, value_name = "PROGRAM", env = "DISPATCH_RUNTIME", hide_env_values = true)]
    pub runtime_bin: Option<PathBuf>,
    /// The simulator. Default: dispatch-simulator beside this program, then PATH.
    #[arg(long, value_name = "PROGRAM", env = "DISPATCH_SIMULATOR", hide_env_values = true)]
    pub simulator_bin: Option<PathBuf>,
    /// The secrets that the manifest names.
    #[command(flatten)]
    pub secrets: SecretFiles,
    /// Folder for keys, logs, worker configuration and emulator data. Default: .local/CITY.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Keep the emulated AWS between runs. Without this option each run starts with an empty one.
    #[arg(long, conflicts_with = "aws_endpoint")]
    pub keep_state: bool,
    /// Simulate traffic: number of drivers and requests per second, `drivers=300,rate=2`; with a seed,
    /// `drivers=300,rate=2,seed=7`.
    #[arg(long, value_name = "TRAFFIC")]
    pub simulate: Option<Simulation>,
    /// End the run after this time of traffic (90s, 5m, 1h). Without this option it ends at Ctrl-C.
    #[arg(long = "for", value_name = "TIME", value_parser = options::duration)]
    pub length: Option<Duration>,
    /// Write a summary of the run to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,
}

impl RunArgs {
    pub(crate) fn cache(&self) -> CacheSource {
        self.redis.clone().map_or(CacheSource::Started, CacheSource::External)
    }
}

/// An `http` or `https` address without credentials; a slash at its end is removed.
fn aws_url(text: &str) -> Result<String, String> {
    let refusal = || "expected an address like http://127.0.0.1:4566".to_owned();
    let url = reqwest::Url::parse(text).map_err(|_| refusal())?;
    let plain = matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
    if plain && url.has_host() { Ok(text.trim_end_matches('/').to_owned()) } else { Err(refusal()) }
}

/// A `redis` or `rediss` address without credentials; the default port is added.
fn redis_url(text: &str) -> Result<String, String> {
    let refusal = || "expected an address like redis://127.0.0.1:6379, without user name and password".to_owned();
    let url = reqwest::Url::parse(text).map_err(|_| refusal())?;
    let plain = matches!(url.scheme(), "redis" | "rediss") && url.username().is_empty() && url.password().is_none();
    match url.host_str() {
        Some(host) if plain => Ok(format!("{}://{host}:{}", url.scheme(), url.port().unwrap_or(6379))),
        _ => Err(refusal()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{LocalError, run};

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        run: RunArgs,
    }

    #[test]
    fn addresses_are_checked_before_anything_starts() {
        assert_eq!(aws_url("http://localhost:4566/").as_deref(), Ok("http://localhost:4566"));
        assert_eq!(redis_url("redis://cache").as_deref(), Ok("redis://cache:6379"));
        assert_eq!(redis_url("rediss://cache:6380").as_deref(), Ok("rediss://cache:6380"));
        for wrong in ["localhost:4566", "ftp://x", "http://", "http://a:b@x"] {
            assert!(aws_url(wrong).is_err(), "{wrong}");
        }
        for wrong in ["cache:6379", "http://cache", "redis://:secret@cache:6379", "redis://"] {
            let error = redis_url(wrong).unwrap_err();
            assert!(!error.contains("secret"), "{wrong}");
        }
    }

    #[test]
    fn options_that_exclude_each_other_are_refused() {
        let endpoint = ["run", "-f", "seoul.yaml", "--aws-endpoint", "http://127.0.0.1:4566"];
        assert!(Cli::try_parse_from(endpoint).is_ok());
        for other in [&["--keep-state"][..], &["--aws-port", "4566"]] {
            assert!(Cli::try_parse_from(endpoint.iter().chain(other)).is_err(), "{other:?}");
        }
        let args = Cli::try_parse_from(["run", "-f", "s.yaml", "--simulate", "drivers=3,rate=1", "--for", "60s"]);
        assert_eq!(args.unwrap().run.length, Some(Duration::from_mins(1)));
    }

    #[tokio::test]
    async fn a_wrong_manifest_starts_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("wrong.yaml");
        std::fs::write(&file, "kind: Dispatchsystem\n").unwrap();
        let state = dir.path().join("state");
        let cli = Cli::try_parse_from(["run", "-f", file.to_str().unwrap(), "--state-dir", state.to_str().unwrap()]);
        let error = Box::pin(run(cli.unwrap().run)).await.unwrap_err();
        assert!(matches!(error, LocalError::Manifest(..)), "{error}");
        assert!(!state.exists());
    }
}
