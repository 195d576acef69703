//! Cleanup of a deleted object: drains the queues, stops the workers, deletes the environment as far as the deletion
//! policy allows, and only then removes the finalizer. It needs neither a Secret nor a valid spec, and ignores
//! `suspend`.

use std::time::Duration;

use dispatch_api::annotations::{FINALIZER, SKIP_RESOURCES};
use dispatch_api::conditions::{EventReason, Reason};
use dispatch_api::dispatch_system::{DispatchSystemStatus, ManagementPolicy};
use dispatch_api::names::{COMBINED, role_object};
use dispatch_api::validate::{ValidatedSystem, ValidationErrors};
use jiff::SignedDuration;
use kube::api::DynamicObject;

use crate::cloud::stack::stack_name;
use crate::engine::arn::ArnBase;
use crate::engine::destroy::{DestroyError, DestroyReport, destroy};
use crate::engine::error::EngineError;
use crate::engine::plan::Approval;
use crate::engine::plan::skip_resources;
use crate::engine::plan::workers::ChildKind;
use crate::engine::plan::workers::holder::is_controlled_by;
use crate::engine::progress::Event;
use crate::engine::settings::{Approver, Settings};
use crate::engine::status::{self, Frame};
use crate::kubernetes::context::{Context, Outcome};
use crate::kubernetes::error::ReconcileError;
use crate::kubernetes::events::{self, ObjectEvent};
use crate::kubernetes::infra::cluster::{SystemObject, place, to_value};
use crate::kubernetes::infra::metric_labels::ReconcileResult;
use crate::kubernetes::infra::{secrets, timing};
use crate::kubernetes::object::{Key, annotation, generation_of, status_of};
use crate::kubernetes::policy::access;
use crate::kubernetes::policy::restrictions::{self, Denial, RestrictionMode};
use crate::kubernetes::policy::retry::FAILURES_TOLERATED;
use crate::kubernetes::policy::retry::RetryState;
use crate::kubernetes::policy::tenancy;
use crate::kubernetes::reconcile::queue_drain;

/// Time from the deletion until the workers must have stopped: the time to drain the queues plus twice the Pods' grace
/// period.
const WORKERS_WITHIN: SignedDuration = SignedDuration::from_mins(2);
/// Polling interval while the queues drain and the workers stop.
const DRAIN_LOOK: Duration = Duration::from_secs(2);

/// Takes the next step of a deletion.
pub(super) async fn cleanup(context: &Context, key: &Key, stored: &SystemObject) -> Result<Outcome, ReconcileError> {
    let finalizers = stored.metadata.finalizers.as_deref().unwrap_or_default();
    if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(Outcome { result: ReconcileResult::Deleting, requeue_after: None });
    }
    let previous = status_of(stored);
    let removal = Cleanup { context, key, stored, previous: previous.as_ref() };
    let mut system = match removal.read() {
        Ok(system) => system,
        // Nothing was ever created from a spec with an invalid name or region.
        Err(_) if previous.as_ref().is_none_or(|status| status.stack_arn.is_none()) => {
            return removal.finish("no AWS resources were created for the system").await;
        }
        Err(errors) => return removal.blocked(Reason::InvalidSpec, &errors.to_string()).await,
    };
    if let Some(denial) = removal.settle_access(&mut system).await? {
        // A role that was never allowed has created nothing.
        if previous.as_ref().is_none_or(|status| status.stack_arn.is_none()) {
            return removal.finish("no AWS resources were created for the system").await;
        }
        return removal.blocked(denial.reason, &denial.message).await;
    }
    if system.spec.management_policy == ManagementPolicy::Observe {
        return removal.finish("the environment is not changed because spec.managementPolicy is Observe").await;
    }
    if let Some(words) = removal.draining(&system).await? {
        removal.doing(&words).await?;
        return Ok(Outcome { result: ReconcileResult::Deleting, requeue_after: Some(DRAIN_LOOK) });
    }
    if !removal.workers_have_ended().await? {
        removal.doing("waiting for the workers to stop").await?;
        return Ok(Outcome { result: ReconcileResult::Deleting, requeue_after: Some(DRAIN_LOOK) });
    }
    removal.take_down(&system).await
}

struct Cleanup<'a> {
    context: &'a Context,
    key: &'a Key,
    stored: &'a SystemObject,
    previous: Option<&'a DispatchSystemStatus>,
}

impl Cleanup<'_> {
    /// Parses the object, pinned to the account of its stack, so that a role that has changed meanwhile deletes nothing
    /// in another account.
    fn read(&self) -> Result<ValidatedSystem, ValidationErrors> {
        let mut spec = self.stored.data.get("spec").cloned().unwrap_or_default();
        let identity = self.previous.and_then(|status| status.identity.as_ref());
        if let (Some(identity), Some(spec)) = (identity, spec.as_object_mut()) {
            // The region of the environment, even if the spec has changed since.
            spec.insert("region".to_owned(), identity.region.clone().into());
        }
        let arn = self.previous.and_then(|status| status.stack_arn.as_deref());
        let system = ValidatedSystem::for_deletion(&self.stored.metadata, &spec)?;
        let mut system = system.under_names_of(arn.and_then(stack_name), identity);
        if let Some(identity) = identity {
            system.names.table.clone_from(&identity.table_name);
        }
        if let Some(base) = arn.and_then(ArnBase::parse) {
            system.spec.aws.account_id.get_or_insert_with(|| base.account.to_owned());
        }
        let word = spec.get("deletionPolicy").is_some_and(|word| !word.is_null());
        tenancy::settle_policy_at_the_end(&mut system, word, self.previous);
        Ok(system)
    }

    /// Sets the identity of the deletion. Of what an administrator allows, only the role counts here: an object that
    /// asks for another image, for example, is deleted all the same. A role that is not allowed (any more) is not
    /// assumed; the deletion then uses the identity with which the operator last managed the stack.
    async fn settle_access(&self, system: &mut ValidatedSystem) -> Result<Option<Denial>, ReconcileError> {
        if system.spec.aws.role_arn.is_none() {
            return Ok(None);
        }
        let options = &self.context.options;
        let namespace = self.context.cluster.namespace(&self.key.0).await?;
        // The deletion itself is one generation after that of the last reconcile.
        let before = access::recorded(self.previous, system, system.generation - 1);
        let denial = restrictions::role_denial(system, namespace.as_ref(), &options.restrictions)
            .or_else(|| access::settle_external_id(system, before.as_ref(), &options.external_ids))
            .filter(|_| options.restrictions.mode == RestrictionMode::Enforce);
        Ok(access::settle_for_deletion(system, before, denial))
    }

    /// The approval of a second person, where the cluster asks for one.
    async fn approval(&self, system: &ValidatedSystem) -> Result<Approval, ReconcileError> {
        if self.context.options.defaults.approver == Approver::Author {
            return Ok(Approval::None);
        }
        let namespace = self.context.cluster.namespace(&self.key.0).await?;
        Ok(tenancy::approval_of_deletion(system, namespace.as_ref()))
    }

    fn frame(&self) -> Frame<'_> {
        Frame { generation: generation_of(self.stored), previous: self.previous, now: (self.context.clock)() }
    }

    async fn take_down(&self, system: &ValidatedSystem) -> Result<Outcome, ReconcileError> {
        let ports = self.context.aws.ports(system).await;
        // Secrets are optional here: a deletion must not fail because one is missing.
        let read =
            secrets::read(&self.context.cluster, system, &self.context.options.restrictions).await.unwrap_or_default();
        let uid = self.stored.metadata.uid.clone().unwrap_or_default();
        let (requeue, memory) = (self.context.options.requeue, self.context.recall(self.key, &uid));
        let wait_policy = requeue.wait_policy(memory.map_or(0, |memory| memory.waits));
        let skip = annotation(self.stored, SKIP_RESOURCES).as_deref().map(skip_resources::read_ids).unwrap_or_default();
        let previous = self.previous.cloned();
        let approver = self.context.options.defaults.approver;
        let approval = self.approval(system).await?;
        let secrets = read.secrets;
        let settings = Settings { approval, secrets, wait_policy, approver, skip, previous, ..Settings::default() };
        let mut begun = Vec::new();
        let mut listen = |event: Event| begun.extend(events::begun(&event));
        let result = destroy(system, &ports, &settings, &mut listen).await;
        self.context.recorder.publish(self.stored, begun).await;
        match result {
            Ok(gone) => self.finish(&words(&gone)).await,
            Err(DestroyError::StillRunning { stack, state }) => {
                self.doing(&format!("stack {stack} is in {state}")).await?;
                let mut memory = self.context.recall(self.key, &uid).unwrap_or_default();
                (memory.uid, memory.waits) = (uid, memory.waits.saturating_add(1));
                memory.retry_state = RetryState::default();
                let next = requeue.until_next(memory.waits);
                self.context.remember(self.key, memory);
                Ok(Outcome { result: ReconcileResult::Deleting, requeue_after: Some(next) })
            }
            // What belongs to another owner is not this system's to delete.
            Err(DestroyError::OwnedByAnother(whose)) => {
                self.finish(&format!("no AWS resources of the system exist: {whose}")).await
            }
            Err(error @ DestroyError::ApprovalRequired { .. }) => {
                self.blocked(Reason::ApprovalRequired, &error.to_string()).await
            }
            // A single failed call does not report the deletion as blocked.
            Err(error) if error.is_transient() && self.context.failures(self.key) < FAILURES_TOLERATED => {
                Err(error.into())
            }
            Err(error) => {
                let error = ReconcileError::from(error);
                let message = format!(
                    "{error}; the operator will retry the deletion, backing off to at most 5 minutes. To delete the \
                     object and leave its environment as it is, set spec.managementPolicy to Observe"
                );
                self.blocked(blocked_reason(&error), &message).await?;
                Err(error)
            }
        }
    }

    /// The Deployments that this object controls. Labels and names can be anybody's.
    async fn deployments(&self) -> Result<Vec<DynamicObject>, ReconcileError> {
        let (namespace, name) = place(self.stored);
        let uid = self.stored.metadata.uid.as_deref().unwrap_or_default();
        let all = self.context.cluster.children(ChildKind::Deployment, namespace, name).await?;
        Ok(all.into_iter().filter(|found| is_controlled_by(uid, found)).collect())
    }

    /// Whether all workers have stopped or their time is up. No resource is deleted while a worker still uses it.
    async fn workers_have_ended(&self) -> Result<bool, ReconcileError> {
        let (namespace, _) = place(self.stored);
        let cluster = &self.context.cluster;
        let mut ended = true;
        for deployment in self.deployments().await? {
            let value = to_value(&deployment);
            let count = |at: &str| value.pointer(at).and_then(serde_json::Value::as_i64).unwrap_or(0);
            if count("/spec/replicas") > 0 {
                cluster.stop(namespace, deployment.metadata.name.as_deref().unwrap_or_default()).await?;
            }
            ended &= count("/spec/replicas") == 0 && count("/status/replicas") == 0;
        }
        Ok(ended || self.since_deletion() > WORKERS_WITHIN)
    }

    fn since_deletion(&self) -> SignedDuration {
        let now = (self.context.clock)();
        self.stored.metadata.deletion_timestamp.as_ref().map_or(SignedDuration::ZERO, |at| now.duration_since(at.0))
    }

    /// Message while the workers drain the queues; `None` once the workers may be stopped. Without a ready worker no
    /// queue would drain, and if AWS does not answer, the deletion does not wait for the queues.
    async fn draining(&self, system: &ValidatedSystem) -> Result<Option<String>, ReconcileError> {
        let (namespace, name) = place(self.stored);
        let Some(outputs) = self.previous.and_then(|status| status.outputs.as_ref()) else { return Ok(None) };
        if self.since_deletion() >= queue_drain::QUEUES_WITHIN {
            return Ok(None);
        }
        let cluster = &self.context.cluster;
        let entrance = role_object(name, queue_drain::INGRESS_ROLE);
        let combined = role_object(name, COMBINED);
        let mut working = false;
        for deployment in self.deployments().await? {
            let value = to_value(&deployment);
            let count = |at: &str| value.pointer(at).and_then(serde_json::Value::as_i64).unwrap_or(0);
            if count("/spec/replicas") == 0 {
                continue;
            }
            let is = |name: &str| deployment.metadata.name.as_deref() == Some(name);
            if is(&entrance) {
                cluster.stop(namespace, &entrance).await?;
                continue;
            }
            if is(&combined) {
                self.close_entrance().await?;
            }
            working |= count("/status/readyReplicas") > 0;
        }
        if !working {
            return Ok(None);
        }
        let ports = self.context.aws.ports(system).await;
        match queue_drain::non_empty(system, &ports, outputs).await {
            Ok(non_empty) => Ok(queue_drain::waits_for(&non_empty, self.since_deletion())),
            Err(error) => {
                tracing::warn!(%error, namespace, name, "could not read the queues; they are not drained");
                Ok(None)
            }
        }
    }

    /// Removes the Services. Workers that run all roles cannot stop accepting requests without stopping to drain.
    async fn close_entrance(&self) -> Result<(), ReconcileError> {
        let (namespace, name) = place(self.stored);
        let uid = self.stored.metadata.uid.as_deref().unwrap_or_default();
        let cluster = &self.context.cluster;
        let services = cluster.children(ChildKind::Service, namespace, name).await?;
        for service in services.iter().filter(|found| is_controlled_by(uid, *found)) {
            cluster.remove(ChildKind::Service, namespace, service).await?;
        }
        Ok(())
    }

    async fn doing(&self, what: &str) -> Result<(), ReconcileError> {
        let status = status::deletion(&self.frame(), None, what);
        self.context.publish(self.stored, status, Vec::new()).await
    }

    async fn blocked(&self, reason: Reason, message: &str) -> Result<Outcome, ReconcileError> {
        let status = status::deletion(&self.frame(), Some((reason, message)), message);
        self.context.publish(self.stored, status, Vec::new()).await?;
        Ok(Outcome { result: ReconcileResult::Deleting, requeue_after: Some(self.context.options.resync) })
    }

    async fn finish(&self, words: &str) -> Result<Outcome, ReconcileError> {
        let finalizers = self.stored.metadata.finalizers.clone().unwrap_or_default();
        let rest: Vec<String> = finalizers.into_iter().filter(|finalizer| finalizer != FINALIZER).collect();
        // Published before the object is gone, so that the event still refers to an existing object.
        self.context.recorder.publish(self.stored, vec![ObjectEvent::new(EventReason::Deleted, words)]).await;
        self.context.cluster.set_finalizers(self.stored, &rest).await?;
        self.context.forget(self.key);
        self.context.metrics.deleted(timing::positive(self.since_deletion()));
        Ok(Outcome { result: ReconcileResult::Deleted, requeue_after: None })
    }
}

/// Reason of a blocked deletion.
fn blocked_reason(error: &ReconcileError) -> Reason {
    match error {
        ReconcileError::Destroy(DestroyError::Failed { .. }) => Reason::DeleteFailed,
        ReconcileError::Destroy(DestroyError::SkipRefused(_)) => Reason::SkipRefused,
        ReconcileError::Destroy(DestroyError::Prepare(_)) => Reason::DeletePreparationFailed,
        ReconcileError::Destroy(DestroyError::Reconcile(EngineError::WrongAccount { .. })) => Reason::WrongAccount,
        other => other.reason(),
    }
}

fn words(gone: &DestroyReport) -> String {
    if gone.kept.is_empty() {
        return "deleted the environment".to_owned();
    }
    let kept: Vec<String> = gone.kept.iter().map(|(kind, id)| format!("{kind} {id}")).collect();
    format!("deleted the environment; retained: {}", kept.join(", "))
}
