//! `plan`: what `apply` would do.

use clap::Args;

use crate::commands::load::{load_manifests, load_secrets};
use crate::commands::options::{Global, Manifests, Output, SecretFiles};
use crate::commands::output::{CommandError, Exit, Results, connect};
use crate::engine::plan::Plan;
use crate::engine::plan::ownership::Adoption;
use crate::engine::preview::preview;
use crate::engine::settings::Settings;
use crate::render;

const EXAMPLES: &str = "\
Examples:
  dispatch-operator plan -f examples/seoul.yaml
  dispatch-operator plan -f examples/seoul.yaml --exit-code -o json    # in a pipeline: exit code 3 means changes

CloudFormation compares an existing stack through a change set, which is removed afterwards. Exits with code 4 if an
apply cannot reach the manifest: the plan is then blocked and says why.";

/// Arguments of `plan`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct PlanArgs {
    #[command(flatten)]
    manifests: Manifests,
    #[command(flatten)]
    secrets: SecretFiles,
    /// Plan to adopt a stack that belongs to another system.
    #[arg(long)]
    adopt: bool,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Exit with code 3 if there are changes.
    #[arg(long)]
    exit_code: bool,
}

pub async fn run(args: PlanArgs, global: &Global) -> Result<Exit, CommandError> {
    let systems = load_manifests(&args.manifests)?;
    let adoption = if args.adopt { Adoption::Take } else { Adoption::Refuse };
    let settings = Settings { secrets: load_secrets(&args.secrets.secrets)?, adoption, ..Settings::default() };
    let mut results = Results::new(args.output, systems.len()).from_endpoint(global);
    for system in &systems {
        let ports = connect(system, global).await;
        let exit = match preview(system, &ports, &settings).await {
            Ok(plan) => {
                results.put(&render::PlanDocument::new(system, &plan), || render::plan(system, &plan))?;
                Ok(exit_of(&plan, args.exit_code))
            }
            Err(error) => Err(error.into()),
        };
        results.ended(system, exit)?;
    }
    results.finish()
}

/// What blocks an apply, which exits with the same code, precedes changes.
fn exit_of(plan: &Plan, shows_changes: bool) -> Exit {
    if plan.blockage.is_some() {
        Exit::NotReady
    } else if shows_changes && !plan.is_empty() {
        Exit::ChangesPending
    } else {
        Exit::Done
    }
}

#[cfg(test)]
mod tests {
    use dispatch_api::conditions::Reason;

    use super::*;
    use crate::engine::plan::{Blockage, StackStep};

    #[test]
    fn a_blocked_plan_exits_with_the_code_of_a_stalled_apply() {
        let blockage = Blockage { reason: Reason::ResourceGone, message: "gone".to_owned() };
        for (step, open, blocked) in
            [(StackStep::UpToDate, Exit::Done, false), (StackStep::Update, Exit::ChangesPending, false)]
                .into_iter()
                .chain([(StackStep::UpToDate, Exit::NotReady, true), (StackStep::Update, Exit::NotReady, true)])
        {
            let mut plan = Plan::new("hash", step, Vec::new(), Vec::new());
            plan.blockage = blocked.then(|| blockage.clone());
            assert_eq!(exit_of(&plan, true), open);
            assert_eq!(exit_of(&plan, false), if blocked { Exit::NotReady } else { Exit::Done });
        }
    }
}
