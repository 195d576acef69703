use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::*;
use crate::cloud::ports::ExportRequest;
use crate::engine::plan::exports::FAILED;
use crate::engine::status::{Frame, with_exports};
use crate::kubernetes::events::events_between;
use crate::testing::{World, stack_in, system};
use dispatch_api::conditions::{ConditionStatus, ConditionType, EventReason, Reason};
use dispatch_api::dispatch_system::{ExportType, OutputsStatus};

/// One system whose exports are stepped as the controller does, and its stored status.
struct Bench {
    world: World,
    system: ValidatedSystem,
    stored: DispatchSystemStatus,
    memory: ExportCache,
    metrics: Metrics,
    now: Timestamp,
    writes: usize,
    published: Vec<EventReason>,
}

fn condition(kind: ConditionType, status: ConditionStatus) -> Condition {
    Condition {
        type_: kind.to_string(),
        status: status.to_string(),
        reason: "Test".to_owned(),
        message: String::new(),
        observed_generation: Some(0),
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
    }
}

impl Bench {
    /// It is noon in Seoul; the schedule is 04:00 there, 19:00 UTC.
    fn new() -> Self {
        let mut system = system();
        system.spec.export.schedule = Some("0 4 * * *".to_owned());
        let stored = DispatchSystemStatus {
            conditions: vec![
                condition(ConditionType::Ready, ConditionStatus::True),
                condition(ConditionType::StackReady, ConditionStatus::True),
            ],
            stack_arn: Some(stack_in("CREATE_COMPLETE").arn),
            outputs: Some(OutputsStatus { export_bucket: "bucket".to_owned(), ..OutputsStatus::default() }),
            ..DispatchSystemStatus::default()
        };
        let now = "2024-05-02T03:00:00Z".parse().unwrap();
        let (world, memory, metrics) = (World::default(), ExportCache::default(), Metrics::new());
        Self { world, system, stored, memory, metrics, now, writes: 0, published: Vec::new() }
    }

    /// A system whose schedule is already in the status.
    async fn seen() -> Self {
        let mut bench = Self::new();
        bench.step().await;
        bench
    }

    fn incremental(mut self) -> Self {
        self.system.spec.export.export_type = ExportType::Incremental;
        self
    }

    async fn wait(&mut self, time: SignedDuration) {
        self.now += time;
        tokio::time::advance(Duration::try_from(time).unwrap()).await;
    }

    async fn until(&mut self, moment: &str) {
        let moment: Timestamp = moment.parse().unwrap();
        self.wait(moment.duration_since(self.now)).await;
    }

    async fn look(&mut self) -> (DispatchSystemStatus, Stepped) {
        let now = self.now;
        self.world.change_exports(|exports| exports.now = now);
        let ports = self.world.ports();
        let exports = Exports {
            system: &self.system,
            ports: &ports,
            metrics: &self.metrics,
            status: &self.stored,
            previous: Some(&self.stored),
            now,
        };
        let stepped = exports.step(&mut self.memory).await;
        let frame = Frame { generation: 0, previous: Some(&self.stored), now };
        (with_exports(self.stored.clone(), stepped.finding.clone(), &frame), stepped)
    }

    /// One reconcile, including the write of its status.
    async fn step(&mut self) -> Option<Duration> {
        let (status, stepped) = self.look().await;
        self.writes += usize::from(status != self.stored);
        self.published.extend(events_between(Some(&self.stored), &status).into_iter().map(|event| event.reason));
        self.stored = status;
        stepped.next
    }

    /// One reconcile whose process dies before it writes the status.
    async fn crash(&mut self) {
        self.look().await;
        self.memory = ExportCache::default();
    }

    /// Reconciles at the requested times until no export is in progress.
    async fn converge(&mut self) {
        for _ in 0..200 {
            match self.step().await {
                Some(next) if next <= Duration::from_mins(1) => {
                    self.wait(SignedDuration::try_from(next).unwrap()).await;
                }
                _ => return,
            }
        }
        panic!("the exports never settle: {:#?}", self.stored);
    }

    fn ready(&self) -> (ConditionStatus, Reason, &str) {
        let found =
            self.stored.conditions.iter().find(|c| c.type_ == ConditionType::ExportsReady).expect("a condition");
        let status = ConditionStatus::parse(&found.status).expect("a status");
        (status, Reason::parse(&found.reason).expect("a reason"), &found.message)
    }

    fn last(&self) -> &ExportStatus {
        self.stored.last_export.as_ref().expect("an export")
    }

    fn started(&self) -> Vec<ExportRequest> {
        let mut started = Vec::new();
        self.world.change_exports(|exports| started.clone_from(&exports.started));
        started
    }

    fn calls(&self) -> Vec<&'static str> {
        self.world.take_calls().0
    }
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_exported_polled_and_reported_and_then_nothing_is_called_until_the_next_slot() {
    let mut bench = Bench::seen().await;
    assert_eq!(bench.ready().1, Reason::Scheduled);
    let progress = bench.stored.export_schedule.clone().expect("a schedule");
    assert_eq!(progress.next_export_at, Some(Time("2024-05-02T19:00:00Z".parse().unwrap())));
    let next = bench.step().await.expect("the next slot");
    assert!(next >= Duration::from_hours(16) && next <= Duration::from_secs(16 * 3600 + 30), "{next:?}");
    assert!(bench.calls().is_empty());

    bench.until("2024-05-02T19:00:10Z").await;
    assert_eq!(bench.step().await, Some(Duration::from_secs(30)));
    assert_eq!(bench.calls(), ["start_export"]);
    assert_eq!((bench.last().state.as_str(), bench.ready().1), (IN_PROGRESS, Reason::Exporting));
    assert!(status::is_true(&bench.stored, ConditionType::Ready), "a running export changes nothing about the system");
    bench.step().await;
    assert!(bench.calls().is_empty(), "it was polled a moment ago");
    let writes = bench.writes;
    bench.wait(SignedDuration::from_secs(30)).await;
    bench.step().await;
    assert_eq!((bench.calls(), bench.writes), (vec!["export"], writes), "it still runs");
    bench.wait(SignedDuration::from_secs(30)).await;
    assert_eq!(bench.step().await, Some(requeue::STEP));
    let ready = (ConditionStatus::True, Reason::ExportCompleted, "the export of 2024-05-03T04:00+09:00 is complete");
    assert_eq!(bench.ready(), ready);
    assert_eq!((bench.last().state.as_str(), bench.last().item_count), (COMPLETED, Some(3)));
    assert!(bench.last().started_at < bench.last().ended_at);
    assert_eq!(bench.published, [EventReason::ExportStarted, EventReason::ExportCompleted]);

    let writes = bench.writes;
    bench.calls();
    for _ in 0..20 {
        bench.step().await;
        bench.wait(SignedDuration::from_hours(1)).await;
    }
    assert_eq!((bench.calls(), bench.writes), (vec![], writes));
    let text = bench.metrics.encode().unwrap();
    for outcome in ["started", "completed"] {
        assert!(text.contains(&format!("dispatch_operator_exports_total{{outcome=\"{outcome}\"}} 1")), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_the_start_of_an_export_and_its_status_starts_no_second_one() {
    let mut bench = Bench::seen().await;
    bench.until("2024-05-02T19:00:10Z").await;
    bench.crash().await;
    bench.wait(SignedDuration::from_mins(10)).await;
    bench.crash().await;
    // The manifest changes meanwhile: the same token with another request.
    bench.system.spec.export.prefix = "elsewhere".to_owned();
    bench.wait(SignedDuration::from_mins(10)).await;
    bench.crash().await;
    bench.system.spec.export.prefix = "exports".to_owned();
    // DynamoDB has forgotten the token.
    bench.wait(SignedDuration::from_hours(9)).await;
    bench.crash().await;
    assert_eq!(bench.started().len(), 1);
    bench.converge().await;
    assert_eq!(bench.started().len(), 1);
    assert_eq!(bench.ready().1, Reason::ExportCompleted);
    assert_eq!(bench.last().slot, Some(Time("2024-05-02T19:00:00Z".parse().unwrap())));
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_step_ends_with_the_same_exports() {
    let days = ["2024-05-02T19:00:10Z", "2024-05-03T19:06:00Z", "2024-05-06T23:00:00Z"];
    let mut undisturbed = None;
    for crash_at in 0..30 {
        let mut bench = Bench::seen().await.incremental();
        let mut steps = 0;
        for day in days {
            bench.until(day).await;
            for _ in 0..12 {
                steps += 1;
                if steps == crash_at {
                    bench.crash().await;
                }
                bench.step().await;
                bench.wait(SignedDuration::from_secs(61)).await;
            }
        }
        let extents: Vec<_> = bench.started().iter().map(|request| (request.token.clone(), request.extent)).collect();
        assert_eq!(extents.len(), 5, "one full export, and periods of one and three days");
        assert_eq!(undisturbed.get_or_insert_with(|| extents.clone()), &extents, "crash at step {crash_at}");
    }
}

#[tokio::test(start_paused = true)]
async fn exports_missed_while_suspended_are_made_up_for_once() {
    let mut bench = Bench::seen().await;
    bench.system.spec.suspend = true;
    for _ in 0..5 {
        bench.wait(SignedDuration::from_hours(24)).await;
        bench.step().await;
    }
    assert_eq!((bench.ready().0, bench.ready().1), (ConditionStatus::Unknown, Reason::Suspended));
    assert_eq!((bench.started().len(), bench.writes), (0, 2), "first seen, and suspended");
    bench.system.spec.suspend = false;
    bench.converge().await;
    let slot = |bench: &Bench| bench.last().slot.clone().expect("a slot").0.to_string();
    assert_eq!((bench.started().len(), slot(&bench)), (1, "2024-05-06T19:00:00Z".to_owned()));
    bench.system.spec.management_policy = ManagementPolicy::Observe;
    bench.wait(SignedDuration::from_hours(48)).await;
    bench.converge().await;
    assert_eq!((bench.started().len(), bench.ready().1), (1, Reason::ObserveOnly));
}

#[tokio::test(start_paused = true)]
async fn an_export_waits_for_its_stack() {
    let mut bench = Bench::seen().await;
    bench.stored.conditions[1] = condition(ConditionType::StackReady, ConditionStatus::False);
    bench.until("2024-05-03T01:00:00Z").await;
    let writes = bench.writes;
    assert_eq!(bench.step().await, None);
    assert_eq!((bench.calls(), bench.writes), (vec![], writes));
    bench.stored.conditions[1] = condition(ConditionType::StackReady, ConditionStatus::True);
    bench.converge().await;
    assert_eq!((bench.started().len(), bench.ready().1), (1, Reason::ExportCompleted));
}

#[tokio::test(start_paused = true)]
async fn a_failed_export_is_a_condition_and_an_event_and_the_next_slot_retries() {
    let mut bench = Bench::seen().await;
    bench.world.change_exports(|exports| exports.end = Some(Err("S3NoSuchBucket: gone".to_owned())));
    bench.until("2024-05-02T19:00:10Z").await;
    bench.converge().await;
    let (on, reason, message) = bench.ready();
    assert_eq!((on, reason), (ConditionStatus::False, Reason::ExportFailed));
    assert!(message.starts_with("the export of 2024-05-03T04:00+09:00 failed: S3NoSuchBucket: gone"), "{message}");
    assert_eq!(bench.last().state, FAILED);
    assert!(
        status::is_true(&bench.stored, ConditionType::Ready) && !status::is_true(&bench.stored, ConditionType::Stalled)
    );
    assert_eq!(bench.published, [EventReason::ExportStarted, EventReason::ExportFailed]);
    assert!(EventReason::ExportFailed.is_warning());
    bench.world.change_exports(|exports| exports.end = Some(Ok(())));
    bench.until("2024-05-03T18:00:00Z").await;
    bench.converge().await;
    assert_eq!(bench.started().len(), 1);
    bench.until("2024-05-03T19:00:10Z").await;
    bench.step().await;
    assert_eq!(
        (bench.ready().0, bench.ready().1),
        (ConditionStatus::False, Reason::Exporting),
        "nothing has succeeded yet"
    );
    bench.converge().await;
    assert_eq!((bench.ready().0, bench.started().len()), (ConditionStatus::True, 2));
}

#[tokio::test(start_paused = true)]
async fn an_export_that_cannot_be_started_is_reported_once_and_retried_with_backoff() {
    let mut bench = Bench::seen().await;
    bench
        .world
        .change_exports(|exports| exports.refusal = Some((PortErrorKind::Denied, "AccessDenied: no".to_owned())));
    bench.until("2024-05-02T19:00:10Z").await;
    for _ in 0..180 {
        bench.step().await;
        bench.wait(SignedDuration::from_mins(1)).await;
    }
    let message = "the export of 2024-05-03T04:00+09:00 was not started: cannot start an export: AccessDenied: no";
    assert_eq!(bench.ready(), (ConditionStatus::False, Reason::ExportNotStarted, message));
    assert_eq!(
        (bench.calls().len(), bench.writes, bench.published.as_slice()),
        (10, 2, [EventReason::ExportFailed].as_slice())
    );
    bench.world.change_exports(|exports| exports.refusal = None);
    bench.wait(SignedDuration::from_mins(30)).await;
    bench.converge().await;
    assert_eq!((bench.ready().0, bench.started().len()), (ConditionStatus::True, 1));
}

#[tokio::test(start_paused = true)]
async fn a_period_that_dynamodb_rejects_becomes_a_full_export() {
    let mut bench = Bench::seen().await.incremental();
    bench.until("2024-05-02T19:00:10Z").await;
    bench.converge().await;
    bench.until("2024-05-03T19:05:10Z").await;
    let outside = "InvalidExportTimeException: outside of the window".to_owned();
    bench.world.change_exports(|exports| exports.refusal = Some((PortErrorKind::Invalid, outside)));
    for _ in 0..4 {
        bench.step().await;
        bench.wait(SignedDuration::from_mins(2)).await;
    }
    bench.world.change_exports(|exports| exports.refusal = None);
    bench.wait(SignedDuration::from_mins(4)).await;
    bench.converge().await;
    let extents: Vec<ExportExtent> = bench.started().iter().map(|request| request.extent).collect();
    assert_eq!(extents, [ExportExtent::Full, ExportExtent::Full]);
}

#[tokio::test(start_paused = true)]
async fn without_a_schedule_there_is_no_condition_and_a_running_export_is_still_polled() {
    let mut bench = Bench::seen().await;
    bench.until("2024-05-02T19:00:10Z").await;
    bench.step().await;
    bench.system.spec.export.schedule = None;
    bench.converge().await;
    assert_eq!(bench.last().state, COMPLETED);
    assert_eq!(bench.stored.export_schedule, None);
    assert!(bench.stored.conditions.iter().all(|c| c.type_ != ConditionType::ExportsReady));
    bench.wait(SignedDuration::from_hours(48)).await;
    bench.calls();
    assert_eq!((bench.step().await, bench.calls()), (None, vec![]));
}
