//! Resources of other owners are not changed.

use dispatch_api::conditions::Reason;

use super::*;
use dispatch_operator::engine::plan::ownership::{Adoption, SYSTEM_TAG, UID_TAG};

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
        let error = preview(&system, &ports, &Settings::default()).await.expect_err("refused");
        assert!(matches!(error, EngineError::OwnedByAnother(_)));
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
