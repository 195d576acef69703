//! What an earlier version made keeps its names.

use super::*;
use dispatch_api::dispatch_system::DispatchSystem;
use dispatch_api::manifest::read_manifests;
use dispatch_operator::engine::plan::ownership::SYSTEM_TAG;
use dispatch_operator::testing::MANIFEST;

const FORMER: &str = "coactus-team-a-seoul";
const PRESENT: &str = "coactus-team-a-seoul-6";

fn in_namespace(namespace: &str, name: &str) -> ValidatedSystem {
    let text = MANIFEST.replace("name: seoul\n", &format!("name: {name}\n  namespace: \"{namespace}\"\n"));
    let systems: Vec<DispatchSystem> = read_manifests(&text).expect("a manifest");
    ValidatedSystem::try_from_raw(&systems[0]).expect("a valid system")
}

/// A system whose stack an earlier version made.
async fn of_an_earlier_version() -> (World, ValidatedSystem) {
    let (world, system) = (World::default(), in_namespace("team-a", "seoul"));
    assert!(apply(&world, &system.under_former_names()).await.is_ready());
    assert_eq!(world.stacks.state(FORMER), Some(StackState::CreateComplete));
    world.take_calls();
    (world, system)
}

#[tokio::test(start_paused = true)]
async fn a_new_system_with_a_dash_gets_the_injective_name() {
    let (world, system) = (World::default(), in_namespace("team-a", "seoul"));
    assert!(apply(&world, &system).await.is_ready());
    assert_eq!(world.stacks.state(PRESENT), Some(StackState::CreateComplete));
    assert_eq!(world.stacks.state(FORMER), None);
}

#[tokio::test(start_paused = true)]
async fn a_stack_under_its_former_name_is_found_by_its_tag_and_nothing_moves() {
    let (world, system) = of_an_earlier_version().await;
    let done = apply(&world, &system).await;
    assert!(done.is_ready() && !done.changed, "{:?}", done.status);
    assert!(done.status.stack_arn.as_ref().is_some_and(|arn| arn.contains(&format!("stack/{FORMER}/"))));
    assert_eq!(world.stacks.state(PRESENT), None);
    assert!(preview(&system, &world.ports(), &Settings::default()).await.expect("a plan").is_empty());
    assert!(inspect(&system, &world.ports(), &Settings::default()).await.expect("a status").is_ready());
    assert!(world.take_calls().1.is_empty());

    // With the stack in the status, the names cost no call.
    let settings = Settings { drift: DriftDetection::Skip, previous: Some(done.status), ..Settings::default() };
    assert!(apply_with(&world, &system, &settings).await.is_ready());
    assert_eq!(world.take_calls().0, ["describe", "table", "push_exists", "cache"]);

    assert!(apply(&world, &longer(&system)).await.changed, "an update");
    assert_eq!(world.stacks.state(FORMER), Some(StackState::UpdateComplete));
    destroy(&system, &world.ports(), &Settings::default(), &mut Silent).await.expect("destroyed");
    assert_eq!(world.stacks.state(FORMER), Some(StackState::DeleteComplete));
}

#[tokio::test(start_paused = true)]
async fn data_retained_under_the_former_name_is_imported_under_it() {
    let (world, system) = of_an_earlier_version().await;
    destroy(&system, &world.ports(), &Settings::default(), &mut Silent).await.expect("destroyed");
    assert!(apply(&world, &system).await.is_ready());
    assert!(world.stacks.imported());
    assert_eq!(world.stacks.state(FORMER), Some(StackState::CreateComplete));
    assert_eq!(world.stacks.state(PRESENT), None);
}

#[tokio::test(start_paused = true)]
async fn the_former_name_without_the_tag_of_the_system_does_not_count() {
    for tags in [&[][..], &[(SYSTEM_TAG, "team/a-seoul")], &[("team", "billing")]] {
        let (world, system) = of_an_earlier_version().await;
        world.stacks.retag(FORMER, tags);
        world.take_calls();
        let done = apply(&world, &system).await;
        // The table of the fake has the tags of the only stack, so the creation of another stack is refused.
        assert_eq!(reason(&done, ConditionType::Stalled), "OwnedByAnother", "{tags:?}");
        let message = &done.status.conditions.iter().find(|c| c.type_ == "Stalled").expect("Stalled").message;
        assert!(message.contains(&format!("table {PRESENT}")), "{message}");
        assert!(world.take_calls().1.is_empty());
        assert_eq!(world.stacks.state(FORMER), Some(StackState::CreateComplete));
    }
}

#[tokio::test(start_paused = true)]
async fn a_derived_name_that_is_not_usable_prevents_a_creation_and_nothing_else() {
    for name in ["7eleven", "a-name-with-a-dash-and-29-cha"] {
        let namespace = if name.starts_with('7') { "default" } else { "n" };
        let (world, system) = (World::default(), in_namespace(namespace, name));
        let error = reconcile(&system, &world.ports(), &Settings::default(), &mut Silent).await.expect_err(name);
        assert!(matches!(error, EngineError::Unfit(_)), "{error}");
        assert!(error.to_string().contains("which is derived from it"), "{error}");
        preview(&system, &world.ports(), &Settings::default()).await.expect_err(name);
        assert!(world.take_calls().1.is_empty());

        let earlier = ValidatedSystem { unfit: None, ..system.under_former_names() };
        assert!(apply(&world, &earlier).await.is_ready());
        assert!(!apply(&world, &system).await.changed, "it keeps working");
        destroy(&system, &world.ports(), &Settings::default(), &mut Silent).await.expect("and can be destroyed");
        assert!(!world.stacks.any());
    }
}
