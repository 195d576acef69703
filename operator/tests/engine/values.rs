//! Plans show the values that change, and leave the status when they are carried out.

use super::*;
use dispatch_operator::cloud::{LiveDrift, LiveValue, PropertyValue};
use dispatch_operator::engine::plan::LiveValues;
use dispatch_operator::engine::settings::Mode;

fn values(changes: &[dispatch_operator::cloud::ResourceChange], id: &str) -> Vec<PropertyValue> {
    changes.iter().find(|change| change.logical_id == id).map(|change| change.values.clone()).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_plan_shows_the_old_and_the_new_value_of_each_property() {
    let (world, system) = living().await;
    let mut other = longer(&system);
    other.spec.queues.offers.max_receive_count = 9;
    let node = PropertyValue {
        path: "CacheNodeType".to_owned(),
        before: Some(system.spec.cache.node_type.clone()),
        after: Some("cache.r7g.large".to_owned()),
        live: None,
    };
    let count = PropertyValue {
        path: "RedrivePolicy.maxReceiveCount".to_owned(),
        before: Some(system.spec.queues.offers.max_receive_count.to_string()),
        after: Some("9".to_owned()),
        live: None,
    };
    let plan = preview(&other, &world.ports(), &Settings::default()).await.expect("a plan");
    assert_eq!(values(&plan.changes, "ReplicationGroup"), std::slice::from_ref(&node));
    assert_eq!(values(&plan.changes, "OffersQueue"), [count]);
    assert_eq!(values(&plan.changes, "AppliedInput"), [], "digests are no news");

    // The plan is the same where it waits, and in the status.
    other.spec.approval_policy = ApprovalPolicy::Always;
    let waits = apply(&world, &other).await;
    assert_eq!(values(&waits.plan.changes, "ReplicationGroup"), [node]);
    let listed = waits.status.last_plan.expect("a plan").changes;
    let cache = listed.iter().find(|change| change.logical_id == "ReplicationGroup").expect("listed");
    assert_eq!(cache.values[0].after.as_deref(), Some("cache.r7g.large"));

    // Without the permission to read the last template, the plan has names only.
    world.stacks.break_call("template", Some(PortErrorKind::Denied));
    let plan = preview(&other, &world.ports(), &Settings::default()).await.expect("a plan");
    assert!(!plan.changes.is_empty() && plan.changes.iter().all(|change| change.values.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn a_plan_leaves_the_status_when_it_is_carried_out() {
    let (world, system) = living().await;
    assert_eq!(apply(&world, &system).await.status.last_plan, None);
    let other = longer(&system);
    let dry = Settings { mode: Mode::DryRun, ..Settings::default() };
    let shown = apply_with(&world, &other, &dry).await;
    assert!(shown.status.last_plan.as_ref().is_some_and(|plan| plan.change > 0));

    // While the operation runs, the plan stays.
    let wait_policy =
        dispatch_operator::engine::settings::WaitPolicy { total: Duration::ZERO, ..Settings::default().wait_policy };
    let quick = Settings { wait_policy, ..Settings::default() };
    let begun = apply_with(&world, &other, &quick).await;
    assert_eq!(reason(&begun, ConditionType::Reconciling), "StackBusy");
    let plan = begun.status.last_plan.clone().expect("a plan");
    let again = Settings { previous: Some(begun.status), ..quick };
    let running = apply_with(&world, &other, &again).await;
    if reason(&running, ConditionType::Reconciling) == "StackBusy" {
        assert_eq!(running.status.last_plan, Some(plan));
    }
    let done = apply(&world, &other).await;
    assert!(done.is_ready());
    assert_eq!(done.status.last_plan, None);
}

/// A person has changed the node type and the topic.
fn tamper(world: &World) {
    let drift = |logical_id: &str, kind: &str, path: &str| LiveDrift {
        logical_id: logical_id.to_owned(),
        resource_type: kind.to_owned(),
        deleted: false,
        values: vec![LiveValue {
            path: path.to_owned(),
            applied: Some("before".to_owned()),
            live: Some("by hand".to_owned()),
        }],
    };
    world.stacks.drift(drift("ReplicationGroup", "AWS::ElastiCache::ReplicationGroup", "CacheNodeType"));
    world.stacks.drift(drift("Topic", "AWS::SNS::Topic", "DisplayName"));
}

#[tokio::test(start_paused = true)]
async fn plans_and_approvals_show_live_values_and_change_nothing_else() {
    let (world, system) = living().await;
    tamper(&world);
    let mut other = longer(&system);
    let shown = |changes: &[dispatch_operator::cloud::ResourceChange], live: &LiveValues| {
        let [value] = &values(changes, "ReplicationGroup")[..] else { panic!("one value") };
        assert!(value.to_string().ends_with(" -> cache.r7g.large (live: by hand)"), "{value}");
        let LiveValues::Compared(others) = live else { panic!("{live:?}") };
        let words: Vec<String> = others.iter().map(ToString::to_string).collect();
        assert_eq!(words, ["Topic (AWS::SNS::Topic) DisplayName: by hand instead of before"]);
    };
    let plan = preview(&other, &world.ports(), &Settings::default()).await.expect("a plan");
    shown(&plan.changes, &plan.live);
    let dry = Settings { mode: Mode::DryRun, ..Settings::default() };
    let dry = apply_with(&world, &other, &dry).await;
    shown(&dry.plan.changes, &dry.plan.live);
    assert_eq!(dry.plan.id, plan.id, "live values change no plan");
    other.spec.approval_policy = ApprovalPolicy::Always;
    let waits = apply(&world, &other).await;
    shown(&waits.plan.changes, &waits.plan.live);
    let listed = waits.status.last_plan.expect("a plan").changes;
    assert!(listed.iter().flat_map(|change| &change.values).any(|value| value.live.as_deref() == Some("by hand")));
    assert_eq!(world.stacks.open_change_sets(), 0);
    assert!(world.ledger().get("change set executed").is_some_and(|count| *count == 1), "only the creation");
}

#[tokio::test(start_paused = true)]
async fn a_plan_says_why_it_has_no_live_values() {
    let (world, system) = living().await;
    tamper(&world);
    world.stacks.forget_drift();
    let plan = preview(&longer(&system), &world.ports(), &Settings::default()).await.expect("a plan");
    let why = "the endpoint does not know drift-aware change sets".to_owned();
    assert_eq!(plan.live, LiveValues::NotCompared(why));
    assert!(
        !plan.changes.is_empty() && plan.changes.iter().flat_map(|change| &change.values).all(|v| v.live.is_none())
    );
}
