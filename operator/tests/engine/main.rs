//! The engine against an in-memory account: what it does, in which order, and what it does not change.
#![expect(clippy::expect_used, reason = "helpers of tests")]

mod data;
mod drift;
mod existence;
mod indexes;
mod names;
mod ownership;
mod plans;
mod replacement;
mod skip_resources;
mod values;

use std::sync::Arc;
use std::time::Duration;

use dispatch_api::conditions::ConditionType;
use dispatch_api::dispatch_system::{
    ApprovalPolicy, DeletionPolicy, DriftPolicy, FcmSpec, ManagementPolicy, SecretKeyRef,
};
use dispatch_api::validate::ValidatedSystem;
use secrecy::ExposeSecret as _;
use tokio::time::timeout;

use dispatch_operator::cloud::ChangeKind;
use dispatch_operator::cloud::ports::PortErrorKind;
use dispatch_operator::cloud::stack::StackState;
use dispatch_operator::engine::destroy::{DestroyError, destroy};
use dispatch_operator::engine::error::EngineError;
use dispatch_operator::engine::export;
use dispatch_operator::engine::plan::{Approval, StackStep};
use dispatch_operator::engine::preview::preview;
use dispatch_operator::engine::progress::{Event, Silent};
use dispatch_operator::engine::reconcile::{ReconcileReport, inspect, reconcile};
use dispatch_operator::engine::settings::{DriftDetection, RetryPolicy, Settings};
use dispatch_operator::engine::status::is_true;
use dispatch_operator::testing::{Fate, World, fcm_key, system};

const STACK: &str = "coactus-default-seoul";

async fn apply_with(world: &World, system: &ValidatedSystem, settings: &Settings) -> ReconcileReport {
    reconcile(system, &world.ports(), settings, &mut Silent).await.expect("no call fails")
}

async fn apply(world: &World, system: &ValidatedSystem) -> ReconcileReport {
    apply_with(world, system, &Settings::default()).await
}

async fn living() -> (World, ValidatedSystem) {
    let (world, system) = (World::default(), system());
    assert!(apply(&world, &system).await.is_ready());
    world.take_calls();
    (world, system)
}

fn reason(done: &ReconcileReport, kind: ConditionType) -> String {
    done.status.conditions.iter().find(|c| c.type_ == kind).map(|c| c.reason.clone()).unwrap_or_default()
}

fn message(done: &ReconcileReport, kind: ConditionType) -> String {
    done.status.conditions.iter().find(|c| c.type_ == kind).map(|c| c.message.clone()).unwrap_or_default()
}

fn longer(system: &ValidatedSystem) -> ValidatedSystem {
    let mut other = system.clone();
    other.spec.queues.offers.visibility_timeout_seconds = 30;
    "cache.r7g.large".clone_into(&mut other.spec.cache.node_type);
    other
}

fn with_other_table(system: &ValidatedSystem) -> ValidatedSystem {
    let mut other = system.clone();
    "another".clone_into(&mut other.names.table);
    other
}

#[tokio::test(start_paused = true)]
async fn a_new_system_is_created_and_ready() {
    let (world, system) = (World::default(), system());
    let mut reported = Vec::new();
    let mut listen = |event: Event| reported.push(event);
    let done = reconcile(&system, &world.ports(), &Settings::default(), &mut listen).await.expect("created");
    assert!(done.is_ready() && done.changed);
    assert_eq!(done.plan.stack, StackStep::Create);
    assert_eq!(world.stacks.state(STACK), Some(StackState::CreateComplete));
    assert_eq!(world.stacks.open_change_sets(), 0);
    assert!(reported.iter().any(|event| matches!(event, Event::Changes(list) if list.len() > 10)));
    let outputs = done.outputs.expect("outputs");
    assert_eq!(outputs.cache_url, format!("rediss://master.{STACK}.cache.example:6379"));
}

#[tokio::test(start_paused = true)]
async fn a_system_in_sync_costs_four_reads_and_no_write() {
    let (world, system) = living().await;
    let settings = Settings { drift: DriftDetection::Skip, ..Settings::default() };
    for _ in 0..3 {
        let done = apply_with(&world, &system, &settings).await;
        assert!(done.is_ready() && !done.changed);
        let (all, mutating) = world.take_calls();
        assert_eq!(all, ["describe", "table", "push_exists", "cache"]);
        assert!(mutating.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_goes_through_a_change_set() {
    let (world, system) = living().await;
    let other = longer(&system);
    let plan = preview(&other, &world.ports(), &Settings::default()).await.expect("a plan");
    let changed: Vec<_> = plan.changes.iter().map(|change| (change.kind, change.logical_id.as_str())).collect();
    assert_eq!(changed, [(ChangeKind::Change, "AppliedInput"), (ChangeKind::Change, "ReplicationGroup")]);
    assert_eq!(world.stacks.open_change_sets(), 0, "a preview leaves no change set");
    let done = apply(&world, &other).await;
    assert!(done.is_ready() && done.changed);
    assert_eq!(done.plan.id, plan.id, "the shown plan is the applied plan");
    assert_eq!(world.stacks.state(STACK), Some(StackState::UpdateComplete));
}

#[tokio::test(start_paused = true)]
async fn a_failed_creation_shows_the_first_cause_and_is_repeated_once() {
    let (world, system) = (World::default(), system());
    world.stacks.doom("Table", "Table already exists");
    let done = apply(&world, &system).await;
    assert!(is_true(&done.status, ConditionType::Stalled));
    let ready = done.status.conditions.iter().find(|c| c.type_ == "Ready").expect("Ready");
    assert_eq!((ready.reason.as_str(), ready.status.as_str()), ("CreateFailed", "False"));
    let first = "Table (AWS::DynamoDB::Table) CREATE_FAILED: Table already exists (stack coactus-default-seoul); \
                 action required:";
    assert!(ready.message.starts_with(first), "{}", ready.message);

    let refused =
        Settings { retry_policy: RetryPolicy::Refuse, previous: Some(done.status.clone()), ..Settings::default() };
    world.take_calls();
    let again = apply_with(&world, &system, &refused).await;
    assert!(is_true(&again.status, ConditionType::Stalled));
    assert!(world.take_calls().1.is_empty(), "a controller does not repeat what failed");

    let again = apply(&world, &system).await;
    assert!(again.is_ready());
    assert_eq!(again.plan.stack, StackStep::DeleteThenCreate);
    let (_, mutating) = world.take_calls();
    assert_eq!(mutating, ["delete", "create_change_set", "execute"]);
}

/// A rollback cannot delete a table with deletion protection. Its table is imported by the next creation, whether the
/// deletion policy retains it or not.
#[tokio::test(start_paused = true)]
async fn a_creation_whose_rollback_failed_is_repeated_on_request_and_keeps_its_table() {
    for policy in [DeletionPolicy::Retain, DeletionPolicy::Delete] {
        let (world, mut system) = (World::default(), system());
        system.deletion_policy = policy;
        apply(&world, &system).await;
        world.stacks.fail(STACK, "ROLLBACK_FAILED", &["Table"]);
        world.take_calls();

        let mut steps = Vec::new();
        let mut listen = |event: Event| steps.push(format!("{event:?}"));
        let first = reconcile(&system, &world.ports(), &Settings::default(), &mut listen).await.expect("repeated");
        let refused =
            Settings { retry_policy: RetryPolicy::Refuse, previous: Some(first.status.clone()), ..Settings::default() };
        assert!(first.is_ready(), "{policy:?}: {:?}", first.status);
        assert_eq!(first.plan.stack, StackStep::DeleteThenCreate);
        assert!(steps.iter().any(|step| step.contains("importing retained data")), "{policy:?}: {steps:?}");
        let deletions = world.take_calls().1.into_iter().filter(|call| *call == "delete").count();
        assert_eq!(deletions, if policy == DeletionPolicy::Retain { 1 } else { 2 }, "{policy:?}");

        world.stacks.fail(STACK, "ROLLBACK_FAILED", &["Table"]);
        let again = apply_with(&world, &system, &refused).await;
        assert_eq!(reason(&again, ConditionType::Stalled), "CreateFailed", "{policy:?}");
        assert!(world.take_calls().1.is_empty(), "{policy:?}: a controller does not repeat what failed");
    }
}

/// Something else than data cannot be deleted: nothing is skipped without a request.
#[tokio::test(start_paused = true)]
async fn a_failed_creation_that_cannot_be_deleted_is_left_to_a_person() {
    let (world, system) = living().await;
    world.stacks.fail(STACK, "ROLLBACK_FAILED", &["Table", "OffersQueue"]);
    let done = apply(&world, &system).await;
    assert_eq!(reason(&done, ConditionType::Stalled), "DeleteFailed");
    assert_eq!(world.take_calls().1, ["delete"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_update_is_rolled_back_reported_and_can_be_retried() {
    let (world, system) = living().await;
    world.stacks.doom("ReplicationGroup", "No capacity");
    let done = apply(&world, &longer(&system)).await;
    assert_eq!(reason(&done, ConditionType::Stalled), "UpdateRolledBack");
    assert!(done.outputs.is_some(), "the system still serves");
    assert!(apply(&world, &longer(&system)).await.is_ready());
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_rollback_is_continued_before_anything_else() {
    for (state, call) in [("UPDATE_ROLLBACK_FAILED", "continue_rollback"), ("UPDATE_FAILED", "roll_back")] {
        let (world, system) = living().await;
        world.stacks.force(STACK, state);
        let done = apply(&world, &system).await;
        assert!(done.is_ready(), "{state}: {:?}", done.status);
        assert_eq!(world.take_calls().1, [call]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_stack_proves_what_a_killed_run_submitted() {
    let (world, system) = (World::default(), system());
    world.judge(Arc::new(|call| if call == "execute" { Fate::Unanswered } else { Fate::Answered }));
    timeout(Duration::from_hours(1), apply(&world, &system)).await.expect_err("it never gets an answer");
    world.judge(Arc::new(|_| Fate::Answered));
    let done = apply(&world, &system).await;
    assert!(done.is_ready());
    let attempt = done.status.last_attempt.expect("an attempt");
    assert_eq!((Some(attempt.hash), attempt.generation), (done.status.applied_hash, 0));
    assert_eq!(world.ledger().get("change set executed"), Some(&1));
}

#[tokio::test(start_paused = true)]
async fn states_that_require_a_person_are_not_changed() {
    let alone = [("DELETE_FAILED", "True"), ("SOMETHING_NEW", "False")];
    for (state, stalled) in alone {
        let (world, system) = living().await;
        world.stacks.force(STACK, state);
        let done = apply(&world, &system).await;
        assert!(!done.is_ready());
        let reported = done.status.conditions.iter().find(|c| c.type_ == ConditionType::Stalled).expect("Stalled");
        assert_eq!(reported.status, stalled, "{state}");
        assert!(world.take_calls().1.is_empty(), "{state}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_operation_of_another_client_is_waited_for_with_a_time_limit() {
    let (world, system) = living().await;
    world.stacks.force(STACK, "UPDATE_IN_PROGRESS");
    let done = apply(&world, &system).await;
    assert_eq!(reason(&done, ConditionType::Reconciling), "StackBusy");
    let (all, mutating) = world.take_calls();
    assert!(mutating.is_empty());
    assert!(all.len() < 800, "an hour at growing intervals: {}", all.len());
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_endangers_data_waits_for_its_own_approval() {
    let (world, system) = living().await;
    let other = with_other_table(&system);
    let blocked = apply(&world, &other).await;
    assert_eq!(reason(&blocked, ConditionType::Stalled), "ApprovalRequired");
    assert!(is_true(&blocked.status, ConditionType::PlanPending));
    assert_eq!(world.stacks.open_change_sets(), 0);
    assert_eq!(world.stacks.state(STACK), Some(StackState::CreateComplete));

    let wrong = Settings { approval: Approval::Plan("000000000000".to_owned()), ..Settings::default() };
    assert!(!apply_with(&world, &other, &wrong).await.changed);
    let right = Settings { approval: Approval::Plan(blocked.plan.id), ..Settings::default() };
    assert!(apply_with(&world, &other, &right).await.is_ready());
}

#[tokio::test(start_paused = true)]
async fn with_always_the_creation_waits_for_the_approval_of_the_shown_plan() {
    let (world, mut system) = (World::default(), system());
    system.spec.approval_policy = ApprovalPolicy::Always;
    let shown = preview(&system, &world.ports(), &Settings::default()).await.expect("a plan");
    let blocked = apply(&world, &system).await;
    assert!(is_true(&blocked.status, ConditionType::PlanPending));
    let approved = Settings { approval: Approval::Plan(shown.id), ..Settings::default() };
    assert!(apply_with(&world, &system, &approved).await.is_ready());
}

#[tokio::test(start_paused = true)]
async fn observed_and_suspended_systems_are_never_written_to() {
    let (world, system) = living().await;
    world.disable_recovery();
    let mut observed = longer(&system);
    observed.spec.management_policy = ManagementPolicy::Observe;
    let mut suspended = longer(&system);
    suspended.spec.suspend = true;
    for system in [observed, suspended] {
        let done = apply(&world, &system).await;
        assert!(!done.is_ready() && done.outputs.is_some());
        preview(&system, &world.ports(), &Settings::default()).await.expect("a plan");
        assert!(world.take_calls().1.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn credentials_of_another_account_are_rejected_before_any_other_call() {
    let (world, mut system) = (World::default(), system());
    system.spec.aws.account_id = Some("123456789012".to_owned());
    let error = reconcile(&system, &world.ports(), &Settings::default(), &mut Silent).await.expect_err("refused");
    assert!(matches!(error, EngineError::WrongAccount { .. }));
    assert_eq!(world.take_calls().0, ["account"]);
}

/// A stack in another region or account would be a second one. Old API servers do not enforce immutable fields, and no
/// rule knows the account of a role.
#[tokio::test(start_paused = true)]
async fn a_system_never_moves_to_another_region_or_account() {
    let (world, system) = living().await;
    let status = apply(&world, &system).await.status;
    let mut elsewhere = status.clone();
    elsewhere.stack_arn = status.stack_arn.as_ref().map(|arn| arn.replace("000000000000", "123456789012"));
    let mut region = system.clone();
    region.spec.region = "ap-northeast-1".to_owned();
    world.take_calls();
    for (system, previous, field) in [(&region, &status, "spec.region"), (&system, &elsewhere, "spec.aws.roleArn")] {
        let settings = Settings { previous: Some(previous.clone()), ..Settings::default() };
        let error = reconcile(system, &world.ports(), &settings, &mut Silent).await.expect_err(field);
        assert!(error.to_string().starts_with(field), "{error}");
        inspect(system, &world.ports(), &settings).await.expect_err(field);
        preview(system, &world.ports(), &settings).await.expect_err(field);
    }
    assert!(world.take_calls().1.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_status_names_the_account_and_the_role_without_a_call() {
    let (world, mut system) = living().await;
    let skip = Settings { drift: DriftDetection::Skip, ..Settings::default() };
    let reported = |done: &ReconcileReport| {
        let found = done
            .status
            .conditions
            .iter()
            .find(|c| c.type_ == ConditionType::CredentialsValid)
            .expect("CredentialsValid");
        (found.status.clone(), found.message.clone())
    };
    let own = reported(&apply_with(&world, &system, &skip).await);
    assert_eq!(own, ("True".to_owned(), "account 000000000000, the operator's own identity".to_owned()));
    system.spec.aws.role_arn = Some("arn:aws:iam::000000000000:role/coactus-city".to_owned());
    let role = reported(&apply_with(&world, &system, &skip).await);
    assert_eq!(role.1, "account 000000000000, role arn:aws:iam::000000000000:role/coactus-city");
    assert_eq!(world.take_calls().0.len(), 8, "four reads each");
}

#[tokio::test(start_paused = true)]
async fn drift_is_corrected_or_reported_by_drift_policy() {
    let (world, mut system) = living().await;
    world.disable_recovery();
    world.change_visibility(1);
    system.spec.drift_policy = DriftPolicy::ReportOnly;
    let reported = apply(&world, &system).await;
    assert!(reported.is_ready() && is_true(&reported.status, ConditionType::Drifted));
    assert!(world.take_calls().1.is_empty());
    assert!(is_true(
        &inspect(&system, &world.ports(), &Settings::default()).await.expect("a status").status,
        ConditionType::Drifted
    ));

    system.spec.drift_policy = DriftPolicy::Correct;
    let corrected = apply(&world, &system).await;
    assert!(corrected.is_ready() && corrected.changed && !is_true(&corrected.status, ConditionType::Drifted));
    let (_, mutating) = world.take_calls();
    assert_eq!(mutating, ["enable_recovery", "correct_queue", "correct_queue", "correct_queue"]);
    assert!(!apply(&world, &system).await.changed);
}

#[tokio::test(start_paused = true)]
async fn the_push_credential_is_created_rotated_and_removed() {
    let (world, plain) = living().await;
    let mut system = plain.clone();
    let reference = SecretKeyRef { name: "fcm".to_owned(), key: "key".to_owned() };
    system.spec.notifications.fcm = Some(FcmSpec { service_account_secret_ref: reference });
    let mut settings = Settings::default();
    settings.secrets.insert("fcm", "key", fcm_key());
    let done = apply_with(&world, &system, &settings).await;
    assert!(done.outputs.expect("outputs").platform_application_arn.is_some());
    assert!(!apply_with(&world, &system, &settings).await.changed);
    let status =
        format!("{:?}", inspect(&system, &world.ports(), &Settings::default()).await.expect("no secret needed"));
    assert!(!status.contains("PRIVATE KEY"));

    let rotated = fcm_key().expose_secret().replace("not a key", "another key");
    settings.secrets.insert("fcm", "key", rotated.clone().into());
    assert!(apply_with(&world, &system, &settings).await.changed);
    assert_eq!(world.push_credential(), Some(rotated));
    assert!(!apply_with(&world, &system, &settings).await.changed);

    let gone = apply(&world, &plain).await;
    assert!(gone.outputs.expect("outputs").platform_application_arn.is_none());
    assert_eq!(world.push_credential(), None);
}

#[tokio::test(start_paused = true)]
async fn a_failed_call_is_reported_with_its_kind_and_the_next_run_continues() {
    let (world, system) = (World::default(), system());
    for (call, kind) in [
        ("describe", PortErrorKind::Throttled),
        ("create_change_set", PortErrorKind::Denied),
        ("change_set", PortErrorKind::Unavailable),
        ("execute", PortErrorKind::Unavailable),
        ("events_since", PortErrorKind::Throttled),
    ] {
        world.stacks.break_call(call, Some(kind));
        let error = reconcile(&system, &world.ports(), &Settings::default(), &mut Silent).await.expect_err(call);
        assert!(error.is_transient(), "{call}: {error}");
        world.stacks.break_call(call, None);
    }
    let done = apply(&world, &system).await;
    assert!(done.is_ready());
    assert_eq!(world.stacks.open_change_sets(), 0);
}

#[tokio::test(start_paused = true)]
async fn destroying_retains_data_by_default_and_is_idempotent() {
    let (world, system) = living().await;
    let ports = world.ports();
    let gone = destroy(&system, &ports, &Settings::default(), &mut Silent).await.expect("destroyed");
    assert!(gone.kept.iter().any(|(kind, _)| kind == "AWS::DynamoDB::Table"), "{:?}", gone.kept);
    assert_eq!(world.stacks.state(STACK), Some(StackState::DeleteComplete));
    let nothing = destroy(&system, &ports, &Settings::default(), &mut Silent).await.expect("nothing to do");
    assert!(!nothing.changed);

    let (world, mut system) = living().await;
    world.change_table(|table| table.deletion_protection = false);
    system.deletion_policy = DeletionPolicy::Delete;
    let gone = destroy(&system, &world.ports(), &Settings::default(), &mut Silent).await.expect("destroyed");
    assert!(gone.kept.is_empty());
    let (_, mutating) = world.take_calls();
    assert_eq!(mutating, ["create_change_set", "execute", "delete", "remove_versions"], "protection first");
}

#[tokio::test(start_paused = true)]
async fn a_failed_deletion_names_the_resource() {
    let (world, mut system) = living().await;
    world.stacks.doom("ExportBucket", "The bucket you tried to delete is not empty");
    let error = destroy(&system, &world.ports(), &Settings::default(), &mut Silent).await.expect_err("not empty");
    assert!(matches!(error, DestroyError::Failed { .. }));
    assert!(error.to_string().contains("ExportBucket"), "{error}");
    system.spec.management_policy = ManagementPolicy::Observe;
    let error = destroy(&system, &world.ports(), &Settings::default(), &mut Silent).await.expect_err("observed");
    assert!(matches!(error, DestroyError::ObserveOnly));
}

#[tokio::test(start_paused = true)]
async fn an_export_is_started_once_followed_and_found_again() {
    let (world, system) = living().await;
    let ports = world.ports();
    let first = export::start(&system, &ports, &mut Silent).await.expect("started");
    let second = export::start(&system, &ports, &mut Silent).await.expect("the same");
    assert_eq!(first.export_arn, second.export_arn);
    let done = export::follow(first, &ports, Settings::default().wait_policy, &mut Silent).await.expect("followed");
    assert_eq!((done.state.as_str(), done.item_count), ("COMPLETED", Some(3)));
    assert_eq!(export::last(&system, &ports).await.expect("listed"), Some(done));
}
