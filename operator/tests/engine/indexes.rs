//! Missing indexes of a table are added one by one.

use std::time::Duration;

use super::*;
use dispatch_operator::engine::plan::ownership::Adoption;
use dispatch_operator::engine::settings::WaitPolicy;

fn kept_without(indexes: &[&str]) -> World {
    let world = World::default();
    world.keep_data("default/seoul");
    world.change_table(|table| table.keys.retain(|name, _| !indexes.contains(&name.as_str())));
    world
}

fn index_names(world: &World) -> Vec<String> {
    let template = world.stacks.template(STACK);
    let indexes = template["Resources"]["Table"]["Properties"]["GlobalSecondaryIndexes"].as_array().cloned();
    indexes.unwrap_or_default().iter().map(|i| i["IndexName"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_retained_table_without_indexes_is_imported_and_gets_them_one_by_one() {
    for (missing, updates) in [(&["GSI1", "GSI2"][..], 2), (&["GSI1"], 1), (&["GSI2"], 1)] {
        let world = kept_without(missing);
        let done = apply(&world, &system()).await;
        assert!(done.is_ready(), "{missing:?}: {:?}", done.status);
        assert!(world.stacks.imported() || updates > 0);
        assert_eq!(index_names(&world), ["GSI1", "GSI2"]);
        let executed = world.take_calls().1.iter().filter(|call| **call == "execute").count();
        assert_eq!(executed, 1 + updates, "the import and one update for each index");
        assert!(!apply(&world, &system()).await.changed);
    }
}

#[tokio::test(start_paused = true)]
async fn an_adopted_table_gets_its_missing_index_too() {
    let world = kept_without(&["GSI2"]);
    world.keep_data("default/busan");
    let adopt = Settings { adoption: Adoption::Take, ..Settings::default() };
    assert!(apply_with(&world, &system(), &adopt).await.is_ready());
    assert_eq!(index_names(&world), ["GSI1", "GSI2"]);
}

#[tokio::test(start_paused = true)]
async fn index_steps_are_reported_and_continue_after_a_restart() {
    let world = kept_without(&["GSI1", "GSI2"]);
    let wait_policy = WaitPolicy { first: Duration::ZERO, longest: Duration::ZERO, total: Duration::ZERO };
    let impatient = Settings { wait_policy, ..Settings::default() };
    let mut reported = Vec::new();
    for _ in 0..30 {
        let done = apply_with(&world, &system(), &impatient).await;
        if reason(&done, ConditionType::Reconciling) == "AddingIndex" {
            reported.push(
                message(&done, ConditionType::Reconciling).split(" to table").next().unwrap_or_default().to_owned(),
            );
            assert!(done.status.outputs.is_none(), "workers wait for the indexes");
        }
        if done.is_ready() {
            break;
        }
    }
    reported.dedup();
    assert_eq!(reported, ["adding index GSI1 (step 1 of 2)", "adding index GSI2 (step 2 of 2)"]);
    assert!(apply(&world, &system()).await.is_ready());
    assert_eq!(index_names(&world), ["GSI1", "GSI2"]);
}

#[tokio::test(start_paused = true)]
async fn the_next_index_waits_until_the_previous_one_is_active() {
    let world = kept_without(&["GSI2"]);
    world.change_table(|table| table.building = vec!["GSI1".to_owned()]);
    let waiting = apply(&world, &system()).await;
    assert_eq!(reason(&waiting, ConditionType::Reconciling), "AddingIndex");
    assert_eq!(index_names(&world), ["GSI1"]);
    assert!(waiting.status.outputs.is_none());
    world.change_table(|table| table.building.clear());
    assert!(apply(&world, &system()).await.is_ready());

    world.change_table(|table| table.building = vec!["GSI2".to_owned()]);
    let building = apply(&world, &system()).await;
    assert_eq!(
        message(&building, ConditionType::Reconciling),
        "index GSI2 of table coactus-default-seoul is being built; the operator will retry"
    );
}

#[tokio::test(start_paused = true)]
async fn a_provisioned_table_scales_only_the_indexes_it_has() {
    let mut system = system();
    system.spec.table.billing = capacity();
    let mut body = dispatch_operator::engine::plan::template::render(&system).body().clone();
    let scales =
        |body: &serde_json::Value, index: &str| body["Resources"][format!("ReadScalingTarget{index}")].is_object();
    assert!(scales(&body, "GSI1") && scales(&body, "GSI2"));
    dispatch_operator::engine::plan::template::without_indexes(&mut body, &["GSI2"]);
    assert!(scales(&body, "") && scales(&body, "GSI1") && !scales(&body, "GSI2"));
    let attributes = body["Resources"]["Table"]["Properties"]["AttributeDefinitions"].to_string();
    assert!(attributes.contains("GSI1PK") && !attributes.contains("GSI2PK"), "{attributes}");
}

fn capacity() -> dispatch_api::dispatch_system::Billing {
    let units = serde_json::json!({ "min": 5, "max": 50 });
    serde_json::from_value(serde_json::json!({ "mode": "Provisioned", "read": units, "write": units }))
        .expect("capacity")
}
