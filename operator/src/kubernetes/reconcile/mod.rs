//! One reconcile of one object: reads it, reconciles AWS if that is due, then the workers, and writes the status.

mod children;
mod cleanup;
pub mod connection;
pub mod exports;
mod pods;
pub mod queue_drain;
pub mod worker_deployments;

use crate::kubernetes::context::Outcome;
use crate::kubernetes::context::{Context, revision_of};
use crate::kubernetes::object::Key;
use crate::kubernetes::object::annotation;
use crate::kubernetes::object::{generation_of, holds_back, status_of};
use std::sync::Arc;
use std::time::Duration;

use dispatch_api::annotations::{ADOPT, APPROVE, DRY_RUN, FINALIZER, RECONCILE_REQUESTED_AT, SKIP_RESOURCES};
use dispatch_api::conditions::{ConditionType, Reason};
use dispatch_api::dispatch_system::{AccessStatus, DispatchSystemStatus, ManagementPolicy};
use dispatch_api::validate::ValidatedSystem;
use tokio::time::Instant;

use crate::cloud::stack::stack_name;
use crate::engine::error::EngineError;
use crate::engine::plan::skip_resources;
use crate::engine::progress::Event;
use crate::engine::reconcile::{self as engine, ReconcileReport};
use crate::engine::settings::{DriftDetection, ExistenceCheck, Mode, RetryPolicy, Settings};
use crate::engine::status::{self, ConnectionState, Frame, SystemPhase, WorkersFinding, WorkersState};
use crate::kubernetes::error::{self, ReconcileError, Refusal};
use crate::kubernetes::events::{self, ObjectEvent};
use crate::kubernetes::infra::cluster::SystemObject;
use crate::kubernetes::infra::metric_labels::ReconcileResult;
use crate::kubernetes::infra::reconcile_cache::{DeniedSecret, InputDigest, NextLook, ReconcileCache};
use crate::kubernetes::infra::secrets::{self, SecretsRead};
use crate::kubernetes::policy::access;
use crate::kubernetes::policy::requeue;
use crate::kubernetes::policy::restrictions::{self, Denial, RestrictionMode};
use crate::kubernetes::policy::retry::RetryState;
use crate::kubernetes::policy::tenancy::{self, Annotations, Leave};
use crate::kubernetes::reconcile::connection::Connection;
use crate::kubernetes::reconcile::exports::Exports;
use crate::kubernetes::reconcile::worker_deployments::{Rollout, Setting};

/// Reconciles one object.
pub async fn reconcile(context: &Context, key: &Key) -> Result<Outcome, ReconcileError> {
    let Some(stored) = context.cluster.system(&key.0, &key.1).await? else {
        context.forget(key);
        return Ok(Outcome { result: ReconcileResult::Gone, requeue_after: None });
    };
    if stored.metadata.deletion_timestamp.is_some() {
        return Box::pin(cleanup::cleanup(context, key, &stored)).await;
    }
    let spec = stored.data.get("spec").cloned().unwrap_or_default();
    let previous = status_of(&stored);
    let frame = Frame { generation: generation_of(&stored), previous: previous.as_ref(), now: (context.clock)() };
    let identity = previous.as_ref().and_then(|status| status.identity.as_ref());
    let read = ValidatedSystem::of_object(&stored.metadata, &spec).and_then(|system| {
        // A system is too large for the stack of the future.
        let system = Box::new(system.under_names_of(recorded_stack(previous.as_ref()), identity));
        match identity {
            Some(identity) => system.keeps_identity(identity).map(|()| system),
            None => Ok(system),
        }
    });
    let mut system = match read {
        Ok(system) => system,
        Err(errors) => {
            let status = status::unfinished(&frame, SystemPhase::Stalled, Reason::InvalidSpec, &errors.to_string());
            context.publish(&stored, status, Vec::new()).await?;
            return Ok(Outcome { result: ReconcileResult::Stalled, requeue_after: None });
        }
    };
    let namespace = context.cluster.namespace(&key.0).await?;
    let before = access::recorded(previous.as_ref(), &system, system.generation);
    let denial = denial(context, &mut system, namespace.as_ref(), before.as_ref());
    if let Some(denial) = denial.as_ref().filter(|_| is_enforced(context)) {
        let stalled = DeniedSystem { stored: &stored, frame: &frame, access: before };
        // Namespaces are not watched, so a change of an annotation is noticed by the resync.
        return stalled.publish(context, denial, context.options.resync).await;
    }
    let defaults = context.options.defaults;
    let asked = annotation(&stored, ADOPT);
    tenancy::settle_policy(&mut system, namespace.as_ref(), defaults);
    tenancy::settle_approval_policy(&mut system, defaults);
    let leave = Leave {
        consents: tenancy::consents(&system, asked.as_deref(), namespace.as_ref()),
        table_names: tenancy::table_names(namespace.as_ref()),
        approval: tenancy::approval(&system, annotation(&stored, APPROVE), namespace.as_ref(), defaults),
    };
    // The future is too large for the stack.
    Box::pin(Reconciler { context, key, stored: &stored, system: &system, leave, frame, warning: denial }.run()).await
}

/// What the spec asks for and no administrator allows. Sets the external ID of the role.
fn denial(
    context: &Context,
    system: &mut ValidatedSystem,
    namespace: Option<&Annotations>,
    before: Option<&AccessStatus>,
) -> Option<Denial> {
    let options = &context.options;
    let of_values = restrictions::denial(system, namespace, &options.restrictions);
    let of_id = access::settle_external_id(system, before, &options.external_ids);
    restrictions::both(of_values, of_id)
}

fn is_enforced(context: &Context) -> bool {
    context.options.restrictions.mode == RestrictionMode::Enforce
}

/// An object that is not reconciled because its spec asks for something that is not allowed.
struct DeniedSystem<'a> {
    stored: &'a SystemObject,
    frame: &'a Frame<'a>,
    /// The identity with which the stack is managed, which a deletion uses.
    access: Option<AccessStatus>,
}

impl DeniedSystem<'_> {
    /// Reports why. What exists stays as it is: nothing is changed in AWS or in the cluster.
    async fn publish(
        self,
        context: &Context,
        denial: &Denial,
        requeue_after: Duration,
    ) -> Result<Outcome, ReconcileError> {
        let Denial { reason, message } = denial;
        let status = status::unfinished(self.frame, SystemPhase::Stalled, *reason, message);
        let mut status = status::with_spec_allowed(status, Some((*reason, message)), self.frame);
        status.access = self.access;
        let requested = annotation(self.stored, RECONCILE_REQUESTED_AT);
        status.last_handled_reconcile_at = requested.or(status.last_handled_reconcile_at);
        context.publish(self.stored, status, Vec::new()).await?;
        Ok(Outcome { result: ReconcileResult::Stalled, requeue_after: Some(requeue_after) })
    }
}

/// Name of the stack in a status.
fn recorded_stack(status: Option<&DispatchSystemStatus>) -> Option<&str> {
    stack_name(status?.stack_arn.as_deref()?)
}

/// One reconcile of a valid object.
struct Reconciler<'a> {
    context: &'a Context,
    key: &'a Key,
    stored: &'a SystemObject,
    system: &'a ValidatedSystem,
    leave: Leave,
    frame: Frame<'a>,
    /// What is not allowed, if the operator only warns.
    warning: Option<Denial>,
}

impl Reconciler<'_> {
    async fn run(&self) -> Result<Outcome, ReconcileError> {
        let context = self.context;
        let secrets = secrets::read(&context.cluster, self.system, &context.options.restrictions).await?;
        let of_secrets = restrictions::secrets_denial(self.system, &secrets.refused);
        if let Some(denial) = of_secrets.as_ref().filter(|_| is_enforced(context)) {
            return self.deny(denial).await;
        }
        self.hold().await?;
        let mode = if holds_back(self.stored, DRY_RUN) { Mode::DryRun } else { Mode::CarryOut };
        let input_digest = InputDigest {
            generation: self.system.generation,
            requested: annotation(self.stored, RECONCILE_REQUESTED_AT),
            leave: self.leave.clone(),
            skipped: annotation(self.stored, SKIP_RESOURCES),
            mode,
            policy: self.system.deletion_policy,
            secrets: secrets.digest.clone(),
        };
        let mut memory = self.memory(&input_digest);
        let mut begun = Vec::new();
        let now = Instant::now();
        if memory.is_due(&input_digest, now) && !self.waits_on(&mut memory, &input_digest, now) {
            self.ask_aws(&mut memory, input_digest, &secrets, &mut begun).await?;
        }
        let Some(base) = memory.base.clone() else {
            return Ok(Outcome { result: ReconcileResult::Waiting, requeue_after: None });
        };
        if status::stalled_for(&base, Reason::InvalidSpec) || status::stalled_for(&base, Reason::WrongAccount) {
            // The spec refers to another account or to other data than the workers use, so it must not reach them.
            context.publish(self.stored, base, begun).await?;
            context.remember(self.key, memory);
            return Ok(Outcome { result: ReconcileResult::Stalled, requeue_after: None });
        }
        // AWS may have been asked for the first time, and have found the stack under its former name.
        let system = Box::new(self.system.clone().under_names_of(recorded_stack(Some(&base)), None));
        let system = system.as_ref();
        let takes_over = self.leave.consents.contains(&format!("{}/{}", system.namespace, system.name));
        let setting = Setting {
            image: &context.options.image,
            endpoint_url: context.options.endpoint_url.as_deref(),
            cache_secret_version: secrets.cache_version.as_deref(),
            mode,
            takes_over,
            looks_first: self.frame.previous.is_some_and(|status| status::stalled_for(status, Reason::NameTaken)),
            routed: self.frame.previous.is_some_and(|status| status::reports(status, ConditionType::RoutesAccepted)),
            clients: &context.options.clients,
            environment: &secrets.environment,
            absent: &secrets.absent,
        };
        let outputs = base.outputs.clone();
        let Rollout { workers, taken } =
            worker_deployments::ensure(&context.cluster, system, outputs.as_ref(), setting).await?;
        let status = self.recorded(status::with_workers(base, &workers, &self.frame), system, of_secrets);
        let (outputs, taken) = (outputs.as_ref(), taken.as_deref());
        let recorded = self.frame.previous.and_then(|status| status.connection_secret_name.as_deref());
        let connection = Connection { system, outputs, secrets: &secrets.secrets, recorded, taken, takes_over };
        let (status, next_connection, next_export) = match mode {
            Mode::CarryOut => {
                let (status, next_connection) = self.step_connection(status, &mut memory, connection).await?;
                let (status, next_export) = self.step_exports(system, status, &mut memory).await;
                (status, next_connection, next_export)
            }
            Mode::DryRun => (status, None, None),
        };
        if !status::stalled_for(&status, Reason::RetryLimitReached) {
            memory.retry_state = RetryState::default();
        }
        let result = outcome(&status);
        context.publish(self.stored, status, begun).await?;
        let next = self.next(&memory, &secrets, &workers);
        let next = next_export.into_iter().chain(next_connection).fold(next, Duration::min);
        context.remember(self.key, memory);
        Ok(Outcome { result, requeue_after: Some(next) })
    }

    /// Reports Secrets that the system may not read, before the finalizer or anything else is made.
    async fn deny(&self, denial: &Denial) -> Result<Outcome, ReconcileError> {
        let access = access::recorded(self.frame.previous, self.system, self.system.generation);
        let stalled = DeniedSystem { stored: self.stored, frame: &self.frame, access };
        // Secrets are not watched either.
        stalled.publish(self.context, denial, requeue::jittered(requeue::SECRETS, rand::random())).await
    }

    /// Adds what the stack was made with, and what is not allowed if the operator only warns.
    fn recorded(
        &self,
        mut status: DispatchSystemStatus,
        system: &ValidatedSystem,
        of_secrets: Option<Denial>,
    ) -> DispatchSystemStatus {
        if status.stack_arn.is_some() {
            status.identity = Some(system.identity());
            status.access = Some(access::of_spec(system));
        }
        let warning = restrictions::both(self.warning.clone(), of_secrets);
        let warning = warning.as_ref().map(|denial| (denial.reason, denial.message.as_str()));
        status::with_spec_allowed(status, warning, &self.frame)
    }

    /// Whether the system still waits for an operation slot, so that AWS need not be called.
    fn waits_on(&self, memory: &mut ReconcileCache, input_digest: &InputDigest, now: Instant) -> bool {
        let waits = memory.base.as_ref().is_some_and(status::waits_for_operation_slot);
        if !waits
            || memory.input_digest.as_ref() != Some(input_digest)
            || self.context.objects.limiter.has_capacity_for(self.key)
        {
            return false;
        }
        memory.next = NextLook::At(now + requeue::jittered(requeue::SLOT, rand::random()));
        true
    }

    /// Adds the finalizer before anything is created that a deletion must clean up.
    async fn hold(&self) -> Result<(), ReconcileError> {
        let mut finalizers = self.stored.metadata.finalizers.clone().unwrap_or_default();
        let held = finalizers.iter().any(|finalizer| finalizer == FINALIZER);
        if held || self.system.spec.management_policy == ManagementPolicy::Observe {
            return Ok(());
        }
        finalizers.push(FINALIZER.to_owned());
        self.context.cluster.set_finalizers(self.stored, &finalizers).await?;
        Ok(())
    }

    fn memory(&self, input_digest: &InputDigest) -> ReconcileCache {
        let uid = self.stored.metadata.uid.clone().unwrap_or_default();
        if let Some(memory) = self.context.recall(self.key, &uid) {
            return memory;
        }
        let in_sync = self.frame.previous.filter(|status| {
            status.observed_generation == self.system.generation
                && status::is_true(status, ConditionType::Ready)
                && status.last_handled_reconcile_at == input_digest.requested
        });
        match in_sync {
            Some(status) => {
                let first_look = Instant::now() + self.context.options.spread.mul_f64(rand::random::<f64>());
                ReconcileCache::in_sync(&uid, status, input_digest.clone(), first_look)
            }
            None => ReconcileCache {
                retry_state: RetryState::restored(self.frame.previous, &revision_of(self.stored)),
                ..ReconcileCache::new(&uid)
            },
        }
    }

    async fn ask_aws(
        &self,
        memory: &mut ReconcileCache,
        input_digest: InputDigest,
        secrets: &SecretsRead,
        begun: &mut Vec<ObjectEvent>,
    ) -> Result<(), ReconcileError> {
        let now = Instant::now();
        let drift = memory.drift_look(&input_digest, self.system.spec.drift_interval_seconds, now);
        let handled = self.frame.previous.and_then(|status| status.last_handled_reconcile_at.clone());
        let asked_for = input_digest.requested.is_some() && input_digest.requested != handled;
        let settings = Settings {
            mode: input_digest.mode,
            approval: self.leave.approval.clone(),
            approver: self.context.options.defaults.approver,
            table_names: self.leave.table_names.clone(),
            secrets: secrets.secrets.clone(),
            drift,
            existence: ExistenceCheck::Rotation,
            retry_policy: if asked_for { RetryPolicy::TryAgain } else { RetryPolicy::Refuse },
            wait_policy: self.context.options.requeue.wait_policy(memory.waits),
            gate: Some(Arc::new(self.context.objects.limiter.slot_for(self.key))),
            adoption: self.leave.adoption(),
            skip: input_digest.skipped.as_deref().map(skip_resources::read_ids).unwrap_or_default(),
            previous: self.frame.previous.cloned(),
        };
        let context = self.context;
        let ports = context.aws.ports(self.system).await;
        let mut listen = |event: Event| {
            tracing::debug!(?event);
            begun.extend(events::begun(&event));
        };
        let result = engine::reconcile(self.system, &ports, &settings, &mut listen).await;
        // A failed reconcile frees its slot; if an operation is running nevertheless, the next inspection finds it.
        match &result {
            Ok(done) if status::operates(&done.status) => context.objects.limiter.observe_running(self.key),
            _ => context.objects.limiter.release(self.key),
        }
        let (mut base, next) = match result {
            Ok(done) => self.reconciled(memory, done, drift),
            Err(error) => match self.refused(memory, &error) {
                Some(refused) => refused,
                None => return Err(error.into()),
            },
        };
        base.last_handled_reconcile_at = input_digest.requested.clone().or(handled);
        if drift == DriftDetection::Look {
            let interval = Duration::from_secs(self.system.spec.drift_interval_seconds.into());
            memory.next_drift = Some(now + requeue::jittered(interval, rand::random()));
        }
        memory.base = Some(base);
        memory.next = next;
        memory.input_digest = Some(input_digest);
        Ok(())
    }

    /// The status and next inspection for an error that is not retried with the usual backoff; `None` if it is.
    fn refused(&self, memory: &mut ReconcileCache, error: &EngineError) -> Option<(DispatchSystemStatus, NextLook)> {
        let retry_state = memory.retry_state.with_failure(&revision_of(self.stored), error::failure_kind(error));
        let Refusal { phase, reason } = Refusal::from_error(error, &retry_state)?;
        if reason != Reason::RetryLimitReached {
            return Some((status::unfinished(&self.frame, phase, reason, &error.to_string()), NextLook::OnChange));
        }
        let mut status =
            status::unfinished(&self.frame, phase, reason, &error::limit_reached(error, &self.system.names.stack));
        status.failures_in_a_row = retry_state.reported();
        memory.retry_state = retry_state;
        Some((status, NextLook::At(Instant::now() + requeue::jittered(requeue::SLOW, rand::random()))))
    }

    fn reconciled(
        &self,
        memory: &mut ReconcileCache,
        done: ReconcileReport,
        drift: DriftDetection,
    ) -> (DispatchSystemStatus, NextLook) {
        let mut base = done.status;
        // Without drift detection, an earlier result is not kept.
        if drift == DriftDetection::Skip && self.system.spec.drift_interval_seconds > 0 {
            base = status::keep_drift(base, &self.frame);
        }
        // A deleted resource may come back without a change of the inputs, so it is inspected at every resync.
        if status::is_true(&base, ConditionType::Stalled) && !status::stalled_for(&base, Reason::ResourceGone) {
            memory.waits = 0;
            return (base, NextLook::OnChange);
        }
        let at_rest = status::is_true(&base, ConditionType::Ready)
            || status::is_true(&base, ConditionType::Stalled)
            || status::waits_for_nothing(&base);
        let pause = if at_rest {
            memory.waits = 0;
            requeue::jittered(self.context.options.resync, rand::random())
        } else if status::waits_for_operation_slot(&base) {
            memory.waits = 0;
            requeue::jittered(requeue::SLOT, rand::random())
        } else {
            memory.waits = memory.waits.saturating_add(1);
            self.context.options.requeue.until_next(memory.waits)
        };
        (base, NextLook::At(Instant::now() + pause))
    }

    async fn step_connection(
        &self,
        status: DispatchSystemStatus,
        memory: &mut ReconcileCache,
        connection: Connection<'_>,
    ) -> Result<(DispatchSystemStatus, Option<Duration>), ReconcileError> {
        let (now, generation) = (Instant::now(), self.system.generation);
        memory.denied = memory.denied.take().filter(|denied| denied.generation == generation && denied.until > now);
        let finding = match &memory.denied {
            Some(denied) => denied.finding.clone(),
            None => connection.step(&self.context.cluster).await?,
        };
        if memory.denied.is_none() && matches!(finding.state, ConnectionState::Denied(_)) {
            let until = now + self.context.options.resync;
            memory.denied = Some(DeniedSecret { until, generation, finding: finding.clone() });
        }
        let next = (finding.state == ConnectionState::Publishing).then_some(requeue::STEP);
        Ok((status::with_connection(status, finding, self.system, &self.frame), next))
    }

    /// Runs last, so that the status is written right after an export is started.
    async fn step_exports(
        &self,
        system: &ValidatedSystem,
        status: DispatchSystemStatus,
        memory: &mut ReconcileCache,
    ) -> (DispatchSystemStatus, Option<Duration>) {
        let (context, previous, now) = (self.context, self.frame.previous, self.frame.now);
        let ports = context.aws.ports(system).await;
        let exports = Exports { system, ports: &ports, metrics: &context.metrics, status: &status, previous, now };
        let stepped = exports.step(&mut memory.exports).await;
        context.mark_exports(self.key, stepped.mark);
        (status::with_exports(status, stepped.finding, &self.frame), stepped.next)
    }

    fn next(&self, memory: &ReconcileCache, secrets: &SecretsRead, workers: &WorkersFinding) -> Duration {
        let resync = self.context.options.resync;
        let mut next = memory.until_next(Instant::now()).unwrap_or(resync).min(resync.mul_f64(1.1));
        if secrets.named {
            next = next.min(requeue::jittered(requeue::SECRETS, rand::random()));
        }
        let changes = [WorkersState::RollingOut, WorkersState::Failing, WorkersState::NameTaken];
        if changes.contains(&workers.state) || workers.routes.is_pending() {
            next = next.min(requeue::WORKERS);
        }
        next
    }
}

fn outcome(status: &DispatchSystemStatus) -> ReconcileResult {
    match () {
        () if status::is_true(status, ConditionType::Ready) => ReconcileResult::Ready,
        () if status::is_true(status, ConditionType::Stalled) => ReconcileResult::Stalled,
        () => ReconcileResult::Waiting,
    }
}
