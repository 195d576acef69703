//! One reconcile of one object: what the API server has, what AWS has, the workers, and the status of it all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dispatch_api::annotations::{ADOPT, APPROVE, DRY_RUN, FINALIZER, RECONCILE_REQUESTED_AT, SKIP_RESOURCES};
use dispatch_api::conditions;
use dispatch_api::dispatch_system::{DispatchSystemStatus, ManagementPolicy};
use dispatch_api::validate::ValidatedSystem;
use jiff::Timestamp;
use tokio::time::Instant;

use super::announce::{self, Announcement, Reason};
use super::cluster::{Cluster, Stored, place, to_value};
use super::connection::Connection;
use super::error::{self, PassError, Refusal};
use super::exports::{Exports, Mark};
use super::memory::{DeniedSecret, Fingerprint, Memory, NextLook};
use super::metrics::Metrics;
use super::pool::{self, Ensured, Setting};
use super::recorder::Announcer;
use super::secrets::{self, SecretsRead};
use super::source::PortsSource;
use super::streak::{Nature, Streak, Wish};
use super::tenancy::{self, Defaults};
use super::timing;
use super::turns::Turns;
use super::{pace, removal};
use crate::plan::Approval;
use crate::plan::leave;
use crate::plan::ownership::Adoption;
use crate::plan::workers::Served;
use crate::progress::Event;
use crate::reconcile::{DriftLook, FailedInput, Mode, ReconcileError, Reconciled, Settings, reconcile};
use crate::status::{self, ConnectionState, Frame, Trio, WorkersState};

/// Failures in a row after which a system that was ready is called ready no more, and a deletion blocked. A call that failed once says
/// nothing of either.
pub(super) const FAILURES_HIDDEN: u32 = 3;

/// Settings of all reconciles.
#[derive(Clone, Debug)]
pub struct Options {
    /// Image of the runtime where a manifest names none.
    pub image: String,
    /// Address that replaces AWS's own, for workers too.
    pub endpoint_url: Option<String>,
    /// Time between two looks at a system in sync.
    pub resync: Duration,
    /// Time over which the first looks at systems in sync are spread after a start.
    pub spread: Duration,
    /// How a running operation is followed.
    pub pauses: pace::Pauses,
    /// Stack operations that may run at once.
    pub stack_operations: u16,
    /// What counts where neither a spec nor its namespace says.
    pub defaults: Defaults,
}

/// Name of an object.
pub type Key = (String, String);

/// Everything a reconcile works with.
pub struct Context {
    /// The API server.
    pub cluster: Cluster,
    /// AWS.
    pub aws: Arc<dyn PortsSource>,
    /// Events.
    pub announcer: Announcer,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Settings.
    pub options: Options,
    /// The clock of status timestamps.
    pub clock: fn() -> Timestamp,
    /// What the cluster serves.
    pub served: Served,
    turns: Arc<Turns>,
    memories: Mutex<HashMap<Key, Memory>>,
    shown: Mutex<HashMap<Key, Vec<&'static str>>>,
    exports: Mutex<HashMap<Key, Mark>>,
}

/// How a reconcile ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// For the metrics.
    pub outcome: &'static str,
    /// When to come back without anything having happened.
    pub next: Option<Duration>,
}

/// Parts of a [`Context`].
pub struct Parts {
    /// The API server.
    pub cluster: Cluster,
    /// AWS.
    pub aws: Arc<dyn PortsSource>,
    /// Events.
    pub announcer: Announcer,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Settings.
    pub options: Options,
    /// The clock of status timestamps.
    pub clock: fn() -> Timestamp,
    /// What the cluster serves.
    pub served: Served,
}

impl Context {
    /// Without any memory.
    pub fn new(parts: Parts) -> Self {
        let Parts { cluster, aws, announcer, metrics, options, clock, served } = parts;
        let (memories, shown, exports) = (Mutex::default(), Mutex::default(), Mutex::default());
        let turns = Arc::new(Turns::new(options.stack_operations));
        Self { cluster, aws, announcer, metrics, options, clock, served, turns, memories, shown, exports }
    }

    /// Memory of an object. Nobody else has it meanwhile: an object is never reconciled twice at once.
    pub(super) fn recall(&self, key: &Key, uid: &str) -> Option<Memory> {
        let memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        memories.get(key).filter(|memory| memory.uid == uid).cloned()
    }

    pub(super) fn remember(&self, key: &Key, memory: Memory) {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), memory);
    }

    /// The object is gone.
    pub(super) fn forget(&self, key: &Key) {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        self.turns.ends(key);
        self.show(key, None);
        self.mark_exports(key, None);
    }

    /// Counts one more failure of an object and says how many there were in a row. Where the object cannot be read the failure counts
    /// for the wish that was known last.
    pub(super) fn count_failure(&self, key: &Key, stored: Option<&Stored>, nature: Nature) -> Streak {
        let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = memories.entry(key.clone()).or_default();
        if let Some(stored) = stored {
            let uid = stored.metadata.uid.clone().unwrap_or_default();
            let wish = wish_of(stored);
            if memory.uid != uid {
                *memory = Memory { streak: Streak::restored(status_of(stored).as_ref(), &wish), ..Memory::of(&uid) };
            }
            memory.streak = memory.streak.and(&wish, nature);
        } else {
            memory.streak = memory.streak.and_again(nature);
        }
        memory.streak.clone()
    }

    /// Failures of an object in a row.
    pub(super) fn failures(&self, key: &Key) -> u32 {
        let memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        memories.get(key).map_or(0, |memory| memory.streak.failures)
    }

    fn show(&self, key: &Key, status: Option<&DispatchSystemStatus>) {
        const SHOWN: [&str; 7] = [
            conditions::READY,
            conditions::RECONCILING,
            conditions::STALLED,
            conditions::DRIFTED,
            conditions::PLAN_PENDING,
            conditions::PAUSED,
            conditions::DELETION_BLOCKED,
        ];
        let on: Option<Vec<_>> =
            status.map(|status| SHOWN.into_iter().filter(|kind| status::is_true(status, kind)).collect());
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        // Counting goes over all systems, and most looks change nothing.
        if shown.get(key) == on.as_ref() {
            return;
        }
        match on {
            Some(on) => drop(shown.insert(key.clone(), on)),
            None => drop(shown.remove(key)),
        }
        for kind in SHOWN {
            self.metrics.systems(kind, shown.values().filter(|on| on.contains(&kind)).count());
        }
    }

    fn mark_exports(&self, key: &Key, mark: Option<Mark>) {
        let mut marks = self.exports.lock().unwrap_or_else(PoisonError::into_inner);
        match mark {
            Some(mark) => drop(marks.insert(key.clone(), mark)),
            None => drop(marks.remove(key)),
        }
        let covered = marks.values().filter_map(|mark| mark.covered).min();
        self.metrics.exports_stand(covered, marks.values().filter_map(|mark| mark.deadline).min());
    }

    /// Writes a status if it says something new, and tells what changed. It is told first: a process that ends between the two leaves it
    /// to be told once more, and not never.
    pub(super) async fn publish(
        &self,
        stored: &Stored,
        mut next: DispatchSystemStatus,
        begun: Vec<Announcement>,
    ) -> Result<(), PassError> {
        next.operator_version = Some(env!("CARGO_PKG_VERSION").to_owned());
        let (next, previous) = (&next, status_of(stored));
        let (namespace, name) = place(stored);
        let differs = previous.as_ref().is_none_or(|previous| to_value(previous) != to_value(next));
        let mut told = begun;
        if differs {
            told.extend(announce::announcements(previous.as_ref(), next));
            self.count(stored, previous.as_ref(), next, &told);
        }
        self.announcer.tell(stored, told).await;
        if differs {
            self.cluster.set_status(stored, next).await?;
        }
        self.show(&(namespace.to_owned(), name.to_owned()), Some(next));
        Ok(())
    }
}

impl Context {
    /// Counts what two statuses show to have happened between them.
    fn count(
        &self,
        stored: &Stored,
        before: Option<&DispatchSystemStatus>,
        after: &DispatchSystemStatus,
        told: &[Announcement],
    ) {
        let created = stored.metadata.creation_timestamp.as_ref().map(|at| at.0);
        if let Some((kind, took)) = created.and_then(|created| timing::time_to_ready(before, after, created)) {
            self.metrics.became_ready(kind.name(), took);
        }
        if let Some(took) = timing::time_drifted(before, after) {
            self.metrics.drift_ended(took);
        }
        for Announcement { reason, .. } in told {
            match reason {
                Reason::DriftDetected => self.metrics.drift_detected(),
                Reason::DriftCorrected => self.metrics.drift_corrected(),
                _ => {}
            }
        }
    }
}

/// The status an object has, where it has one.
pub(super) fn status_of(stored: &Stored) -> Option<DispatchSystemStatus> {
    serde_json::from_value(stored.data.get("status")?.clone()).ok()
}

/// Generation of an object's spec.
pub(super) fn generation_of(stored: &Stored) -> i64 {
    stored.metadata.generation.unwrap_or(0)
}

pub(super) fn annotation(stored: &Stored, name: &str) -> Option<String> {
    stored.metadata.annotations.as_ref()?.get(name).filter(|value| !value.is_empty()).cloned()
}

/// What is wanted of an object, as far as failures in a row belong to it.
fn wish_of(stored: &Stored) -> Wish {
    Wish { generation: generation_of(stored), requested: annotation(stored, RECONCILE_REQUESTED_AT) }
}

/// Reconciles one object.
pub async fn pass(context: &Context, key: &Key) -> Result<Passed, PassError> {
    let Some(stored) = context.cluster.system(&key.0, &key.1).await? else {
        context.forget(key);
        return Ok(Passed { outcome: "gone", next: None });
    };
    if stored.metadata.deletion_timestamp.is_some() {
        return Box::pin(removal::remove(context, key, &stored)).await;
    }
    let spec = stored.data.get("spec").cloned().unwrap_or_default();
    let previous = status_of(&stored);
    let frame = Frame { generation: generation_of(&stored), previous: previous.as_ref(), now: (context.clock)() };
    let identity = previous.as_ref().and_then(|status| status.identity.as_ref());
    let read = ValidatedSystem::of_object(&stored.metadata, &spec).and_then(|system| match identity {
        Some(identity) => system.keeps_identity(identity).map(|()| system),
        None => Ok(system),
    });
    let mut system = match read {
        Ok(system) => system,
        Err(errors) => {
            let status = status::unfinished(&frame, Trio::Stalled, "InvalidSpec", &errors.to_string());
            context.publish(&stored, status, Vec::new()).await?;
            return Ok(Passed { outcome: "stalled", next: None });
        }
    };
    let defaults = context.options.defaults;
    let namespace = if tenancy::has_a_say(&system, defaults) { context.cluster.namespace(&key.0).await? } else { None };
    tenancy::settle_policy(&mut system, namespace.as_ref(), defaults);
    if let Some(refusal) = tenancy::role_refusal(&system, namespace.as_ref(), defaults) {
        let status = status::unfinished(&frame, Trio::Stalled, conditions::ROLE_NOT_ALLOWED, &refusal);
        context.publish(&stored, status, Vec::new()).await?;
        // Namespaces are not watched.
        return Ok(Passed { outcome: "stalled", next: Some(context.options.resync) });
    }
    // A future of this size is moved about on the heap.
    Box::pin(Pass { context, key, stored: &stored, system: &system, frame }.run()).await
}

/// One reconcile of a valid object.
struct Pass<'a> {
    context: &'a Context,
    key: &'a Key,
    stored: &'a Stored,
    system: &'a ValidatedSystem,
    frame: Frame<'a>,
}

impl Pass<'_> {
    async fn run(&self) -> Result<Passed, PassError> {
        let (context, system) = (self.context, self.system);
        self.hold().await?;
        let secrets = secrets::read(&context.cluster, system).await?;
        let planned_only = annotation(self.stored, DRY_RUN).as_deref() == Some("true");
        let mode = if planned_only { Mode::DryRun } else { Mode::CarryOut };
        let fingerprint = Fingerprint {
            generation: system.generation,
            requested: annotation(self.stored, RECONCILE_REQUESTED_AT),
            approved: annotation(self.stored, APPROVE),
            adopted: annotation(self.stored, ADOPT),
            skipped: annotation(self.stored, SKIP_RESOURCES),
            mode,
            policy: system.deletion_policy,
            secrets: secrets.digest.clone(),
        };
        let mut memory = self.memory(&fingerprint);
        let mut begun = Vec::new();
        let now = Instant::now();
        if memory.is_due(&fingerprint, now) && !self.waits_on(&mut memory, &fingerprint, now) {
            self.ask_aws(&mut memory, fingerprint, &secrets, &mut begun).await?;
        }
        let Some(base) = memory.base.clone() else { return Ok(Passed { outcome: "waiting", next: None }) };
        if status::stalled_for(&base, "InvalidSpec") || status::stalled_for(&base, "WrongAccount") {
            // The spec means another place or other data than the workers serve; nothing of it reaches them.
            context.publish(self.stored, base, begun).await?;
            context.remember(self.key, memory);
            return Ok(Passed { outcome: "stalled", next: None });
        }
        let setting = Setting {
            image: &context.options.image,
            endpoint_url: context.options.endpoint_url.as_deref(),
            cache_secret_version: secrets.cache_version.as_deref(),
            served: context.served,
            mode,
        };
        let outputs = base.outputs.clone();
        let Ensured { workers, taken } = pool::ensure(&context.cluster, system, outputs.as_ref(), setting).await?;
        let mut status = status::with_workers(base, &workers, &self.frame);
        if status.stack_arn.is_some() {
            status.identity = Some(system.identity());
        }
        let (outputs, taken) = (outputs.as_ref(), taken.as_deref());
        let recorded = self.frame.previous.and_then(|status| status.connection_secret_name.as_deref());
        let connection = Connection { system, outputs, secrets: &secrets.secrets, recorded, taken };
        let (status, next_connection, next_export) = match mode {
            Mode::CarryOut => {
                let (status, next_connection) = self.step_connection(status, &mut memory, connection).await?;
                let (status, next_export) = self.step_exports(status, &mut memory).await;
                (status, next_connection, next_export)
            }
            Mode::DryRun => (status, None, None),
        };
        if !status::stalled_for(&status, conditions::RETRY_LIMIT_REACHED) {
            memory.streak = Streak::default();
        }
        let outcome = outcome(&status);
        context.publish(self.stored, status, begun).await?;
        let next = self.next(&memory, &secrets, workers.state);
        let next = next_export.into_iter().chain(next_connection).fold(next, Duration::min);
        context.remember(self.key, memory);
        Ok(Passed { outcome, next: Some(next) })
    }

    /// Whether a system that waits for its turn has to go on waiting, of which AWS need not be asked.
    fn waits_on(&self, memory: &mut Memory, fingerprint: &Fingerprint, now: Instant) -> bool {
        let waits = memory.base.as_ref().is_some_and(status::waits_for_turn);
        if !waits || memory.fingerprint.as_ref() != Some(fingerprint) || self.context.turns.is_free(self.key) {
            return false;
        }
        memory.next = NextLook::At(now + pace::jittered(pace::TURN, rand::random()));
        true
    }

    /// Puts the finalizer on, before anything is made that a deletion would have to remove.
    async fn hold(&self) -> Result<(), PassError> {
        let mut finalizers = self.stored.metadata.finalizers.clone().unwrap_or_default();
        let held = finalizers.iter().any(|finalizer| finalizer == FINALIZER);
        if held || self.system.spec.management_policy == ManagementPolicy::Observe {
            return Ok(());
        }
        finalizers.push(FINALIZER.to_owned());
        self.context.cluster.set_finalizers(self.stored, &finalizers).await?;
        Ok(())
    }

    fn memory(&self, fingerprint: &Fingerprint) -> Memory {
        let uid = self.stored.metadata.uid.clone().unwrap_or_default();
        if let Some(memory) = self.context.recall(self.key, &uid) {
            return memory;
        }
        let in_sync = self.frame.previous.filter(|status| {
            status.observed_generation == self.system.generation
                && status::is_true(status, conditions::READY)
                && status.last_handled_reconcile_at == fingerprint.requested
        });
        match in_sync {
            Some(status) => {
                let first_look = Instant::now() + self.context.options.spread.mul_f64(rand::random::<f64>());
                Memory::in_sync(&uid, status, fingerprint.clone(), first_look)
            }
            None => Memory { streak: Streak::restored(self.frame.previous, &wish_of(self.stored)), ..Memory::of(&uid) },
        }
    }

    async fn ask_aws(
        &self,
        memory: &mut Memory,
        fingerprint: Fingerprint,
        secrets: &SecretsRead,
        begun: &mut Vec<Announcement>,
    ) -> Result<(), PassError> {
        let now = Instant::now();
        let drift = memory.drift_look(&fingerprint, self.system.spec.drift_interval_seconds, now);
        let handled = self.frame.previous.and_then(|status| status.last_handled_reconcile_at.clone());
        let asked_for = fingerprint.requested.is_some() && fingerprint.requested != handled;
        let settings = Settings {
            mode: fingerprint.mode,
            approval: fingerprint.approved.clone().map_or(Approval::None, Approval::Plan),
            secrets: secrets.secrets.clone(),
            drift,
            failed_input: if asked_for { FailedInput::TryAgain } else { FailedInput::Refuse },
            patience: self.context.options.pauses.patience(memory.waits),
            gate: Some(Arc::new(self.context.turns.of(self.key))),
            adoption: match &fingerprint.adopted {
                Some(stack) if *stack == self.system.names.stack => Adoption::Take,
                _ => Adoption::Refuse,
            },
            skip: fingerprint.skipped.as_deref().map(leave::read_ids).unwrap_or_default(),
            previous: self.frame.previous.cloned(),
        };
        let context = self.context;
        let ports = context.aws.ports(self.system).await;
        let mut listen = |event: Event| {
            tracing::debug!(?event);
            begun.extend(announce::begun(&event));
        };
        let result = reconcile(self.system, &ports, &settings, &mut listen).await;
        // Who fails leaves its turn to others; an operation that runs all the same is found by the next look.
        match &result {
            Ok(done) if status::operates(&done.status) => context.turns.runs(self.key),
            _ => context.turns.ends(self.key),
        }
        let (mut base, next) = match result {
            Ok(done) => self.reconciled(memory, done, drift),
            Err(error) => match self.refused(memory, &error) {
                Some(refused) => refused,
                None => return Err(error.into()),
            },
        };
        base.last_handled_reconcile_at = fingerprint.requested.clone().or(handled);
        if drift == DriftLook::Look {
            let interval = Duration::from_secs(self.system.spec.drift_interval_seconds.into());
            memory.next_drift = Some(now + pace::jittered(interval, rand::random()));
        }
        memory.base = Some(base);
        memory.next = next;
        memory.fingerprint = Some(fingerprint);
        Ok(())
    }

    /// What becomes of an error that is not tried again at the usual pace.
    fn refused(&self, memory: &mut Memory, error: &ReconcileError) -> Option<(DispatchSystemStatus, NextLook)> {
        let streak = memory.streak.and(&wish_of(self.stored), error::nature(error));
        let Refusal { trio, reason } = Refusal::of(error, &streak)?;
        if reason != conditions::RETRY_LIMIT_REACHED {
            return Some((status::unfinished(&self.frame, trio, reason, &error.to_string()), NextLook::OnChange));
        }
        let mut status =
            status::unfinished(&self.frame, trio, reason, &error::limit_reached(error, &self.system.names.stack));
        status.failures_in_a_row = streak.told();
        memory.streak = streak;
        Some((status, NextLook::At(Instant::now() + pace::jittered(pace::SLOW, rand::random()))))
    }

    fn reconciled(&self, memory: &mut Memory, done: Reconciled, drift: DriftLook) -> (DispatchSystemStatus, NextLook) {
        let mut base = done.status;
        if drift == DriftLook::Skip {
            base = status::keep_drift(base, &self.frame);
        }
        // A resource that is gone may come back without anything said here.
        if status::is_true(&base, conditions::STALLED) && !status::stalled_for(&base, conditions::RESOURCE_GONE) {
            memory.waits = 0;
            return (base, NextLook::OnChange);
        }
        let at_rest = status::is_true(&base, conditions::READY)
            || status::is_true(&base, conditions::STALLED)
            || status::waits_for_nothing(&base);
        let pause = if at_rest {
            memory.waits = 0;
            pace::jittered(self.context.options.resync, rand::random())
        } else if status::waits_for_turn(&base) {
            memory.waits = 0;
            pace::jittered(pace::TURN, rand::random())
        } else {
            memory.waits = memory.waits.saturating_add(1);
            self.context.options.pauses.until_next(memory.waits)
        };
        (base, NextLook::At(Instant::now() + pause))
    }

    async fn step_connection(
        &self,
        status: DispatchSystemStatus,
        memory: &mut Memory,
        connection: Connection<'_>,
    ) -> Result<(DispatchSystemStatus, Option<Duration>), PassError> {
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
        let next = (finding.state == ConnectionState::Publishing).then_some(pace::STEP);
        Ok((status::with_connection(status, finding, self.system, &self.frame), next))
    }

    /// After everything else, so that its status is written right after an export is started.
    async fn step_exports(
        &self,
        status: DispatchSystemStatus,
        memory: &mut Memory,
    ) -> (DispatchSystemStatus, Option<Duration>) {
        let (context, previous, now) = (self.context, self.frame.previous, self.frame.now);
        let ports = context.aws.ports(self.system).await;
        let exports =
            Exports { system: self.system, ports: &ports, metrics: &context.metrics, status: &status, previous, now };
        let stepped = exports.step(&mut memory.exports).await;
        context.mark_exports(self.key, stepped.mark);
        (status::with_exports(status, stepped.finding, &self.frame), stepped.next)
    }

    fn next(&self, memory: &Memory, secrets: &SecretsRead, workers: WorkersState) -> Duration {
        let resync = self.context.options.resync;
        let mut next = memory.until_next(Instant::now()).unwrap_or(resync).min(resync.mul_f64(1.1));
        if secrets.named {
            next = next.min(pace::jittered(pace::SECRETS, rand::random()));
        }
        if matches!(workers, WorkersState::RollingOut | WorkersState::Failing) {
            next = next.min(pace::WORKERS);
        }
        next
    }
}

fn outcome(status: &DispatchSystemStatus) -> &'static str {
    match () {
        () if status::is_true(status, conditions::READY) => "ready",
        () if status::is_true(status, conditions::STALLED) => "stalled",
        () => "waiting",
    }
}
