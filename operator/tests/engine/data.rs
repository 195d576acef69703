//! Data outlives its stack, is imported by the next one, and is deleted only on request.

use dispatch_api::conditions::Reason;

use super::*;
use dispatch_operator::engine::plan::ownership::Adoption;

#[tokio::test(start_paused = true)]
async fn a_new_stack_imports_the_retained_table_and_bucket() {
    let (world, system) = (World::default(), system());
    world.keep_data("default/seoul");
    let done = apply(&world, &system).await;
    assert!(done.is_ready(), "{:?}", done.status);
    assert!(world.stacks.imported());
    let template = world.stacks.template(STACK);
    for id in ["Table", "ExportBucket"] {
        assert_eq!(template["Resources"][id]["DeletionPolicy"], "Retain", "a failed creation leaves it in place");
    }
    assert!(template["Resources"]["ExportBucket"]["Properties"]["BucketName"].is_string(), "literal names only");
    assert!(!apply(&world, &system).await.changed);
}

#[tokio::test(start_paused = true)]
async fn imported_data_gets_the_policy_delete_in_a_second_update() {
    let (world, mut system) = (World::default(), system());
    system.deletion_policy = DeletionPolicy::Delete;
    world.keep_data("default/seoul");
    assert!(apply(&world, &system).await.is_ready());
    let (_, mutating) = world.take_calls();
    assert_eq!(mutating, ["create_change_set", "execute", "create_change_set", "execute"]);
    assert_eq!(world.stacks.template(STACK)["Resources"]["Table"]["DeletionPolicy"], "Delete");
    assert!(!apply(&world, &system).await.changed);
}

#[tokio::test(start_paused = true)]
async fn retained_data_of_another_owner_is_imported_only_when_adopted() {
    let (world, system) = (World::default(), system());
    world.keep_data("default/busan");
    let refused = apply(&world, &system).await;
    assert_eq!(reason(&refused, ConditionType::Stalled), Reason::OwnedByAnother);
    assert!(world.take_calls().1.is_empty());
    let adopt = Settings { adoption: Adoption::Take, ..Settings::default() };
    assert!(apply_with(&world, &system, &adopt).await.is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_retained_table_with_other_keys_is_never_imported() {
    let (world, system) = (World::default(), system());
    world.keep_data("default/seoul");
    world.change_table(|table| drop(table.keys.insert("GSI1".to_owned(), vec!["id".to_owned()])));
    let adopt = Settings { adoption: Adoption::Take, ..Settings::default() };
    let refused = apply_with(&world, &system, &adopt).await;
    assert_eq!(reason(&refused, ConditionType::Stalled), Reason::NotAdoptable);
    assert!(world.take_calls().1.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_deletion_with_data_disables_deletion_protection_and_empties_the_bucket() {
    let (world, mut system) = living().await;
    system.deletion_policy = DeletionPolicy::Delete;
    world.put_objects(2500);
    let gone = destroy(&system, &world.ports(), &Settings::default(), &mut Silent).await.expect("destroyed");
    assert_eq!(gone.kept, []);
    let (_, mutating) = world.take_calls();
    let of = |name: &str| mutating.iter().filter(|call| **call == name).count();
    assert_eq!((of("correct_table"), of("remove_versions"), of("delete")), (1, 3, 1), "{mutating:?}");
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_retains_data_changes_neither_table_nor_bucket() {
    let (world, system) = living().await;
    world.put_objects(5);
    destroy(&system, &world.ports(), &Settings::default(), &mut Silent).await.expect("destroyed");
    assert_eq!(world.take_calls().1, ["delete"]);
}

#[tokio::test(start_paused = true)]
async fn untagged_data_is_tagged_before_its_stack_is_deleted_and_imported_again() {
    let (world, system) = living().await;
    world.untag_data();
    destroy(&system, &world.ports(), &Settings::default(), &mut Silent).await.expect("destroyed");
    let (all, _) = world.take_calls();
    assert!(all.contains(&"tag_bucket"), "{all:?}");
    assert!(apply(&world, &system).await.is_ready());
    assert!(world.stacks.imported());
}

#[tokio::test(start_paused = true)]
async fn a_bucket_too_large_for_one_run_is_reported_and_the_stack_stays() {
    let (world, mut system) = living().await;
    system.deletion_policy = DeletionPolicy::Delete;
    world.put_objects(1_000_001);
    let error = destroy(&system, &world.ports(), &Settings::default(), &mut Silent).await.expect_err("too many");
    assert!(matches!(error, DestroyError::BucketNotEmpty { removed: 1_000_000, .. }), "{error}");
    assert!(!world.take_calls().1.contains(&"delete"));
    destroy(&system, &world.ports(), &Settings::default(), &mut Silent).await.expect("the rest");
}

#[tokio::test(start_paused = true)]
async fn a_deletion_waits_for_a_running_operation_and_a_failed_one_is_retried() {
    let (world, system) = living().await;
    world.stacks.force(STACK, "UPDATE_IN_PROGRESS");
    let error = destroy(&system, &world.ports(), &Settings::default(), &mut Silent).await.expect_err("it runs");
    assert!(matches!(error, DestroyError::StillRunning { .. }));
    assert!(world.take_calls().1.is_empty(), "never two operations at once");
    world.stacks.force(STACK, "DELETE_FAILED");
    assert!(destroy(&system, &world.ports(), &Settings::default(), &mut Silent).await.expect("destroyed").changed);
    assert_eq!(world.stacks.state(STACK), Some(StackState::DeleteComplete));
}

fn with_push(system: &ValidatedSystem) -> (ValidatedSystem, Settings) {
    let mut system = system.clone();
    let reference = SecretKeyRef { name: "fcm".to_owned(), key: "key".to_owned() };
    system.spec.notifications.fcm = Some(FcmSpec { service_account_secret_ref: reference });
    let mut settings = Settings::default();
    settings.secrets.insert("fcm", "key", fcm_key());
    (system, settings)
}

fn rotated(settings: &Settings) -> Settings {
    let mut settings = settings.clone();
    let other = fcm_key().expose_secret().replace("not a key", "another key");
    settings.secrets.insert("fcm", "key", other.into());
    settings
}

#[tokio::test(start_paused = true)]
async fn a_rotated_push_key_reaches_sns_exactly_once() {
    let (world, system) = living().await;
    let (system, settings) = with_push(&system);
    assert!(apply_with(&world, &system, &settings).await.is_ready());
    let settings = rotated(&settings);
    world.take_calls();
    for _ in 0..3 {
        assert!(apply_with(&world, &system, &settings).await.is_ready());
    }
    let (_, mutating) = world.take_calls();
    assert_eq!(mutating, ["create_change_set", "execute", "update_push"]);
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_rotation_is_repeated() {
    let (world, system) = living().await;
    let (system, settings) = with_push(&system);
    assert!(apply_with(&world, &system, &settings).await.is_ready());
    let settings = rotated(&settings);
    world.stacks.break_call("execute", Some(PortErrorKind::Unavailable));
    reconcile(&system, &world.ports(), &settings, &mut Silent).await.expect_err("interrupted");
    world.stacks.break_call("execute", None);
    world.take_calls();
    assert!(apply_with(&world, &system, &settings).await.is_ready());
    assert!(world.take_calls().1.contains(&"update_push"));
    assert!(!apply_with(&world, &system, &settings).await.changed);
}

#[tokio::test(start_paused = true)]
async fn a_push_key_that_sns_rejects_stalls_the_system_and_is_never_shown() {
    let (world, system) = living().await;
    let (system, settings) = with_push(&system);
    world.refuse_push(true);
    let refused = apply_with(&world, &system, &settings).await;
    assert_eq!(reason(&refused, ConditionType::Stalled), Reason::InvalidPushCredential);
    let text = format!("{:?}", refused.status);
    assert!(text.contains("spec.notifications.fcm") && !text.contains("PRIVATE KEY"), "{text}");
    world.refuse_push(false);
    assert!(apply_with(&world, &system, &settings).await.is_ready());

    world.refuse_push(true);
    let refused = apply_with(&world, &system, &rotated(&settings)).await;
    assert_eq!(reason(&refused, ConditionType::Stalled), Reason::InvalidPushCredential);
    assert_eq!(world.stacks.open_change_sets(), 0);
    assert_eq!(world.push_credential().as_deref(), Some(fcm_key().expose_secret()), "the old one stays in use");
}

#[tokio::test(start_paused = true)]
async fn a_disabled_push_application_is_reported_until_the_key_is_replaced() {
    let (world, system) = living().await;
    let (system, settings) = with_push(&system);
    let done = apply_with(&world, &system, &settings).await;
    assert_eq!(reason(&done, ConditionType::PushReady), Reason::PushEnabled);
    world.disable_push();
    world.take_calls();
    for _ in 0..2 {
        let done = apply_with(&world, &system, &settings).await;
        assert!(done.is_ready() && !done.changed, "the city serves, and the refused key is not sent again");
        assert_eq!(reason(&done, ConditionType::PushReady), Reason::PushDisabled);
        assert!(!is_true(&done.status, ConditionType::PushReady));
        assert!(done.outputs.expect("outputs").platform_application_arn.is_some(), "devices stay registered");
    }
    assert_eq!(world.take_calls().1, [""; 0]);
    let seen = inspect(&system, &world.ports(), &Settings::default()).await.expect("a status");
    assert_eq!(reason(&seen, ConditionType::PushReady), Reason::PushDisabled);

    let done = apply_with(&world, &system, &rotated(&settings)).await;
    assert!(is_true(&done.status, ConditionType::PushReady));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_needs_no_secret() {
    let (world, system) = (World::default(), system());
    let (mut system, settings) = with_push(&system);
    let auth = SecretKeyRef { name: "redis".to_owned(), key: "token".to_owned() };
    system.spec.cache.auth_secret_ref = Some(auth);
    let mut settings = settings;
    settings.secrets.insert("redis", "token", "a-token-of-sixteen-characters".to_owned().into());
    assert!(apply_with(&world, &system, &settings).await.is_ready());
    system.deletion_policy = DeletionPolicy::Delete;
    destroy(&system, &world.ports(), &Settings::default(), &mut Silent).await.expect("destroyed");
    assert_eq!(world.stacks.state(STACK), Some(StackState::DeleteComplete));
    assert_eq!(world.push_credential(), None);
}

/// On every path of a deletion, what is already gone is fine.
#[tokio::test(start_paused = true)]
async fn a_deletion_does_not_need_what_is_already_gone() {
    for policy in [DeletionPolicy::Retain, DeletionPolicy::Delete] {
        let (world, mut system) = living().await;
        system.deletion_policy = policy;
        world.delete_table();
        world.delete_queues();
        // DynamoDB may answer like this for a table that does not exist.
        world.judge(Arc::new(|call| if call == "table_tags" { Fate::Broken } else { Fate::Answered }));
        let gone = destroy(&system, &world.ports(), &Settings::default(), &mut Silent).await;
        assert!(gone.expect("destroyed").changed, "{policy:?}");
        assert_eq!(world.stacks.state(STACK), Some(StackState::DeleteComplete));
    }
    // CloudFormation cannot update a table that no longer exists.
    let (world, mut system) = living().await;
    system.deletion_policy = DeletionPolicy::Delete;
    world.stacks.doom("Table", "Table: coactus-default-seoul not found");
    let refused = destroy(&system, &world.ports(), &Settings::default(), &mut Silent).await;
    assert!(matches!(refused, Err(DestroyError::Prepare(_))), "the table exists: {refused:?}");
    world.delete_table();
    world.stacks.doom("Table", "Table: coactus-default-seoul not found");
    destroy(&system, &world.ports(), &Settings::default(), &mut Silent).await.expect("destroyed");
    assert_eq!(world.stacks.state(STACK), Some(StackState::DeleteComplete));
}
