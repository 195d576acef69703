//! The control loop: what is watched, how many objects are reconciled concurrently, and when an object is requeued.

use dispatch_api::conditions::{ConditionType, Reason};
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use dispatch_api::annotations::{ADOPT, APPROVE, DRY_RUN, FINALIZER, RECONCILE_REQUESTED_AT, SKIP_RESOURCES};
use dispatch_api::dispatch_system::DispatchSystem;
use dispatch_api::names::ResourceNames;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::apps::v1::Deployment;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::{WatchStreamExt as _, applier, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::cloud::stack::stack_name;
use crate::engine::plan::workers::MANAGED_BY;
use crate::engine::status::{self, Frame, SystemPhase};
use crate::kubernetes::context::{Context, Outcome};
use crate::kubernetes::error::{ReconcileError, limit_reached, rejected, tried_again};
use crate::kubernetes::infra::cluster::{SystemObject, place};
use crate::kubernetes::infra::metric_labels::ReconcileResult;
use crate::kubernetes::infra::watch_health::WatchHealth;
use crate::kubernetes::object::{Key, generation_of, status_of};
use crate::kubernetes::policy::requeue;
use crate::kubernetes::policy::retry::FAILURES_TOLERATED;
use crate::kubernetes::policy::retry::RetryState;
use crate::kubernetes::reconcile;

/// Deadline of one reconcile. A reconcile does not wait for long operations; it requeues and inspects them later. A
/// single AWS call with all its retries may take a minute.
const DEADLINE: Duration = Duration::from_secs(90);
/// Page size of list calls.
const PAGE: u32 = 100;

type System = PartialObjectMeta<DispatchSystem>;

/// What the controller watches.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The only namespace to watch; `None` for all.
    pub namespace: Option<String>,
    /// Objects reconciled concurrently.
    pub concurrency: u16,
}

/// Reconciles until `stop`; reconciles in progress then finish.
///
/// Only metadata is watched: 500 systems need little memory, and an object that cannot be parsed does not block the
/// others. Every reconcile reads its object from the API server, so no decision depends on a stale copy.
pub async fn run(context: Arc<Context>, scope: Scope, stop: CancellationToken) {
    let client = context.cluster.client();
    let systems: Api<System> = api(&client, scope.namespace.as_deref());
    let deployments: Api<PartialObjectMeta<Deployment>> = api(&client, scope.namespace.as_deref());
    let (reader, writer) = reflector::store();
    let seen = Arc::clone(&context);
    let watch = |kind| WatchHealth::new(kind, Arc::clone(&context.metrics));
    let (of_systems, of_workers) = (watch("DispatchSystem"), watch("Deployment"));
    let own = watcher(systems, watcher::Config::default().page_size(PAGE))
        .default_backoff()
        .inspect(move |event| of_systems.observe(event))
        .inspect_ok(|event| {
            if let watcher::Event::Delete(system) = event {
                seen.forget(&(system.namespace().unwrap_or_default(), system.name_any()));
            }
        })
        .modify(|system| system.managed_fields_mut().clear())
        .reflect(writer)
        .applied_objects()
        .predicate_filter(asks_for_a_reconcile, kube::runtime::PredicateConfig::default())
        .map_ok(|system| vec![ObjectRef::from_obj(&system)]);
    let managed = format!("app.kubernetes.io/managed-by={MANAGED_BY}");
    let managed = watcher::Config::default().labels(&managed).page_size(PAGE);
    let workers = watcher(deployments, managed).default_backoff();
    let workers =
        workers.inspect(move |event| of_workers.observe(event)).touched_objects().map_ok(|made| owners(&made));
    let triggers = stream::select(own, workers)
        .map_ok(|systems| stream::iter(systems.into_iter().map(Ok::<_, watcher::Error>)))
        .try_flatten()
        .take_until(stop.cancelled_owned());
    let work = |system, context| Box::pin(on_event(system, context));
    let config = Config::default().concurrency(scope.concurrency);
    applier(work, |_, error: &Infallible, _| match *error {}, context, reader, Box::pin(triggers), config)
        .for_each(|result| async move {
            if let Err(error) = result {
                tracing::debug!(%error, "a watch event failed; the watch continues");
            }
        })
        .await;
}

/// The systems that own a worker object.
fn owners(made: &PartialObjectMeta<Deployment>) -> Vec<ObjectRef<System>> {
    let namespace = made.metadata.namespace.as_deref();
    let all = made.owner_references().iter();
    all.filter_map(|owner| ObjectRef::from_owner_ref(namespace, owner, ())).collect()
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// What triggers a reconcile: the spec, the deletion timestamp, the operator's annotations, and whether the object has
/// the operator's finalizer. `kubectl replace` removes it, and a deletion would then leave the environment behind. The
/// operator's own writes of the status trigger nothing.
#[expect(clippy::unnecessary_wraps, reason = "a predicate of kube")]
fn asks_for_a_reconcile(system: &System) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    system.metadata.generation.hash(&mut hasher);
    system.metadata.deletion_timestamp.is_some().hash(&mut hasher);
    system.finalizers().iter().any(|finalizer| finalizer == FINALIZER).hash(&mut hasher);
    for name in [RECONCILE_REQUESTED_AT, APPROVE, ADOPT, DRY_RUN, SKIP_RESOURCES] {
        system.annotations().get(name).hash(&mut hasher);
    }
    Some(hasher.finish())
}

async fn on_event(system: Arc<System>, context: Arc<Context>) -> Result<Action, Infallible> {
    let key = (system.namespace().unwrap_or_default(), system.name_any());
    Ok(attend(&context, &key).await.map_or_else(Action::await_change, Action::requeue))
}

/// Reconciles one object and records the result in the metrics, and a failure in the log and the object's status.
/// Returns the time until the next reconcile if no event arrives before.
pub async fn attend(context: &Arc<Context>, key: &Key) -> Option<Duration> {
    let begun = Instant::now();
    let _under_way = context.metrics.begins();
    match bounded(context, key).await {
        Ok(Outcome { result, requeue_after }) => {
            context.metrics.reconciled(result, begun.elapsed());
            tracing::debug!(namespace = key.0, name = key.1, outcome = result.as_str(), ?requeue_after, "reconciled");
            requeue_after
        }
        Err(error) if error.is_not_leading() => {
            context.metrics.reconciled(ReconcileResult::Error, begun.elapsed());
            None
        }
        Err(error) => {
            context.metrics.reconciled(ReconcileResult::Error, begun.elapsed());
            Some(failed(context, key, &error).await)
        }
    }
}

/// Runs one reconcile with a deadline, on a separate task so that a panic ends only this reconcile.
async fn bounded(context: &Arc<Context>, key: &Key) -> Result<Outcome, ReconcileError> {
    let (own, of) = (Arc::clone(context), key.clone());
    let task = AbortOnDropHandle::new(tokio::spawn(async move { Box::pin(reconcile::reconcile(&own, &of)).await }));
    match timeout(DEADLINE, task).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => {
            context.metrics.panicked();
            Err(ReconcileError::Panicked)
        }
        Err(_) => Err(ReconcileError::Deadline(DEADLINE.as_secs())),
    }
}

/// Reports a failed reconcile and returns the time until the retry.
async fn failed(context: &Context, key: &Key, error: &ReconcileError) -> Duration {
    if error.is_conflict() {
        return requeue::back_off(1, rand::random());
    }
    context.metrics.failed(error.source_label());
    let stored = context.cluster.system(&key.0, &key.1).await.ok().flatten();
    let retry_state = context.count_failure(key, stored.as_ref(), error.failure_kind());
    // A deletion is always retried. The cleanup reports what blocks it in AWS; here is reported what the API server
    // rejects.
    let is_deleted = |stored: &SystemObject| stored.metadata.deletion_timestamp.is_some();
    let stored = stored.filter(|stored| !is_deleted(stored) || error.is_permanent());
    let is_settled = retry_state.failures >= FAILURES_TOLERATED;
    let next = match &stored {
        Some(_) if error.is_permanent() && is_settled => requeue::jittered(context.options.resync, rand::random()),
        Some(_) if retry_state.is_exhausted() => requeue::jittered(requeue::SLOW, rand::random()),
        _ => requeue::back_off(retry_state.failures, rand::random()),
    };
    tracing::warn!(namespace = key.0, name = key.1, %error, failures = retry_state.failures, ?next, "reconcile failed");
    if let Some(stored) = stored
        && let Err(error) = tell(context, &stored, error, &retry_state).await
    {
        tracing::debug!(namespace = key.0, name = key.1, %error, "could not write the failure into the status");
    }
    next
}

async fn tell(
    context: &Context,
    stored: &SystemObject,
    error: &ReconcileError,
    retry_state: &RetryState,
) -> Result<(), ReconcileError> {
    let previous = status_of(stored);
    let generation = generation_of(stored);
    let serves = previous.as_ref().is_some_and(|status| {
        status.observed_generation == generation && status::is_true(status, ConditionType::Ready)
    });
    if serves && retry_state.failures < FAILURES_TOLERATED {
        return Ok(());
    }
    let frame = Frame { generation, previous: previous.as_ref(), now: (context.clock)() };
    let (namespace, name) = place(stored);
    let recorded = previous.as_ref().and_then(|status| status.stack_arn.as_deref()).and_then(stack_name);
    let stack = recorded.map_or_else(|| ResourceNames::prefix(namespace, name), str::to_owned);
    let mut status = if error.is_permanent() {
        let text = rejected(error, context.options.resync);
        if stored.metadata.deletion_timestamp.is_some() {
            status::deletion(&frame, Some((error.reason(), &text)), &text)
        } else {
            status::unfinished(&frame, SystemPhase::Stalled, error.reason(), &text)
        }
    } else if retry_state.is_exhausted() {
        status::unfinished(&frame, SystemPhase::Stalled, Reason::RetryLimitReached, &limit_reached(error, &stack))
    } else {
        status::unfinished(&frame, SystemPhase::Reconciling, error.reason(), &tried_again(error, &stack))
    };
    status.failures_in_a_row = retry_state.reported();
    context.publish(stored, status, Vec::new()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(generation: i64, annotations: &[(&str, &str)], deleted: bool) -> System {
        let mut system = kube::core::PartialObjectMetaExt::into_response_partial(kube::core::ObjectMeta::default());
        system.metadata.generation = Some(generation);
        let pairs = annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        system.metadata.annotations = Some(pairs.collect());
        system.metadata.deletion_timestamp =
            deleted.then_some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
        system
    }

    #[test]
    fn spec_deletion_and_operator_annotations_trigger_a_reconcile_and_own_writes_do_not() {
        let before = object(1, &[("example.com/other", "value")], false);
        let mut written = before.clone();
        written.metadata.resource_version = Some("2".to_owned());
        written.metadata.finalizers = Some(vec!["example.com/other".to_owned()]);
        assert_eq!(asks_for_a_reconcile(&before), asks_for_a_reconcile(&written));
        let mut held = before.clone();
        held.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
        assert_ne!(asks_for_a_reconcile(&before), asks_for_a_reconcile(&held), "a lost finalizer");
        for other in [
            object(2, &[], false),
            object(1, &[(RECONCILE_REQUESTED_AT, "now")], false),
            object(1, &[(APPROVE, "3f9c2ab41d07")], false),
            object(1, &[(DRY_RUN, "true")], false),
            object(1, &[(SKIP_RESOURCES, "OffersQueue")], false),
            object(1, &[], true),
        ] {
            assert_ne!(asks_for_a_reconcile(&before), asks_for_a_reconcile(&other));
        }
    }
}
