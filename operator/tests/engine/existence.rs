//! Resources of the stack that were deleted outside the engine are found, named, and created again where they can be.
//! A plan says the same as an apply.

use dispatch_api::conditions::Reason;
use dispatch_api::dispatch_system::DispatchSystemStatus;

use super::*;
use dispatch_operator::engine::plan::Plan;
use dispatch_operator::engine::plan::ownership::SYSTEM_TAG;
use dispatch_operator::engine::plan::table_names::TableNames;
use dispatch_operator::engine::settings::{ExistenceCheck, Mode};
use dispatch_operator::testing::{BUCKET, CACHE, QUEUE, TABLE};

const BUCKET_NAME: &str = "coactus-default-seoul-exports-000000000000";

async fn planned(world: &World, system: &ValidatedSystem) -> Plan {
    preview(system, &world.ports(), &Settings::default()).await.expect("a plan")
}

/// The status of a run that changes nothing.
async fn seen(world: &World, system: &ValidatedSystem) -> ReconcileReport {
    inspect(system, &world.ports(), &Settings::default()).await.expect("a status")
}

fn drifted(done: &ReconcileReport) -> (String, String, String) {
    let found = done.status.conditions.iter().find(|c| c.type_ == ConditionType::Drifted).expect("Drifted");
    (found.status.clone(), found.reason.clone(), found.message.clone())
}

/// Deletes everything that can be created again.
fn delete_messaging(world: &World) -> [&'static str; 6] {
    world.delete_queues();
    world.delete(QUEUE, "coactus-default-seoul-offers-dlq");
    world.delete_topic("coactus-default-seoul-notifications");
    ["OffersQueueDeadLetters", "OffersQueue", "ResponsesQueue", "NotificationsQueue", "Topic", "TopicSubscription"]
}

#[tokio::test(start_paused = true)]
async fn deleted_queues_topics_and_subscriptions_are_created_again() {
    let (world, system) = living().await;
    let ids = delete_messaging(&world);
    let plan = planned(&world, &system).await;
    assert_eq!(plan.blockage, None, "an apply creates them again");
    let before = seen(&world, &system).await;
    assert_eq!(reason(&before, ConditionType::Stalled), Reason::ResourceGone);
    for id in ids {
        assert!(plan.parts.iter().any(|step| step.to_string().starts_with(&format!("create {id} (AWS::"))), "{id}");
        let text = message(&before, ConditionType::Stalled);
        assert!(text.contains(&format!("{id} (AWS::")) && text.contains("the next apply creates it again"), "{text}");
    }
    assert!(world.take_calls().1.is_empty());

    let done = apply(&world, &system).await;
    assert!(done.is_ready() && done.changed, "{:#?}", done.status);
    let queues = ["create_queue"; 4];
    assert_eq!(world.take_calls().1, [&queues[..], &["create_topic", "subscribe"]].concat());
    assert_eq!(world.deleted(), Vec::<String>::new());
    let (status, why, text) = drifted(&done);
    assert_eq!((status.as_str(), why.as_str()), ("False", "DriftCorrected"));
    let url = "http://sqs.example/000000000000/coactus-default-seoul-offers";
    assert!(text.contains(&format!("OffersQueue (AWS::SQS::Queue {url}): deleted outside the operator")), "{text}");
    assert!(!apply(&world, &system).await.changed);
    assert!(planned(&world, &system).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn with_report_only_nothing_is_created_and_the_advice_works() {
    let (world, mut system) = living().await;
    system.spec.drift_policy = DriftPolicy::ReportOnly;
    world.unsubscribe("coactus-default-seoul-notifications");
    let done = apply(&world, &system).await;
    assert_eq!(reason(&done, ConditionType::Stalled), Reason::ResourceGone);
    assert_eq!(drifted(&done).0, "True");
    let text = message(&done, ConditionType::Stalled);
    assert!(text.starts_with("TopicSubscription (AWS::SNS::Subscription "), "{text}");
    assert!(text.contains("is gone: set driftPolicy to Correct to have it created again"), "{text}");
    assert_eq!(planned(&world, &system).await.blockage.map(|found| found.reason), Some(Reason::ResourceGone));
    assert!(world.take_calls().1.is_empty());
    system.spec.drift_policy = DriftPolicy::Correct;
    assert!(apply(&world, &system).await.is_ready());
    assert_eq!(world.take_calls().1, ["subscribe"]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_created_again_is_named_and_blocks_apply_plan_and_status_alike() {
    type Delete = fn(&World);
    let deletions: [(&str, &str, Delete); 6] = [
        ("Table (AWS::DynamoDB::Table coactus-default-seoul)", "restore it from a backup", |world| {
            world.delete(TABLE, STACK);
        }),
        ("LeaseTable (AWS::DynamoDB::Table coactus-default-seoul-leases)", "deletionPolicy: Retain", |world| {
            world.delete(TABLE, "coactus-default-seoul-leases");
        }),
        (
            "ExportBucket (AWS::S3::Bucket coactus-default-seoul-exports-000000000000)",
            "deletionPolicy: Retain",
            |world| world.delete(BUCKET, BUCKET_NAME),
        ),
        (
            "ReplicationGroup (AWS::ElastiCache::ReplicationGroup coactus-default-seoul)",
            "create it again under the same id",
            |world| world.delete(CACHE, STACK),
        ),
        ("StatusUpdateRole (AWS::IAM::Role statusupdaterole)", "deletionPolicy: Retain", |world| {
            world.stacks.delete_resource("StatusUpdateRole");
        }),
        ("OffersQueueAgeAlarm (AWS::CloudWatch::Alarm offersqueueagealarm)", "deletionPolicy: Retain", |world| {
            world.stacks.delete_resource("OffersQueueAgeAlarm");
        }),
    ];
    for (name, advice, delete) in deletions {
        let (world, system) = living().await;
        delete(&world);
        let done = apply(&world, &system).await;
        assert_eq!(reason(&done, ConditionType::Stalled), Reason::ResourceGone, "{name}");
        let text = message(&done, ConditionType::Stalled);
        assert!(text.starts_with(&format!("{name} is gone: ")) && text.contains(advice), "{text}");
        assert!(text.matches(name).count() == 1, "it is said once: {text}");
        let plan = planned(&world, &system).await;
        let blockage = plan.blockage.clone().expect("blocked");
        assert_eq!(blockage.reason, Reason::ResourceGone);
        assert!(text.starts_with(&blockage.message), "{text}\n{}", blockage.message);
        assert_eq!(message(&seen(&world, &system).await, ConditionType::Stalled), text);
        assert!(world.take_calls().1.is_empty(), "{name}");
        // Between two checks it stays found.
        let skip = Settings {
            drift: DriftDetection::Skip,
            existence: ExistenceCheck::Rotation,
            previous: Some(done.status),
            ..Settings::default()
        };
        assert_eq!(message(&apply_with(&world, &system, &skip).await, ConditionType::Stalled), text);
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_cache_is_gone_and_not_waited_for() {
    let (world, system) = living().await;
    world.delete(CACHE, STACK);
    let skip = Settings { drift: DriftDetection::Skip, ..Settings::default() };
    let done = apply_with(&world, &system, &skip).await;
    assert_eq!(reason(&done, ConditionType::Stalled), Reason::ResourceGone, "every run reads the cache");
    assert_eq!(reason(&done, ConditionType::Reconciling), Reason::ResourceGone);
    assert!(!message(&done, ConditionType::Ready).contains("retry"));
    assert_eq!(world.take_calls().0.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_denied_check_is_neither_gone_nor_in_sync() {
    let (world, system) = living().await;
    world.deny(BUCKET, BUCKET_NAME);
    world.deny(QUEUE, "coactus-default-seoul-responses-dlq");
    let done = apply(&world, &system).await;
    assert!(done.is_ready() && !done.changed);
    let (status, why, text) = drifted(&done);
    assert_eq!((status.as_str(), why.as_str()), ("Unknown", "AwsAccessDenied"));
    let denied = "not checked because AWS denies the access: ExportBucket (AWS::S3::Bucket ";
    assert!(text.contains(denied) && text.contains("ResponsesQueueDeadLetters (AWS::SQS::Queue "), "{text}");
    assert!(planned(&world, &system).await.existence.to_string().contains(denied));

    for (call, words) in [
        ("resource_state", "denies the access: CombinedRole (AWS::IAM::Role "),
        ("resources", "the stack's resources were not checked, because AWS denies their listing"),
    ] {
        let (world, system) = living().await;
        world.stacks.break_call(call, Some(PortErrorKind::Denied));
        let (status, why, text) = drifted(&apply(&world, &system).await);
        assert_eq!((status.as_str(), why.as_str()), ("Unknown", "AwsAccessDenied"), "{call}");
        assert!(text.contains(words), "{text}");
    }
    // CloudFormation has no drift detection for the type.
    let (world, system) = living().await;
    world.stacks.break_call("resource_state", Some(PortErrorKind::Invalid));
    let (status, _, text) = drifted(&apply(&world, &system).await);
    assert_eq!(status, "False");
    assert!(text.contains("were not checked, because CloudFormation cannot detect whether they exist"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_check_of_a_system_in_sync_is_bounded_and_its_status_does_not_change() {
    let (world, system) = living().await;
    let settings = Settings { existence: ExistenceCheck::Rotation, ..Settings::default() };
    let mut statuses: Vec<DispatchSystemStatus> = Vec::new();
    for drift in [DriftDetection::Look, DriftDetection::Look, DriftDetection::Skip] {
        let settings = Settings { drift, previous: statuses.last().cloned(), ..settings.clone() };
        let done = apply_with(&world, &system, &settings).await;
        assert!(done.is_ready() && !done.changed);
        let (all, mutating) = world.take_calls();
        let existence = ["resources", "resource_state", "topic", "bucket_tags"];
        let checks = all.iter().filter(|call| existence.contains(call)).count();
        println!("{drift:?}: {} calls, {checks} of them only for the existence of resources: {all:?}", all.len());
        assert!(mutating.is_empty());
        assert!(all.len() <= if drift == DriftDetection::Skip { 4 } else { 26 }, "{all:?}");
        statuses.push(done.status);
    }
    assert_eq!(statuses[0].conditions, statuses[1].conditions);
    let text = message(&apply_with(&world, &system, &settings).await, ConditionType::Drifted);
    assert!(text.contains("others are checked in rotation"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_plan_is_blocked_by_what_refuses_an_apply() {
    type Prepare = fn(&World, &mut ValidatedSystem, &mut Settings);
    let cases: [(Reason, Prepare); 6] = [
        (Reason::OwnedByAnother, |world, _, _| world.keep_data("default/busan")),
        (Reason::NotAdoptable, |world, _, _| {
            world.keep_data("default/seoul");
            world.change_table(|table| {
                table.keys.insert(String::new(), vec!["id".to_owned()]);
            });
        }),
        (Reason::TableNameNotAllowed, |_, system, settings| {
            system.spec.table.name = Some("rides".to_owned());
            "rides".clone_into(&mut system.names.table);
            settings.table_names = TableNames::Only(std::collections::BTreeSet::new());
        }),
        (Reason::DeleteFailed, |world, _, _| world.stacks.force(STACK, "DELETE_FAILED")),
        (Reason::UnknownStackState, |world, _, _| world.stacks.force(STACK, "SOMETHING_NEW")),
        (Reason::ChangeSetFailed, |world, system, _| {
            world.stacks.refuse_change_sets("Template error: no such attribute");
            "cache.r7g.large".clone_into(&mut system.spec.cache.node_type);
        }),
    ];
    for (expected, prepare) in cases {
        let (mut world, mut system) = living().await;
        let is_new = [Reason::OwnedByAnother, Reason::NotAdoptable, Reason::TableNameNotAllowed].contains(&expected);
        if is_new {
            world = World::default();
        }
        let mut settings = Settings::default();
        prepare(&world, &mut system, &mut settings);
        world.take_calls();
        let plan = preview(&system, &world.ports(), &settings).await.expect("a plan");
        let blockage = plan.blockage.expect("blocked");
        assert_eq!(blockage.reason, expected);
        let made = ["create_change_set", "discard"];
        assert!(world.take_calls().1.iter().all(|call| made.contains(call)), "{expected}");
        let dry = Settings { mode: Mode::DryRun, ..settings.clone() };
        let applied = apply_with(&world, &system, &settings).await;
        for done in [applied, apply_with(&world, &system, &dry).await] {
            assert!(!done.is_ready());
            assert_eq!(reason(&done, ConditionType::Ready), expected);
            let text = message(&done, ConditionType::Ready);
            assert!(text.starts_with(&blockage.message), "{expected}: {text}\n{}", blockage.message);
        }
    }
    let (world, system) = living().await;
    world.stacks.retag(STACK, &[(SYSTEM_TAG, "default/busan")]);
    assert_eq!(planned(&world, &system).await.blockage.map(|found| found.reason), Some(Reason::OwnedByAnother));
}

#[tokio::test(start_paused = true)]
async fn a_blocked_plan_still_lists_its_changes() {
    let (world, system) = living().await;
    world.delete(BUCKET, BUCKET_NAME);
    let plan = planned(&world, &longer(&system)).await;
    assert!(plan.changes.iter().any(|change| change.logical_id == "ReplicationGroup"));
    assert_eq!(plan.blockage.map(|found| found.reason), Some(Reason::ResourceGone));
}

#[tokio::test(start_paused = true)]
async fn a_plan_shows_the_tags_that_an_apply_corrects() {
    let (world, mut system) = (World::default(), system());
    system.spec.aws.tags = [("team".to_owned(), "rides".to_owned())].into();
    assert!(apply(&world, &system).await.is_ready());
    let mut tags = world.stacks.tags(STACK);
    tags.remove("team");
    let tampered: Vec<_> = tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    world.stacks.retag(STACK, &tampered);
    let plan = planned(&world, &system).await;
    let steps: Vec<String> = plan.parts.iter().map(ToString::to_string).collect();
    assert_eq!(steps, ["correct tag team: absent instead of rides"]);
    assert!(!plan.is_empty());
}
