//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::explain::ExplainArgs;
use crate::roles::Roles;

/// The data plane of Coactus Dispatch: dispatches the rides of one city.
#[derive(Debug, Parser)]
#[command(name = "dispatch-runtime", version)]
pub struct Args {
    /// How log lines are written to standard error. Which of them: `RUST_LOG`, for example `dispatch_runtime=debug`.
    #[arg(long, global = true, env = "DISPATCH_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run roles until SIGTERM or SIGINT.
    Serve(ServeArgs),
    /// Print the `OpenAPI` document of the HTTP roles.
    Openapi,
    /// Show why drivers were asked in their order: reads the log lines of workers, prints every ranking in them, and fails
    /// where an order does not follow from its record.
    Explain(ExplainArgs),
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `serve`.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeArgs {
    /// The worker configuration, which the operator writes. Changes of its `dispatch` part are taken over within a second.
    #[arg(long, env = "DISPATCH_CONFIG")]
    pub config: PathBuf,
    /// Roles to run: `all`, or some of save-dispatch, dispatch-algorithm, driver-response, status-update, with commas between.
    #[arg(long, env = "DISPATCH_ROLE", default_value = "all")]
    pub role: Roles,
    /// Address of the HTTP API; not bound where no HTTP role runs.
    #[arg(long, env = "DISPATCH_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Address of `/livez`, `/readyz` and `/metrics`.
    #[arg(long, env = "DISPATCH_ADMIN_LISTEN", default_value = "0.0.0.0:9090")]
    pub admin_listen: SocketAddr,
    /// Also end when standard input is closed: the parent that held its other end is gone.
    #[arg(long)]
    pub exit_with_parent: bool,
    /// Seconds to go on serving after SIGTERM, no longer ready: whoever sends requests here hears late that this process ends.
    #[arg(long, value_name = "SECONDS", env = "DISPATCH_LINGER_SECONDS", default_value_t = 0,
        value_parser = clap::value_parser!(u16).range(0..=15))]
    pub linger_seconds: u16,
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
