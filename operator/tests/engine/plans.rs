//! Plans that are shown, approved and rejected.

use dispatch_api::conditions::ConditionType;
use jiff::SignedDuration;

use super::*;
use dispatch_operator::engine::settings::Mode;

fn dry() -> Settings {
    Settings { mode: Mode::DryRun, ..Settings::default() }
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_shows_the_plan_and_applies_nothing() {
    let (world, system) = living().await;
    world.change_visibility(1);
    let other = with_other_table(&system);
    for settings in [dry(), Settings { approval: Approval::Replacements, ..dry() }] {
        let done = apply_with(&world, &other, &settings).await;
        assert!(!done.changed && !done.is_ready());
        assert_eq!(
            (reason(&done, ConditionType::PlanPending), reason(&done, ConditionType::Ready)),
            ("DryRun".to_owned(), "DryRun".to_owned())
        );
        let plan = done.status.last_plan.expect("a plan");
        let table = &plan.changes[0];
        assert_eq!(
            (table.logical_id.as_str(), table.action.as_str(), table.endangers_data),
            ("Table", "replace", true)
        );
        let twice = ["create_change_set", "discard", "create_change_set", "discard"];
        assert_eq!(world.take_calls().1, twice, "the changes and the live values; not even drift is corrected");
        assert_eq!(world.stacks.open_change_sets(), 0);
    }
    assert_eq!(world.stacks.state(STACK), Some(StackState::CreateComplete));
    let shown = apply_with(&world, &other, &dry()).await.plan.id;
    let approved = Settings { approval: Approval::Plan(shown), ..Settings::default() };
    assert!(apply_with(&world, &other, &approved).await.is_ready(), "the shown plan is the approved plan");
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_creates_no_stack_and_is_ready_when_in_sync() {
    let (world, system) = (World::default(), system());
    let done = apply_with(&world, &system, &dry()).await;
    let plan = done.status.last_plan.clone().expect("a plan");
    assert!(plan.add > 20 && plan.changes.len() == 20 && plan.more == plan.add - 20, "{plan:?}");
    assert!(world.take_calls().1.is_empty() && !world.stacks.any());
    assert!(apply(&world, &system).await.is_ready());
    let done = apply_with(&world, &system, &dry()).await;
    assert!(done.is_ready() && !is_true(&done.status, ConditionType::PlanPending));
}

#[tokio::test(start_paused = true)]
async fn a_stale_approval_is_rejected_and_the_current_plan_is_named() {
    let (world, mut system) = living().await;
    system.spec.approval_policy = ApprovalPolicy::Always;
    let old = Settings { approval: Approval::Plan("0ld0ld0ld0ld".to_owned()), ..Settings::default() };
    let refused = apply_with(&world, &longer(&system), &old).await;
    let (text, id) = (message(&refused, ConditionType::Stalled), &refused.plan.id);
    assert!(text.contains("the approval of plan 0ld0ld0ld0ld does not apply"), "{text}");
    assert!(text.contains(&format!("dispatch.coactus.io/approve={id}")) && text.contains(STACK), "{text}");
    assert_eq!(refused.status.last_plan.as_ref().map(|plan| &plan.id), Some(id));
    assert_eq!(world.stacks.open_change_sets(), 0);
}

#[tokio::test(start_paused = true)]
async fn change_sets_of_older_inputs_are_removed_and_those_of_others_stay() {
    let (world, mut system) = living().await;
    let (old, young) = (SignedDuration::from_hours(3), SignedDuration::from_mins(59));
    world.stacks.leave_change_set(STACK, "coactus-of-an-older-input", old);
    world.stacks.leave_change_set(STACK, "coactus-of-a-running-apply", young);
    world.stacks.leave_change_set(STACK, "a-persons-own", old);
    system.spec.approval_policy = ApprovalPolicy::Always;
    apply(&world, &longer(&system)).await;
    assert_eq!(world.stacks.change_set_names(), ["a-persons-own", "coactus-of-a-running-apply"]);
    let discarded = world.take_calls().1.iter().filter(|call| **call == "discard").count();
    assert_eq!(discarded, 3, "the older change set, its own, and that of the live values");
}

/// Between the creation of its change set and its execution, an apply may be overtaken by a plan of the same or another
/// input, by a dry run, or by another apply.
#[tokio::test(start_paused = true)]
async fn a_plan_removes_nothing_that_it_did_not_make() {
    let (world, system) = living().await;
    let other = longer(&system);
    world.judge(Arc::new(|call| if call == "execute" { Fate::Lost } else { Fate::Answered }));
    timeout(Duration::from_hours(1), apply(&world, &other)).await.expect_err("it is about to execute");
    world.judge(Arc::new(|_| Fate::Answered));
    let before = world.stacks.change_set_names();
    assert_eq!(before.len(), 1);

    let mut another = other.clone();
    another.spec.queues.offers.visibility_timeout_seconds = 29;
    let dry_run = Settings { mode: Mode::DryRun, ..Settings::default() };
    for input in [&other, &another] {
        assert!(!preview(input, &world.ports(), &Settings::default()).await.expect("a plan").is_empty());
        assert!(is_true(&apply_with(&world, input, &dry_run).await.status, ConditionType::PlanPending));
        assert_eq!(world.stacks.change_set_names(), before);
    }
    assert!(apply(&world, &other).await.is_ready());
    let ledger = world.ledger();
    assert_eq!(ledger.get("change set created"), Some(&10), "two of applies, eight of plans: {ledger:?}");
}

#[tokio::test(start_paused = true)]
async fn what_another_run_did_meanwhile_is_said_in_these_words() {
    for (call, kind) in [
        ("execute", PortErrorKind::NotFound),
        ("execute", PortErrorKind::Conflict),
        ("change_set", PortErrorKind::NotFound),
    ] {
        let (world, system) = living().await;
        world.stacks.break_call(call, Some(kind));
        let error = reconcile(&longer(&system), &world.ports(), &Settings::default(), &mut Silent).await;
        let error = error.expect_err("overtaken");
        let text = "cannot apply the changes: another run has changed stack coactus-default-seoul meanwhile, and this \
                    run has changed nothing; apply again";
        assert_eq!(error.to_string(), text);
        assert!(error.is_transient());
        world.stacks.break_call(call, None);
        assert!(apply(&world, &longer(&system)).await.is_ready(), "the advice works");
    }
}
