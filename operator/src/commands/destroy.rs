//! `destroy`: delete the environment.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use clap::Args;
use dispatch_api::dispatch_system::DeletionPolicy;
use dispatch_api::validate::ValidatedSystem;

use crate::commands::load::{Refused, load_manifests, load_secrets};
use crate::commands::options::{Global, Manifests, Output, SecretFiles};
use crate::commands::output::{CommandError, Exit, Results, connect, put, report};
use crate::commands::printer::Printer;
use crate::engine::destroy::{DestroyError, destroy};
use crate::engine::former_names::find_names;
use crate::engine::plan::ownership::Adoption;
use crate::engine::settings::Settings;
use crate::render;
use crate::sanitize::terminal;

const EXAMPLES: &str = "\
Examples:
  dispatch-operator destroy -f examples/seoul.yaml
  dispatch-operator destroy -f examples/seoul.yaml --yes    # in a script
  dispatch-operator destroy -f seoul.yaml --adopt           # although an object of a cluster manages the stack

With deletionPolicy Retain (the default) the table and the bucket are retained and listed at the end; the next apply
imports them. With Delete they are deleted too, the bucket with every version of its objects.";

/// Arguments of `destroy`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct DestroyArgs {
    #[command(flatten)]
    manifests: Manifests,
    #[command(flatten)]
    secrets: SecretFiles,
    /// Logical id of a resource that failed to delete and may be retained. May be repeated.
    #[arg(long, value_name = "LOGICAL_ID")]
    skip_resource: Vec<String>,
    /// Destroy a stack that an object of a cluster manages.
    #[arg(long)]
    adopt: bool,
    /// Do not ask for confirmation.
    #[arg(short, long)]
    yes: bool,
}

/// Destroys the systems one by one, each after its confirmation.
pub async fn run(args: DestroyArgs, global: &Global) -> Result<Exit, CommandError> {
    let systems = load_manifests(&args.manifests)?;
    let secrets = load_secrets(&args.secrets.secrets)?;
    let adoption = if args.adopt { Adoption::Take } else { Adoption::Refuse };
    let settings = Settings { secrets, adoption, skip: args.skip_resource, ..Settings::default() };
    let mut results = Results::new(Output::Table, systems.len()).from_endpoint(global);
    for system in systems {
        let ports = connect(&system, global).await;
        // The question names the stack that is deleted.
        let system = match find_names(&system, &ports, None).await {
            Ok(named) => named.map_or(system, |named| *named),
            Err(error) => {
                results.ended(&system, Err(error.into()))?;
                continue;
            }
        };
        if !args.yes && !confirmed(&system)? {
            eprintln!("not confirmed: {}/{} is not changed", system.namespace, system.name);
            return Ok(Exit::Failed);
        }
        match destroy(&system, &ports, &settings, &mut Printer::new()).await {
            Ok(destroyed) => put(&terminal(&render::destroyed(&system, &destroyed)))?,
            Err(error @ (DestroyError::Failed { .. } | DestroyError::StillRunning { .. })) => {
                report(&format!("{}/{}: {error}", system.namespace, system.name));
                results.ended(&system, Ok(Exit::NotReady))?;
            }
            Err(error) => results.ended(&system, Err(error.into()))?,
        }
    }
    results.finish()
}

/// Asks for the system's name. Without a terminal, `--yes` is required.
fn confirmed(system: &ValidatedSystem) -> Result<bool, CommandError> {
    if !std::io::stdin().is_terminal() {
        return Err(Refused(vec!["cannot ask for confirmation without a terminal; use --yes".to_owned()]).into());
    }
    let data = match system.deletion_policy {
        DeletionPolicy::Retain => "Its table and bucket are retained.",
        DeletionPolicy::Delete => "ITS TABLE AND BUCKET ARE DELETED WITH ALL DATA.",
    };
    eprint!(
        "This deletes stack {}. {data}\nType the system's name ({}) to continue: ",
        system.names.stack, system.name
    );
    // A failed flush is harmless; the answer decides.
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(|error| CommandError::Write(error.to_string()))?;
    Ok(answer.trim() == system.name)
}
