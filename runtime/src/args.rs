//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

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
    /// Make a key pair for a run on this machine, unless there is one, and print what a run needs of it as JSON: by what workers
    /// know its tokens, and one token each of a user, a driver and an operator.
    Keys(KeysArgs),
    /// Print a token signed with a key that `keys` made.
    Token(TokenArgs),
    // Documented on its arguments.
    #[expect(missing_docs, reason = "a comment here would replace the help of its arguments")]
    Simulate(Box<crate::simulate::Args>),
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

/// `explain`.
#[derive(Debug, Clone, clap::Args)]
pub struct ExplainArgs {
    /// The log lines; standard input where none or `-` is given
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Only rankings of this dispatch: dispatch#00001
    #[arg(long, value_name = "ID")]
    pub dispatch: Option<String>,
}

/// `keys`.
#[derive(Debug, Clone, clap::Args)]
pub struct KeysArgs {
    /// Folder for the keys; it must be there. `signing-key.json` is the secret, `jwks.json` the public part.
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
}

/// `token`.
#[derive(Debug, Clone, clap::Args)]
pub struct TokenArgs {
    /// The signing key
    #[arg(long, value_name = "FILE", env = "DISPATCH_SIGNING_KEY")]
    pub key: PathBuf,
    /// Whose token: user#00001, driver#00001, or a name for an operator
    #[arg(long = "sub", value_name = "SUBJECT")]
    pub subject: String,
    /// What it may do: user, driver or operations; more than one with commas between
    #[arg(long, value_name = "SCOPES", value_delimiter = ',', required = true)]
    pub scope: Vec<TokenScope>,
    /// How long it is good, in hours
    #[arg(long, value_name = "HOURS", default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=720))]
    pub hours: u16,
}

/// A scope of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TokenScope {
    /// What a user may.
    User,
    /// What a driver may.
    Driver,
    /// What the city's own staff and programs may.
    Operations,
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
        let words = ["dispatch-runtime", "token", "--key", "k", "--sub", "user#00001", "--scope", "user,driver"];
        let Command::Token(token) = Args::try_parse_from(words).unwrap().command else { panic!("token") };
        assert_eq!((token.scope.len(), token.hours), (2, 12));
        assert!(Args::try_parse_from(&words[..6]).is_err(), "a token without a scope is nobody's");
        assert!(Args::try_parse_from(["dispatch-runtime", "serve", "--config", "c", "--role", "driver"]).is_err());
    }
}
