//! A resource that failed is skipped only when the caller names it.

use super::*;

fn naming(ids: &[&str]) -> Settings {
    Settings { skip: ids.iter().map(|id| (*id).to_owned()).collect(), ..Settings::default() }
}

#[tokio::test(start_paused = true)]
async fn a_rollback_skips_the_named_resource_and_the_status_records_it() {
    let (world, system) = living().await;
    world.stacks.fail(STACK, "UPDATE_ROLLBACK_FAILED", &["OffersQueue"]);
    let stuck = apply(&world, &system).await;
    assert_eq!(reason(&stuck, ConditionType::Stalled), "UpdateRollbackFailed");
    assert!(
        message(&stuck, ConditionType::Stalled).contains("dispatch.coactus.io/skip-resources"),
        "{}",
        message(&stuck, ConditionType::Stalled)
    );
    assert!(message(&stuck, ConditionType::Stalled).contains("(--skip-resource): OffersQueue;"));

    let mut reported = Vec::new();
    let mut listen = |event: Event| reported.push(event);
    let done = reconcile(&system, &world.ports(), &naming(&["OffersQueue"]), &mut listen).await.expect("continued");
    assert!(done.is_ready(), "{:?}", done.status);
    assert_eq!(done.status.skipped_resources, ["OffersQueue"]);
    assert!(reported.iter().any(|event| matches!(event, Event::ResourcesSkipped(_, ids) if ids == &["OffersQueue"])));
    let later = Settings { previous: Some(done.status), ..Settings::default() };
    assert_eq!(apply_with(&world, &system, &later).await.status.skipped_resources, ["OffersQueue"]);
}

#[tokio::test(start_paused = true)]
async fn resources_that_did_not_fail_are_not_skipped_in_a_rollback() {
    let (world, system) = living().await;
    world.stacks.fail(STACK, "UPDATE_ROLLBACK_FAILED", &["OffersQueue"]);
    let refused = apply_with(&world, &system, &naming(&["OffersQueue", "Table"])).await;
    assert_eq!(reason(&refused, ConditionType::Stalled), "SkipRefused");
    assert!(message(&refused, ConditionType::Stalled).contains("names Table, which is in CREATE_COMPLETE"));
    assert!(world.take_calls().1.is_empty());
}

#[tokio::test(start_paused = true)]
async fn resources_to_skip_are_ignored_while_nothing_has_failed() {
    let (world, system) = living().await;
    let done = apply_with(&world, &longer(&system), &naming(&["Table"])).await;
    assert!(done.is_ready() && done.status.skipped_resources.is_empty());
    let gone = destroy(&system, &world.ports(), &naming(&["OffersQueue"]), &mut Silent).await.expect("destroyed");
    assert!(gone.kept.iter().all(|(kind, _)| kind != "AWS::SQS::Queue"));
}

#[tokio::test(start_paused = true)]
async fn a_failed_deletion_skips_the_named_resource_and_reports_it_as_retained() {
    let (world, system) = living().await;
    world.stacks.fail(STACK, "DELETE_FAILED", &["OffersQueue", "Topic"]);
    let error = destroy(&system, &world.ports(), &Settings::default(), &mut Silent).await.expect_err("still failing");
    assert!(error.to_string().ends_with("OffersQueue, Topic"), "{error}");
    let error = destroy(&system, &world.ports(), &naming(&["Table"]), &mut Silent).await.expect_err("it did not fail");
    assert!(matches!(error, DestroyError::SkipRefused(_)), "{error}");
    let both = naming(&["Topic", "OffersQueue"]);
    let gone = destroy(&system, &world.ports(), &both, &mut Silent).await.expect("destroyed");
    assert!(gone.kept.iter().any(|(_, id)| id == "OffersQueue"), "{:?}", gone.kept);
    assert_eq!(world.stacks.state(STACK), Some(StackState::DeleteComplete));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_with_data_never_skips_data() {
    let (world, mut system) = living().await;
    system.deletion_policy = DeletionPolicy::Delete;
    world.stacks.fail(STACK, "DELETE_FAILED", &["ExportBucket"]);
    let error = destroy(&system, &world.ports(), &naming(&["ExportBucket"]), &mut Silent).await.expect_err("refused");
    assert!(error.to_string().contains("deletionPolicy: Retain"), "{error}");
}
