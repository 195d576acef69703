//! `destroy`: take the environment down.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use clap::Args;
use dispatch_api::dispatch_system::DeletionPolicy;
use dispatch_api::validate::ValidatedSystem;

use crate::commands::load::{Refused, load_manifests, load_secrets};
use crate::commands::options::{Global, Manifests, SecretFiles};
use crate::commands::output::{CommandError, Exit, connect, put};
use crate::commands::printer::Printer;
use crate::engine::destroy::{DestroyError, destroy};
use crate::engine::settings::Settings;
use crate::render;

const EXAMPLES: &str = "\
Examples:
  dispatch-operator destroy -f examples/seoul.yaml
  dispatch-operator destroy -f examples/seoul.yaml --yes    # in a script

With deletionPolicy Retain (the default) the table and the bucket stay and are named at the end; the next apply takes them in
again. With Delete they go too, the bucket with every version of its objects.";

/// Arguments of `destroy`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct DestroyArgs {
    #[command(flatten)]
    manifests: Manifests,
    #[command(flatten)]
    secrets: SecretFiles,
    /// Logical id of a resource that may stay where the deletion of the stack has failed at it. May be repeated.
    #[arg(long, value_name = "LOGICAL_ID")]
    skip_resource: Vec<String>,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

/// Destroys every system, after each was confirmed.
pub async fn run(args: DestroyArgs, global: &Global) -> Result<Exit, CommandError> {
    let systems = load_manifests(&args.manifests)?;
    let secrets = load_secrets(&args.secrets.secrets)?;
    let settings = Settings { secrets, skip: args.skip_resource, ..Settings::default() };
    for system in systems {
        if !args.yes && !confirmed(&system)? {
            eprintln!("not confirmed: {}/{} stays as it is", system.namespace, system.name);
            return Ok(Exit::Failed);
        }
        let ports = connect(&system, global).await;
        match destroy(&system, &ports, &settings, &mut Printer::new()).await {
            Ok(destroyed) => put(&render::destroyed(&system, &destroyed))?,
            Err(error @ (DestroyError::Failed { .. } | DestroyError::StillRunning { .. })) => {
                eprintln!("error: {error}");
                return Ok(Exit::NotReady);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Exit::Done)
}

/// Asks a person to type the system's name. Without a terminal nobody can, and the command line is incomplete.
fn confirmed(system: &ValidatedSystem) -> Result<bool, CommandError> {
    if !std::io::stdin().is_terminal() {
        return Err(Refused(vec!["there is no terminal to ask for a confirmation on; give --yes".to_owned()]).into());
    }
    let data = match system.deletion_policy {
        DeletionPolicy::Retain => "Its table and bucket stay.",
        DeletionPolicy::Delete => "ITS TABLE AND BUCKET ARE DELETED WITH ALL DATA.",
    };
    eprint!("This deletes stack {}. {data}\nType the system's name ({}) to go on: ", system.names.stack, system.name);
    // The answer matters, not whether the question was flushed.
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(|error| CommandError::Write(error.to_string()))?;
    Ok(answer.trim() == system.name)
}
