//! Resources of other owners are not changed.

use dispatch_api::conditions::Reason;

use super::*;
use dispatch_operator::engine::plan::ownership::{Adoption, SYSTEM_TAG, UID_TAG};
use dispatch_operator::engine::plan::table_names::TableNames;
use dispatch_operator::engine::settings::Approver;

#[tokio::test(start_paused = true)]
async fn a_stack_of_another_owner_is_neither_changed_nor_deleted_nor_shown_to_workers() {
    for tags in [&[][..], &[(SYSTEM_TAG, "default/busan")], &[("team", "billing")]] {
        let (world, system) = living().await;
        world.stacks.retag(STACK, tags);
        let ports = world.ports();
        let done = apply(&world, &longer(&system)).await;
        assert_eq!(reason(&done, ConditionType::Stalled), Reason::OwnedByAnother);
        assert_eq!(reason(&done, ConditionType::StackReady), Reason::OwnedByAnother);
        assert!(done.outputs.is_none(), "its table is not ours");
        let seen = inspect(&system, &ports, &Settings::default()).await.expect("a status");
        assert_eq!(reason(&seen, ConditionType::Stalled), Reason::OwnedByAnother);
        let plan = preview(&system, &ports, &Settings::default()).await.expect("a plan");
        assert_eq!(plan.blockage.map(|blockage| blockage.reason), Some(Reason::OwnedByAnother));
        assert!(plan.parts.is_empty() && plan.changes.is_empty());
        let error = destroy(&system, &ports, &Settings::default(), &mut Silent).await.expect_err("refused");
        assert!(matches!(error, DestroyError::OwnedByAnother(_)));
        assert!(world.take_calls().1.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn two_objects_of_one_name_never_fight_over_a_stack() {
    let (world, mut first) = (World::default(), system());
    first.uid = Some("first".to_owned());
    assert!(apply(&world, &first).await.is_ready());
    let mut second = longer(&first);
    second.uid = Some("second".to_owned());
    world.take_calls();
    let refused = apply(&world, &second).await;
    assert_eq!(reason(&refused, ConditionType::Stalled), Reason::OwnedByAnother);
    assert!(world.take_calls().1.is_empty());
    assert!(!apply(&world, &first).await.changed);
}

#[tokio::test(start_paused = true)]
async fn a_stack_that_a_cluster_manages_is_destroyed_only_with_adopt() {
    let (world, mut in_a_cluster) = (World::default(), system());
    in_a_cluster.uid = Some("first".to_owned());
    assert!(apply(&world, &in_a_cluster).await.is_ready());
    world.take_calls();
    let error = destroy(&system(), &world.ports(), &Settings::default(), &mut Silent).await.expect_err("managed");
    let text = "stack coactus-default-seoul is managed by the object default/seoul (uid first) of a cluster, which would \
                create it again; delete that object or, if it no longer exists, destroy the stack with --adopt";
    assert_eq!(error.to_string(), text);
    assert!(world.take_calls().1.is_empty());
    let adopt = Settings { adoption: Adoption::Take, ..Settings::default() };
    assert!(destroy(&system(), &world.ports(), &adopt, &mut Silent).await.expect("destroyed").changed);

    // Another system's stack is not destroyed with it.
    let (world, system) = living().await;
    world.stacks.retag(STACK, &[(SYSTEM_TAG, "default/busan")]);
    let error = destroy(&system, &world.ports(), &adopt, &mut Silent).await.expect_err("another's");
    assert!(matches!(error, DestroyError::OwnedByAnother(_)));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_of_data_waits_for_the_second_person() {
    let (world, mut system) = living().await;
    system.deletion_policy = DeletionPolicy::Delete;
    let ports = world.ports();
    for approval in [Approval::None, Approval::Replacements, Approval::Plan("3f9c2ab41d07".to_owned())] {
        let settings = Settings { approver: Approver::Second, approval, ..Settings::default() };
        let error = destroy(&system, &ports, &settings, &mut Silent).await.expect_err("not approved");
        assert!(matches!(error, DestroyError::ApprovalRequired { .. }), "{error}");
        assert!(world.take_calls().1.is_empty());
    }
    let approval = Approval::Plan("delete".to_owned());
    let approved = Settings { approver: Approver::Second, approval, ..Settings::default() };
    assert!(destroy(&system, &ports, &approved, &mut Silent).await.expect("destroyed").kept.is_empty());

    let (world, system) = living().await;
    let settings = Settings { approver: Approver::Second, ..Settings::default() };
    destroy(&system, &world.ports(), &settings, &mut Silent).await.expect("no data is deleted with Retain");
}

#[tokio::test(start_paused = true)]
async fn a_new_table_outside_the_own_prefix_is_made_only_where_it_is_allowed() {
    let mut named = system();
    named.spec.table.name = Some("coactus-team-a-busan".to_owned());
    "coactus-team-a-busan".clone_into(&mut named.names.table);
    let only = |names: &[&str]| TableNames::Only(names.iter().map(|name| (*name).to_owned()).collect());
    let with = |table_names| Settings { table_names, ..Settings::default() };

    let world = World::default();
    let refused = apply_with(&world, &named, &with(only(&[]))).await;
    assert_eq!(reason(&refused, ConditionType::Stalled), Reason::TableNameNotAllowed);
    assert!(world.take_calls().1.is_empty());
    assert!(apply_with(&world, &named, &with(only(&["coactus-team-a-busan"]))).await.is_ready());
    // What exists keeps its name, also when the permission is withdrawn.
    assert!(!apply_with(&world, &named, &with(only(&[]))).await.changed);
    assert!(apply_with(&world, &longer(&named), &with(only(&[]))).await.changed);
    let mut other = named.clone();
    other.spec.table.name = Some("another".to_owned());
    "another".clone_into(&mut other.names.table);
    world.take_calls();
    let refused = apply_with(&world, &other, &with(only(&[]))).await;
    assert_eq!(reason(&refused, ConditionType::Stalled), Reason::TableNameNotAllowed);
    assert!(world.take_calls().1.is_empty());
    assert!(apply_with(&World::default(), &named, &Settings::default()).await.is_ready(), "the command line");
}

#[tokio::test(start_paused = true)]
async fn an_adopted_stack_changes_its_owner_once() {
    let (world, mut first) = (World::default(), system());
    first.uid = Some("first".to_owned());
    assert!(apply(&world, &first).await.is_ready());
    let mut second = first.clone();
    second.uid = Some("second".to_owned());
    let adopt = Settings { adoption: Adoption::Take, ..Settings::default() };
    let done = apply_with(&world, &second, &adopt).await;
    assert!(done.is_ready() && done.changed, "{:?}", done.status);
    assert_eq!(world.stacks.tags(STACK).get(UID_TAG).map(String::as_str), Some("second"));
    assert!(!apply_with(&world, &second, &adopt).await.changed);
    assert_eq!(reason(&apply(&world, &first).await, ConditionType::Stalled), Reason::OwnedByAnother);
    // Without a cluster there is no UID, and the recorded one stays.
    assert!(!apply(&world, &system()).await.changed);
}
