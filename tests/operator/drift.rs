//! Changes made in AWS outside the engine.

use anyhow::Context as _;
use aws_sdk_dynamodb::types::{StreamSpecification, TimeToLiveSpecification};
use aws_sdk_sqs::types::QueueAttributeName;
use dispatch_api::conditions::{ConditionType, Reason};
use dispatch_operator::engine::preview::preview;

use crate::support::{Account, SEOUL, apply, condition, seoul};

#[tokio::test]
async fn table_settings_changed_by_hand_are_reported_and_corrected() -> anyhow::Result<()> {
    let account = Account::start().await?;
    let system = seoul(SEOUL)?;
    let (created, _) = apply(&system, &account.ports).await?;
    // The emulated CloudFormation leaves two settings to the first run, which is no drift.
    let (reason, message) = condition(&created, ConditionType::Drifted);
    let expected = "no drift; set after the creation: table's time to live: off instead of expiresAt; \
                    table.pointInTimeRecovery: false instead of true";
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
async fn a_queue_a_topic_and_a_subscription_deleted_by_hand_are_created_again() -> anyhow::Result<()> {
    let account = Account::start().await?;
    let system = seoul(SEOUL)?;
    let outputs = apply(&system, &account.ports).await?.0.outputs.context("outputs")?;
    let queues = aws_sdk_sqs::Client::new(account.aws.config());
    let topics = aws_sdk_sns::Client::new(account.aws.config());
    let notifications = &outputs.notifications_queue_url;
    for url in [&outputs.offers_queue_url, notifications, &format!("{}-dlq", outputs.responses_queue_url)] {
        queues.delete_queue().queue_url(url).send().await?;
    }
    topics.delete_topic().topic_arn(&outputs.topic_arn).send().await?;
    let plan = preview(&system, &account.ports, &crate::support::settings()).await?;
    assert_eq!(plan.blockage, None);
    let steps: Vec<String> = plan.parts.iter().map(ToString::to_string).collect();
    for id in ["ResponsesQueueDeadLetters", "OffersQueue", "NotificationsQueue", "Topic", "TopicSubscription"] {
        assert!(steps.iter().any(|step| step.starts_with(&format!("create {id} (AWS::"))), "{id}: {steps:#?}");
    }
    let (again, _) = apply(&system, &account.ports).await?;
    assert!(again.is_ready() && again.changed, "{:#?}", again.status);
    assert_eq!(again.outputs.context("outputs")?, outputs, "everything has its name again");
    let (same, _) = apply(&system, &account.ports).await?;
    assert!(same.is_ready() && !same.changed, "{:#?}", same.status);

    // A notification still reaches its queue, as the body of a message.
    topics.publish().topic_arn(&outputs.topic_arn).message("to the queue").send().await?;
    let received = queues.receive_message().queue_url(notifications).wait_time_seconds(5).send().await?;
    assert_eq!(received.messages().iter().filter_map(|message| message.body()).collect::<Vec<_>>(), ["to the queue"]);
    let attributes = queues.get_queue_attributes().queue_url(notifications).attribute_names(QueueAttributeName::All);
    let attributes = attributes.send().await?.attributes.context("attributes")?;
    let policy = attributes.get(&QueueAttributeName::Policy).context("a policy")?;
    assert!(policy.contains("DenyWithoutTls") && policy.contains(&outputs.topic_arn), "{policy}");
    let tags = queues.list_queue_tags().queue_url(notifications).send().await?.tags.context("tags")?;
    assert_eq!(tags.get("coactus:system").map(String::as_str), Some("default/seoul"));
    Ok(())
}

#[tokio::test]
async fn what_is_deleted_by_hand_is_named_and_its_advice_brings_it_back() -> anyhow::Result<()> {
    let account = Account::start().await?;
    let system = seoul(SEOUL)?;
    let outputs = apply(&system, &account.ports).await?.0.outputs.context("outputs")?;
    let tables = aws_sdk_dynamodb::Client::new(account.aws.config());
    tables.delete_table().table_name(&outputs.lease_table_name).send().await?;
    let (gone, _) = apply(&system, &account.ports).await?;
    let (reason, message) = condition(&gone, ConditionType::Stalled);
    assert_eq!(reason, Reason::ResourceGone);
    let name = format!("LeaseTable (AWS::DynamoDB::Table {}) is gone: ", outputs.lease_table_name);
    assert!(message.starts_with(&name) && message.contains("deletionPolicy: Retain"), "{message}");
    let settings = crate::support::settings();
    let blockage = preview(&system, &account.ports, &settings).await?.blockage.context("blocked")?;
    assert!(message.starts_with(&blockage.message), "{message}\n{}", blockage.message);

    let mut silent = dispatch_operator::engine::progress::Silent;
    dispatch_operator::engine::destroy::destroy(&system, &account.ports, &settings, &mut silent).await?;
    assert!(apply(&system, &account.ports).await?.0.is_ready());
    Ok(())
}
