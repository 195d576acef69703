//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::explain::ExplainArgs;
use crate::http::ProxyFormat;
use crate::roles::Roles;

/// Dispatch the rides of one city
///
/// The worker of Coactus Dispatch. Each process runs some or all roles of one city.
#[derive(Debug, Parser)]
#[command(name = "dispatch-runtime", version)]
pub struct Args {
    /// Format of the log lines on standard error. Set `RUST_LOG` to filter them, for example `dispatch_runtime=debug`
    #[arg(long, global = true, env = "DISPATCH_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run roles until SIGTERM or SIGINT
    Serve(ServeArgs),
    /// Print the OpenAPI document of the HTTP API
    Openapi,
    /// Print the rules by which a proxy finds the Service of a request
    ///
    /// In the layout Split each role has a Service of its own, and the Service of a request depends on its method and
    /// path. In the layout Combined the Service with the suffix -api has all routes and needs no rules.
    Routes(RoutesArgs),
    /// Explain the order in which drivers were offered dispatches
    ///
    /// Reads the log lines of workers, prints every ranking record in them, and fails if an order does not follow from
    /// its record.
    Explain(ExplainArgs),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object per line
    Json,
}

/// The options of `serve`.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeArgs {
    /// File of the worker configuration, which the operator writes. Changes of its section `dispatch` take effect
    /// within a second; other changes need a restart
    #[arg(long, env = "DISPATCH_CONFIG")]
    pub config: PathBuf,
    /// Roles to run: all, or a comma-separated list of save-dispatch, dispatch-algorithm, driver-response and
    /// status-update
    #[arg(long, env = "DISPATCH_ROLE", default_value = "all")]
    pub role: Roles,
    /// Address of the HTTP API. Not bound if no HTTP role runs
    #[arg(long, env = "DISPATCH_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Address of /livez, /readyz and /metrics
    #[arg(long, env = "DISPATCH_ADMIN_LISTEN", default_value = "0.0.0.0:9090")]
    pub admin_listen: SocketAddr,
    /// Shut down when standard input is closed, which happens when the parent process ends
    #[arg(long)]
    pub exit_with_parent: bool,
    /// Seconds to continue serving after SIGTERM while not ready, until load balancers stop sending requests
    #[arg(long, value_name = "SECONDS", env = "DISPATCH_LINGER_SECONDS", default_value_t = 0,
        value_parser = clap::value_parser!(u16).range(0..=15))]
    pub linger_seconds: u16,
}

/// The options of `routes`.
#[derive(Debug, Clone, clap::Args)]
pub struct RoutesArgs {
    /// Format of the rules
    #[arg(short, long, value_enum, default_value_t = ProxyFormat::Json)]
    pub output: ProxyFormat,
    /// Name of the `DispatchSystem`
    #[arg(long, value_name = "NAME", value_parser = object_name)]
    pub system: String,
    /// Its namespace
    #[arg(long, default_value = "default", value_parser = object_name)]
    pub namespace: String,
}

/// The names become part of a configuration file.
fn object_name(text: &str) -> Result<String, &'static str> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if (1..=63).contains(&text.len()) && text.chars().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err("expected 1 to 63 lower-case letters, digits and dashes")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
        let args = Args::try_parse_from(["dispatch-runtime", "serve", "--config", "c.json", "--role", "save-dispatch"]);
        let Command::Serve(serve) = args.unwrap().command else { panic!("serve") };
        assert_eq!((serve.role.0.len(), serve.linger_seconds), (1, 0));
        assert!(Args::try_parse_from(["dispatch-runtime", "serve", "--config", "c", "--role", "driver"]).is_err());
    }
}
