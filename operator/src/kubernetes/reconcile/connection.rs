//! The connection Secret: created, kept in sync, and deleted when the spec names another one or none. Its name is
//! written into the status before the Secret is created, so that it can be found again without a permission to list
//! Secrets.
//!
//! The `ConfigMap` beside it is one of the worker objects ([`crate::kubernetes::reconcile::worker_deployments`]).

use dispatch_api::dispatch_system::{ManagementPolicy, OutputsStatus};
use dispatch_api::validate::ValidatedSystem;

use crate::engine::plan::workers::connection;
use crate::engine::plan::workers::holder::{Holder, holder, owners_after};
use crate::engine::secrets::Secrets;
use crate::engine::status::{ConnectionFinding, ConnectionState};
use crate::kubernetes::infra::cluster::{Claim, Cluster, ClusterErrorKind};
use crate::kubernetes::reconcile::worker_deployments::EnsureError;

/// Inputs of the connection Secret.
#[derive(Clone, Copy)]
pub struct Connection<'a> {
    /// The system to publish.
    pub system: &'a ValidatedSystem,
    /// Names and addresses, once the stack has them.
    pub outputs: Option<&'a OutputsStatus>,
    /// Secrets that the system names.
    pub secrets: &'a Secrets,
    /// Name in the status of the Secret that was or was about to be published.
    pub recorded: Option<&'a str>,
    /// Name of the connection's `ConfigMap`, if an object of that name belongs to another owner.
    pub taken: Option<&'a str>,
    /// Whether a Secret of an earlier system of this name may be taken over.
    pub takes_over: bool,
}

impl Connection<'_> {
    /// Takes one step. Writes nothing if everything is in sync.
    pub async fn step(&self, cluster: &Cluster) -> Result<ConnectionFinding, EnsureError> {
        let recorded = self.recorded.map(str::to_owned);
        let keep = |state| Ok(ConnectionFinding { state, secret_name: recorded.clone() });
        if self.system.spec.management_policy == ManagementPolicy::Observe {
            return keep(ConnectionState::Unmanaged);
        }
        let wanted = self.system.spec.connection.secret_name.as_deref();
        let result = match (self.recorded, wanted) {
            (Some(old), wanted) if wanted != Some(old) => self.remove(cluster, old).await,
            (_, Some(name)) if self.recorded == Some(name) => self.ensure(cluster, name).await,
            _ => Ok(ConnectionState::Published),
        };
        let state = match result {
            Ok(state) => state,
            Err(EnsureError::Cluster(error)) if error.kind == ClusterErrorKind::Denied => {
                return keep(ConnectionState::Denied(error.message));
            }
            Err(error) => return Err(error),
        };
        let state = match (state, self.taken, wanted) {
            (ConnectionState::Published, Some(name), _) => ConnectionState::Taken("ConfigMap", name.to_owned()),
            (ConnectionState::Published, _, Some(name)) if self.recorded != Some(name) => ConnectionState::Publishing,
            (ConnectionState::Published, ..) if self.outputs.is_none() => ConnectionState::Waiting,
            (state, ..) => state,
        };
        Ok(ConnectionFinding { state, secret_name: wanted.map(str::to_owned) })
    }

    async fn ensure(&self, cluster: &Cluster, name: &str) -> Result<ConnectionState, EnsureError> {
        let Some(outputs) = self.outputs else { return Ok(ConnectionState::Waiting) };
        let reference = self.system.spec.cache.auth_secret_ref.as_ref();
        let token = reference.and_then(|reference| self.secrets.get(reference));
        if reference.is_some() && token.is_none() {
            // The missing Secret is reported by the engine; what is already published stays.
            return Ok(ConnectionState::Waiting);
        }
        let (system, namespace) = (self.system, &self.system.namespace);
        let wanted = connection::secret(system, name, outputs, token);
        match cluster.secret(namespace, name).await? {
            None => cluster.apply_secret(namespace, &wanted, Claim::New).await?,
            Some(found) => {
                match holder(system, &found) {
                    Holder::Ours => {}
                    Holder::Former(_) if self.takes_over => {
                        cluster.take_over_secret(namespace, &found, &owners_after(system, &found)).await?;
                    }
                    _ => return Ok(ConnectionState::Taken("Secret", name.to_owned())),
                }
                if connection::secret_differs(&wanted, &found)? {
                    let uid = found.metadata.uid.as_deref().unwrap_or_default();
                    cluster.apply_secret(namespace, &wanted, Claim::Own(uid)).await?;
                }
            }
        }
        Ok(ConnectionState::Published)
    }

    async fn remove(&self, cluster: &Cluster, name: &str) -> Result<ConnectionState, EnsureError> {
        let namespace = &self.system.namespace;
        if let Some(found) = cluster.secret(namespace, name).await?
            && connection::is_ours(self.system, &found)
        {
            cluster.remove_secret(namespace, &found).await?;
        }
        Ok(ConnectionState::Published)
    }
}
