//! `run`: the controller in a cluster.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::allow_list::AllowList;
use crate::commands::options::{DataPolicy, Global};
use crate::commands::output::{CommandError, Exit};
use crate::commands::restrictions::RestrictionArgs;
use crate::engine::images;
use crate::engine::plan::workers::WorkerClients;
use crate::engine::settings::Approver;
use crate::kubernetes::policy::tenancy::Defaults;
use crate::kubernetes::{self, ElectionOptions, RunOptions};

const EXAMPLES: &str = "\
Examples:
  dispatch-operator run --leader-elect
  dispatch-operator run --watch-namespace mobility --metrics-addr 127.0.0.1:8080

The cluster is that of the Pod's service account, or of KUBECONFIG.";

/// Arguments of `run`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    /// Watch only this namespace. Default: all namespaces.
    #[arg(long, value_name = "NAMESPACE", env = "DISPATCH_WATCH_NAMESPACE")]
    watch_namespace: Option<String>,
    /// Number of systems reconciled concurrently.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    /// Seconds between two reconciles of a system in sync, plus or minus 10 %.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    resync_seconds: u32,
    /// AWS calls per second for each region and role.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    aws_calls_per_second: u32,
    /// Limit of concurrent stack operations; further ones wait.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    max_stack_operations: u16,
    /// Listen address of `/livez`, `/readyz` and `/metrics`.
    #[arg(long, value_name = "ADDRESS", env = "DISPATCH_METRICS_ADDR", default_value = "0.0.0.0:9090")]
    metrics_addr: SocketAddr,
    /// Elect a leader among several replicas through a Lease. Without it, run exactly one replica.
    #[arg(long, env = "DISPATCH_LEADER_ELECT")]
    leader_elect: bool,
    /// Namespace of the Lease. Default: the operator's namespace.
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE")]
    leader_elect_namespace: Option<String>,
    /// Name of the Lease.
    #[arg(long, value_name = "NAME", default_value = "dispatch-operator")]
    leader_elect_lease: String,
    /// Image of the workers if the manifest names none.
    #[arg(long, value_name = "IMAGE", env = "DISPATCH_RUNTIME_IMAGE", default_value = images::RUNTIME)]
    runtime_image: String,
    /// Deletion policy of systems whose manifest and namespace set none. Default: Retain.
    #[arg(long, value_name = "POLICY", value_enum, env = "DISPATCH_DELETION_POLICY")]
    deletion_policy: Option<DataPolicy>,
    /// Take approvals of plans, and of deletions that delete data, from the annotation dispatch.coactus.io/approvals of
    /// the namespace instead of the system, so that the author of a system cannot approve its plans.
    #[arg(long, env = "DISPATCH_REQUIRE_SECOND_APPROVER")]
    require_second_approver: bool,
    /// Name of this replica.
    #[arg(long, value_name = "NAME", env = "POD_NAME", default_value = "dispatch-operator")]
    pod_name: String,
    /// Namespace of this replica. Workers let it ask them what they wait for.
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE")]
    pod_namespace: Option<String>,
    /// Namespaces whose Pods may call the HTTP API of the workers: Any, None, or names separated by commas. Any
    /// includes clients outside the cluster, such as load balancers.
    #[arg(long, value_name = "LIST", default_value = "Any", overrides_with = "worker_api_namespaces")]
    worker_api_namespaces: AllowList,
    /// Namespaces whose Pods may read the metrics of the workers: Any, None, or names separated by commas.
    #[arg(long, value_name = "LIST", default_value = "monitoring", overrides_with = "worker_metrics_namespaces")]
    worker_metrics_namespaces: AllowList,
    #[command(flatten)]
    restrictions: RestrictionArgs,
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(args: RunArgs, global: &Global) -> Result<Exit, CommandError> {
    let stop = CancellationToken::new();
    let asked = stop.clone();
    let mut terminate = signal(SignalKind::terminate()).map_err(CommandError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CommandError::Signals)?;
    let listening = tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        asked.cancel();
    });
    let election = args
        .leader_elect
        .then_some(ElectionOptions { namespace: args.leader_elect_namespace, lease: args.leader_elect_lease });
    let approver = if args.require_second_approver { Approver::Second } else { Approver::Author };
    let options = RunOptions {
        defaults: Defaults { deletion_policy: args.deletion_policy.map(Into::into), approver },
        restrictions: args.restrictions.restrictions(),
        external_ids: args.restrictions.external_ids(),
        clients: WorkerClients {
            api: args.worker_api_namespaces,
            metrics: args.worker_metrics_namespaces,
            operator: args.pod_namespace,
        },
        watch_namespace: args.watch_namespace.filter(|namespace| !namespace.is_empty()),
        concurrency: args.concurrency,
        resync: Duration::from_secs(args.resync_seconds.into()),
        metrics_address: args.metrics_addr,
        election,
        runtime_image: args.runtime_image,
        endpoint_url: global.endpoint_url.clone(),
        aws_calls_per_second: args.aws_calls_per_second,
        stack_operations: args.max_stack_operations,
        // A container that restarts in the same Pod is another process.
        identity: format!("{}-{:08x}", args.pod_name, rand::random::<u32>()),
    };
    let ended = kubernetes::run(options, stop).await;
    listening.abort();
    ended?;
    Ok(Exit::Done)
}
