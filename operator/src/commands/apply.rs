//! `apply`: create or update the environment to match the manifest.

use clap::Args;
use dispatch_api::conditions::ConditionType;

use crate::commands::load::{load_manifests, load_secrets};
use crate::commands::options::{Global, Manifests, Output, SecretFiles};
use crate::commands::output::{CommandError, Exit, Results, connect};
use crate::commands::printer::Printer;
use crate::engine::plan::Approval;
use crate::engine::plan::ownership::Adoption;
use crate::engine::reconcile::{ReconcileReport, reconcile};
use crate::engine::settings::Settings;
use crate::render;

const EXAMPLES: &str = "\
Examples:
  dispatch-operator apply -f examples/seoul.yaml
  dispatch-operator apply -f seoul.yaml --secret fcm/service-account.json=./key.json
  dispatch-operator apply -f seoul.yaml --approve 3f9c2ab41d07         # only the plan that `plan` showed

Applying an unchanged manifest changes nothing. The next run continues an interrupted one.";

/// Arguments of `apply`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ApplyArgs {
    #[command(flatten)]
    manifests: Manifests,
    #[command(flatten)]
    secrets: SecretFiles,
    /// Approve the plan with this id.
    #[arg(long, value_name = "PLAN_ID", conflicts_with = "approve_replacements")]
    approve: Option<String>,
    /// Approve every replacement and removal of tables, caches and buckets.
    #[arg(long)]
    approve_replacements: bool,
    /// Adopt a stack, or a retained table and bucket, that belong to another system.
    #[arg(long)]
    adopt: bool,
    /// Logical id of a failed resource to skip when a rollback is continued. May be repeated.
    #[arg(long, value_name = "LOGICAL_ID")]
    skip_resource: Vec<String>,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub async fn run(args: ApplyArgs, global: &Global) -> Result<Exit, CommandError> {
    let systems = load_manifests(&args.manifests)?;
    let approval = match (args.approve, args.approve_replacements) {
        (Some(id), _) => Approval::Plan(id),
        (None, true) => Approval::Replacements,
        (None, false) => Approval::None,
    };
    let secrets = load_secrets(&args.secrets.secrets)?;
    let adoption = if args.adopt { Adoption::Take } else { Adoption::Refuse };
    let settings = Settings { approval, secrets, adoption, skip: args.skip_resource, ..Settings::default() };
    let mut results = Results::new(args.output, systems.len()).from_endpoint(global);
    for system in &systems {
        if system.spec.export.schedule.is_some() {
            eprintln!(
                "note: {}/{}: spec.export.schedule runs in a cluster only; here `dispatch-operator export` starts exports",
                system.namespace, system.name
            );
        }
        let ports = connect(system, global).await;
        let exit = match reconcile(system, &ports, &settings, &mut Printer::new()).await {
            Ok(done) => {
                results.put(&done.status, || render::applied(system, &done))?;
                Ok(exit_of(&done))
            }
            Err(error) => Err(error.into()),
        };
        results.ended(system, exit)?;
    }
    results.finish()
}

fn exit_of(done: &ReconcileReport) -> Exit {
    if done.is_ready() {
        Exit::Done
    } else if crate::engine::status::is_true(&done.status, ConditionType::PlanPending) {
        Exit::ChangesPending
    } else {
        Exit::NotReady
    }
}
