//! Changes made outside the engine are reported field by field, and corrected where `driftPolicy` says so.

use dispatch_api::dispatch_system::BillingMode;

use super::*;

fn tamper(world: &World) {
    world.disable_recovery();
    world.disable_expiry();
    world.change_visibility(45);
    world.change_table(|table| {
        table.deletion_protection = false;
        table.billing = BillingMode::Provisioned;
        table.stream_view = None;
        table.stream_arn = None;
    });
}

const REPORTED: [&str; 8] = [
    "table.deletionProtection: false instead of true",
    "table's stream: off instead of NEW_AND_OLD_IMAGES",
    "table.billing.mode: Provisioned instead of OnDemand",
    "table's time to live: off instead of expiresAt",
    "table.pointInTimeRecovery: false instead of true",
    "queues.offers.visibilityTimeoutSeconds: 45 instead of 30",
    "queues.responses.visibilityTimeoutSeconds: 45 instead of 30",
    "queues.notifications.visibilityTimeoutSeconds: 45 instead of 30",
];

#[tokio::test(start_paused = true)]
async fn every_changed_field_is_reported_and_corrected() {
    let (world, mut system) = living().await;
    tamper(&world);
    system.spec.drift_policy = DriftPolicy::ReportOnly;
    let reported = apply(&world, &system).await;
    assert!(is_true(&reported.status, ConditionType::Drifted));
    assert_eq!(message(&reported, ConditionType::Drifted).split("; ").collect::<Vec<_>>(), REPORTED);
    assert!(world.take_calls().1.is_empty());

    system.spec.drift_policy = DriftPolicy::Correct;
    let corrected = apply(&world, &system).await;
    assert!(corrected.is_ready() && corrected.changed);
    assert_eq!(reason(&corrected, ConditionType::Drifted), "DriftCorrected");
    assert_eq!(message(&corrected, ConditionType::Drifted).split("; ").collect::<Vec<_>>(), REPORTED);
    let (_, mutating) = world.take_calls();
    assert_eq!(mutating, ["correct_table", "enable_recovery", "correct_queue", "correct_queue", "correct_queue"]);
    let again = apply(&world, &system).await;
    assert!(!again.changed && !is_true(&again.status, ConditionType::Drifted));
}

#[tokio::test(start_paused = true)]
async fn a_tag_removed_by_hand_is_reported_and_restored() {
    let (world, mut system) = (World::default(), system());
    system.spec.aws.tags = [("team".to_owned(), "rides".to_owned()), ("cost".to_owned(), "7".to_owned())].into();
    assert!(apply(&world, &system).await.is_ready());
    let mut tags = world.stacks.tags(STACK);
    tags.remove("team");
    tags.insert("cost".to_owned(), "8".to_owned());
    tags.insert("organisation".to_owned(), "added".to_owned());
    let tampered: Vec<_> = tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    world.stacks.retag(STACK, &tampered);
    world.take_calls();

    let skip = Settings { drift: DriftDetection::Skip, ..Settings::default() };
    system.spec.drift_policy = DriftPolicy::ReportOnly;
    let reported = apply_with(&world, &system, &skip).await;
    assert!(reported.is_ready() && is_true(&reported.status, ConditionType::Drifted));
    let differences = "tag cost: 8 instead of 7; tag team: absent instead of rides";
    assert_eq!(message(&reported, ConditionType::Drifted), differences);
    let (all, mutating) = world.take_calls();
    assert_eq!((all.len(), mutating.len()), (4, 0), "the stack is described with its tags");
    let seen = inspect(&system, &world.ports(), &skip).await.expect("a status");
    assert!(seen.is_ready() && is_true(&seen.status, ConditionType::Drifted));

    system.spec.drift_policy = DriftPolicy::Correct;
    let corrected = apply_with(&world, &system, &skip).await;
    assert!(corrected.is_ready() && corrected.changed);
    assert_eq!(
        (reason(&corrected, ConditionType::Drifted).as_str(), message(&corrected, ConditionType::Drifted).as_str()),
        ("DriftCorrected", differences)
    );
    assert_eq!(world.stacks.tags(STACK).get("team").map(String::as_str), Some("rides"));
    assert!(!apply_with(&world, &system, &skip).await.changed);
}

#[tokio::test(start_paused = true)]
async fn tags_added_to_the_stack_are_not_drift() {
    let (world, system) = living().await;
    let mut tags = world.stacks.tags(STACK);
    tags.insert("organisation".to_owned(), "added".to_owned());
    let more: Vec<_> = tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    world.stacks.retag(STACK, &more);
    let done = apply(&world, &system).await;
    assert!(done.is_ready() && !done.changed && !is_true(&done.status, ConditionType::Drifted));
}

#[tokio::test(start_paused = true)]
async fn workers_read_the_current_stream_of_the_table() {
    let (world, system) = living().await;
    tamper(&world);
    let done = apply(&world, &system).await;
    assert!(done.outputs.is_some_and(|outputs| outputs.stream_arn.ends_with("/stream/2")));
    let skip = Settings { drift: DriftDetection::Skip, ..Settings::default() };
    let later = apply_with(&world, &system, &skip).await;
    assert!(later.outputs.is_some_and(|outputs| outputs.stream_arn.ends_with("/stream/2")));
}

#[tokio::test(start_paused = true)]
async fn drift_stays_reported_between_drift_detections() {
    let (world, mut system) = living().await;
    world.change_visibility(45);
    system.spec.drift_policy = DriftPolicy::ReportOnly;
    let reported = apply(&world, &system).await;
    let skip = Settings { drift: DriftDetection::Skip, previous: Some(reported.status.clone()), ..Settings::default() };
    let later = apply_with(&world, &system, &skip).await;
    assert_eq!(later.status, reported.status);
}
