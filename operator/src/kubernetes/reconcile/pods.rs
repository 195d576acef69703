//! Reads the Pods of the workers, and asks those that run and are not ready what they wait for. Never logs, exec or
//! proxy.

use std::collections::BTreeMap;

use dispatch_api::validate::ValidatedSystem;
use futures::future::join_all;
use serde_json::Value;

use crate::engine::plan::workers::{self, layout};
use crate::engine::status::pods::{PodsFinding, cause, of_newest_revisions, spread, to_ask, waits_for};
use crate::kubernetes::infra::admin_port;
use crate::kubernetes::infra::cluster::{Cluster, ClusterError};

/// What the Pods say. Nothing if they cannot be read: the permission is optional, and the Deployments tell the rest.
pub(super) async fn read(cluster: &Cluster, system: &ValidatedSystem, deployments: &[Value]) -> PodsFinding {
    find(cluster, system, deployments).await.unwrap_or_else(|error| {
        tracing::debug!(%error, "the causes that Pods show are not reported");
        PodsFinding::default()
    })
}

async fn find(cluster: &Cluster, system: &ValidatedSystem, deployments: &[Value]) -> Result<PodsFinding, ClusterError> {
    let by_uid = workers::roles(system).into_iter().filter_map(|(role, _)| {
        let deployment = layout::find(system, deployments, role)?;
        Some((deployment["metadata"]["uid"].as_str()?.to_owned(), role.name))
    });
    let by_uid: BTreeMap<String, &'static str> = by_uid.collect();
    if by_uid.is_empty() || system.spec.suspend {
        return Ok(PodsFinding::default());
    }
    let sets = cluster.replica_sets(&system.namespace, &system.name).await?;
    let pods = cluster.pods(&system.namespace, &system.name).await?;
    let pods = of_newest_revisions(pods, &sets, &by_uid);
    let asked = to_ask(&pods).into_iter().map(async |(name, address)| {
        let answer = admin_port::readiness(&address).await.inspect_err(|error| {
            tracing::debug!(pod = name, %error, "a worker did not say what it waits for");
        });
        Some((name, waits_for(&answer.ok()??)?))
    });
    let answers = join_all(asked).await.into_iter().flatten().collect();
    Ok(PodsFinding { cause: cause(&pods, &answers), spread: spread(&pods) })
}
