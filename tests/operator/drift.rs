//! Changes made in AWS outside the engine.

use anyhow::Context as _;
use aws_sdk_dynamodb::types::{StreamSpecification, TimeToLiveSpecification};
use dispatch_api::conditions::{ConditionType, Reason};

use crate::support::{Account, SEOUL, apply, condition, seoul};

#[tokio::test]
async fn table_settings_changed_by_hand_are_reported_and_corrected() -> anyhow::Result<()> {
    let account = Account::start().await?;
    let system = seoul(SEOUL)?;
    let (created, _) = apply(&system, &account.ports).await?;
    // The emulated CloudFormation leaves the time to live to the first run, which is no drift.
    let (reason, message) = condition(&created, ConditionType::Drifted);
    let expected = "no drift detected; set after the creation: table's time to live: off instead of expiresAt";
    assert_eq!((reason.as_str(), message.as_str()), ("InSync", expected));
    let outputs = created.outputs.context("outputs")?;
    let tables = aws_sdk_dynamodb::Client::new(account.aws.config());
    let table = &outputs.table_name;
    let protection = system.spec.table.deletion_protection;
    tables.update_table().table_name(table).deletion_protection_enabled(!protection).send().await?;
    let off = StreamSpecification::builder().stream_enabled(false).build()?;
    tables.update_table().table_name(table).stream_specification(off).send().await?;
    let never = TimeToLiveSpecification::builder().enabled(false).attribute_name("expiresAt").build()?;
    tables.update_time_to_live().table_name(table).time_to_live_specification(never).send().await?;

    let mut reporting = system.clone();
    reporting.spec.drift_policy = dispatch_api::dispatch_system::DriftPolicy::ReportOnly;
    let (seen, events) = apply(&reporting, &account.ports).await?;
    assert_eq!(events, []);
    let message = condition(&seen, ConditionType::Drifted).1;
    for field in ["table.deletionProtection", "table's stream: off", "table's time to live: off"] {
        assert!(message.contains(field), "{field}: {message}");
    }
    let (corrected, _) = apply(&system, &account.ports).await?;
    assert!(corrected.is_ready() && corrected.changed, "{:#?}", corrected.status);
    assert_eq!(condition(&corrected, ConditionType::Drifted), ("DriftCorrected".to_owned(), message));
    let found = account.ports.tables.table(table).await?.context("the table")?;
    assert_eq!(found.deletion_protection, protection);
    assert_eq!(corrected.outputs.context("outputs")?.stream_arn, found.stream_arn.context("a stream")?);
    assert_eq!(account.ports.tables.expiry(table).await?.as_deref(), Some("expiresAt"));
    let (same, _) = apply(&system, &account.ports).await?;
    assert!(same.is_ready() && !same.changed);
    Ok(())
}

#[tokio::test]
async fn a_queue_deleted_by_hand_comes_back_with_a_new_stack_and_the_old_data() -> anyhow::Result<()> {
    let account = Account::start().await?;
    let system = seoul(SEOUL)?;
    let outputs = apply(&system, &account.ports).await?.0.outputs.context("outputs")?;
    let queues = aws_sdk_sqs::Client::new(account.aws.config());
    queues.delete_queue().queue_url(&outputs.offers_queue_url).send().await?;
    let (gone, _) = apply(&system, &account.ports).await?;
    let (reason, message) = condition(&gone, ConditionType::Stalled);
    assert_eq!(reason, Reason::ResourceGone);
    assert!(message.contains("queue offers"), "{message}");

    let settings = crate::support::settings();
    let mut silent = dispatch_operator::engine::progress::Silent;
    dispatch_operator::engine::destroy::destroy(&system, &account.ports, &settings, &mut silent).await?;
    assert!(apply(&system, &account.ports).await?.0.is_ready());
    Ok(())
}
