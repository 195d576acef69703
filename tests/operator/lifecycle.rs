//! The whole life of a system: create, no-op, update, drift, destroy.

use anyhow::Context as _;
use dispatch_api::conditions::{ConditionType, Reason};
use dispatch_operator::cloud::aws::AwsClients;
use dispatch_operator::cloud::ports::QueueSettings;
use dispatch_operator::cloud::{ChangeKind, ResourceChange};
use dispatch_operator::engine::destroy::destroy;
use dispatch_operator::engine::export;
use dispatch_operator::engine::plan::{DirectStep, StackStep};
use dispatch_operator::engine::preview::preview;
use dispatch_operator::engine::progress::{Event, Silent};
use dispatch_operator::engine::reconcile::reconcile;
use dispatch_operator::testing::fcm_key;
use dispatch_tests::ministack::{Ministack, REGION};
use secrecy::ExposeSecret as _;

use crate::support::{SEOUL, apply, condition, seoul, settings};

#[tokio::test]
async fn a_system_is_created_unchanged_updated_corrected_and_destroyed() -> anyhow::Result<()> {
    let ministack = Ministack::start().await?;
    let aws = AwsClients::emulated(REGION, &ministack.endpoint()).await;
    let ports = aws.ports();
    let system = seoul(SEOUL)?;

    let plan = preview(&system, &ports, &settings()).await?;
    assert_eq!(plan.stack, StackStep::Create);
    assert!(plan.changes.iter().all(|change| change.kind == ChangeKind::Add));

    let (created, events) = apply(&system, &ports).await?;
    assert!(created.is_ready(), "{:#?}", created.status);
    assert!(created.changed);
    assert_eq!(created.status.stack_status.as_deref(), Some("CREATE_COMPLETE"));
    assert!(events.iter().any(|e| matches!(e, Event::Stack(s) if s.resource_type == "AWS::DynamoDB::Table")));
    let outputs = created.outputs.context("outputs")?;
    assert_eq!(outputs.table_name, "coactus-default-seoul");
    assert!(outputs.stream_arn.contains("/stream/"), "{outputs:?}");

    let (same, events) = apply(&system, &ports).await?;
    assert!(same.is_ready() && !same.changed, "{:#?}", same.status);
    assert_eq!(events, [], "nothing happens and nothing is reported");
    assert!(preview(&system, &ports, &settings()).await?.is_empty());

    let longer = seoul(&SEOUL.replacen("retentionSeconds: 345600", "retentionSeconds: 600000", 1))?;
    let plan = preview(&longer, &ports, &settings()).await?;
    // Resources that read the queue's attributes are listed too: CloudFormation cannot predict that they stay the same.
    let queue = plan.changes.iter().find(|change| change.logical_id == "OffersQueue").context("the queue's change")?;
    assert_eq!((queue.kind, queue.properties.join(",")), (ChangeKind::Change, "MessageRetentionPeriod".to_owned()));
    assert!(!plan.changes.iter().any(ResourceChange::endangers_data), "{:#?}", plan.changes);
    let (updated, _) = apply(&longer, &ports).await?;
    assert!(updated.is_ready() && updated.changed, "{:#?}", updated.status);
    assert_eq!(updated.status.stack_status.as_deref(), Some("UPDATE_COMPLETE"));
    let settings_of_offers = ports.queues.settings(&outputs.offers_queue_url).await?.context("the queue")?;
    assert_eq!(settings_of_offers.retention_seconds, 600_000);

    let shorter = QueueSettings { visibility_timeout_seconds: 1, ..settings_of_offers };
    ports.queues.correct(&outputs.offers_queue_url, &shorter).await?;
    let (corrected, _) = apply(&longer, &ports).await?;
    assert!(corrected.is_ready() && corrected.changed);
    assert!(
        matches!(corrected.plan.parts.as_slice(), [DirectStep::CorrectQueue { name: "offers", .. }]),
        "{:?}",
        corrected.plan
    );

    let exported = export::start(&longer, &ports, &mut Silent).await?;
    let exported = export::follow(exported, &ports, settings().wait_policy, &mut Silent).await?;
    assert_eq!(exported.state, "COMPLETED");
    assert_eq!(export::last(&longer, &ports).await?, Some(exported));

    let gone = destroy(&longer, &ports, &settings(), &mut Silent).await?;
    assert!(gone.kept.contains(&("AWS::DynamoDB::Table".to_owned(), outputs.table_name)), "{:?}", gone.kept);
    assert!(ports.stacks.describe(&longer.names.stack).await?.is_none());
    assert!(!destroy(&longer, &ports, &settings(), &mut Silent).await?.changed);
    Ok(())
}

#[tokio::test]
async fn a_deletion_with_data_leaves_nothing() -> anyhow::Result<()> {
    let ministack = Ministack::start().await?;
    let ports = AwsClients::emulated(REGION, &ministack.endpoint()).await.ports();
    let system = seoul(&SEOUL.replace("deletionPolicy: Retain ", "deletionPolicy: Delete "))?;
    assert!(apply(&system, &ports).await?.0.is_ready());
    let gone = destroy(&system, &ports, &settings(), &mut Silent).await?;
    assert_eq!(gone.kept, []);
    assert_eq!(ports.tables.recovery(&system.names.table).await?, None, "the table is gone");
    Ok(())
}

#[tokio::test]
async fn the_push_credential_reaches_sns_and_is_deleted_with_the_system() -> anyhow::Result<()> {
    let ministack = Ministack::start().await?;
    let clients = AwsClients::emulated(REGION, &ministack.endpoint()).await;
    let ports = clients.ports();
    let fcm = "notifications: { fcm: { serviceAccountSecretRef: { name: fcm, key: key.json } } }\n  cache:";
    let system = seoul(&SEOUL.replacen("cache:", fcm, 1))?;
    let error = reconcile(&system, &ports, &settings(), &mut Silent).await.err().context("no secret was given")?;
    assert!(error.to_string().contains("fcm/key.json"), "{error}");
    let mut with_key = settings();
    with_key.secrets.insert("fcm", "key.json", fcm_key());
    let done = reconcile(&system, &ports, &with_key, &mut Silent).await?;
    assert!(done.is_ready(), "{:#?}", done.status);
    let arn = done.outputs.and_then(|outputs| outputs.platform_application_arn).context("an application")?;
    assert!(ports.push.exists(&arn).await?);
    assert!(!reconcile(&system, &ports, &with_key, &mut Silent).await?.changed);

    // SNS disables an application whose key FCM rejects.
    let sns = aws_sdk_sns::Client::new(clients.config());
    let disable = sns.set_platform_application_attributes().platform_application_arn(&arn);
    disable.attributes("Enabled", "false").send().await?;
    let disabled = reconcile(&system, &ports, &with_key, &mut Silent).await?;
    assert!(disabled.is_ready(), "{:#?}", disabled.status);
    assert_eq!(condition(&disabled, ConditionType::PushReady).0, Reason::PushDisabled);
    let other = fcm_key().expose_secret().replace("not a key", "another key");
    with_key.secrets.insert("fcm", "key.json", other.into());
    let repaired = reconcile(&system, &ports, &with_key, &mut Silent).await?;
    assert_eq!(condition(&repaired, ConditionType::PushReady).0, Reason::PushEnabled);
    destroy(&system, &ports, &settings(), &mut Silent).await?;
    assert!(!ports.push.exists(&arn).await?);
    Ok(())
}
