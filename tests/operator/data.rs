//! Data outlives its stack, is imported by the next one, and is deleted only on request.

use anyhow::Context as _;
use aws_sdk_dynamodb::types::AttributeValue;
use dispatch_api::conditions::{ConditionType, Reason};
use dispatch_operator::engine::destroy::destroy;
use dispatch_operator::engine::progress::{Event, Silent};
use dispatch_operator::engine::reconcile::reconcile;
use dispatch_operator::testing::fcm_key;
use secrecy::ExposeSecret as _;

use crate::support::{Account, SEOUL, apply, condition, seoul, settings};

/// Writes an item as a worker would.
async fn write(account: &Account, table: &str) -> anyhow::Result<()> {
    let key = |name: &str| AttributeValue::S(name.to_owned());
    let tables = aws_sdk_dynamodb::Client::new(account.aws.config());
    tables.put_item().table_name(table).item("PK", key("USER#1")).item("SK", key("PROFILE")).send().await?;
    Ok(())
}

async fn items(account: &Account, table: &str) -> anyhow::Result<usize> {
    let tables = aws_sdk_dynamodb::Client::new(account.aws.config());
    Ok(tables.scan().table_name(table).send().await?.items().len())
}

async fn put(account: &Account, bucket: &str, key: &str) -> anyhow::Result<()> {
    let config = aws_sdk_s3::config::Builder::from(account.aws.config()).force_path_style(true).build();
    let objects = aws_sdk_s3::Client::from_conf(config);
    objects.put_object().bucket(bucket).key(key).body(b"one ride".to_vec().into()).send().await?;
    Ok(())
}

#[tokio::test]
async fn a_destroyed_system_that_is_applied_again_has_its_data() -> anyhow::Result<()> {
    let account = Account::start().await?;
    let system = seoul(SEOUL)?;
    let outputs = apply(&system, &account.ports).await?.0.outputs.context("outputs")?;
    write(&account, &outputs.table_name).await?;
    put(&account, &outputs.export_bucket, "exports/one").await?;
    let gone = destroy(&system, &account.ports, &settings(), &mut Silent).await?;
    let kept: Vec<&str> = gone.kept.iter().map(|(_, id)| id.as_str()).collect();
    assert!(kept.contains(&outputs.table_name.as_str()) && kept.contains(&outputs.export_bucket.as_str()), "{kept:?}");
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert_eq!(items(&account, &outputs.table_name).await?, 1);

    let (again, events) = apply(&system, &account.ports).await?;
    assert!(again.is_ready(), "{:#?}", again.status);
    assert!(
        events.iter().any(|event| matches!(event, Event::Step(text) if text.starts_with("importing retained data")))
    );
    assert_eq!(items(&account, &outputs.table_name).await?, 1, "the item still exists");
    assert_eq!(again.outputs.context("outputs")?.export_bucket, outputs.export_bucket);
    assert!(!apply(&system, &account.ports).await?.0.changed);
    // Imported data is retained again.
    destroy(&system, &account.ports, &settings(), &mut Silent).await?;
    assert_eq!(items(&account, &outputs.table_name).await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_table_of_another_owner_is_not_imported() -> anyhow::Result<()> {
    let account = Account::start().await?;
    let first = seoul(SEOUL)?;
    assert!(apply(&first, &account.ports).await?.0.is_ready());
    destroy(&first, &account.ports, &settings(), &mut Silent).await?;
    let named = SEOUL.replacen("name: seoul", "name: incheon", 1);
    let mut other = seoul(&named)?;
    other.names.table.clone_from(&first.names.table);
    let (refused, _) = apply(&other, &account.ports).await?;
    let (reason, message) = condition(&refused, ConditionType::Stalled);
    assert_eq!(reason, Reason::OwnedByAnother);
    assert!(message.contains("default/seoul"), "{message}");
    assert!(account.ports.stacks.describe(&other.names.stack).await?.is_none());
    Ok(())
}

#[tokio::test]
async fn a_deletion_with_data_leaves_nothing_even_with_a_full_bucket() -> anyhow::Result<()> {
    let account = Account::start().await?;
    let text = SEOUL.replace("deletionPolicy: Retain ", "deletionPolicy: Delete ");
    let system = seoul(&text)?;
    assert!(system.spec.table.deletion_protection);
    let outputs = apply(&system, &account.ports).await?.0.outputs.context("outputs")?;
    write(&account, &outputs.table_name).await?;
    for _ in 0..3 {
        put(&account, &outputs.export_bucket, "exports/one").await?;
    }
    put(&account, &outputs.export_bucket, "exports/two").await?;
    let gone = destroy(&system, &account.ports, &settings(), &mut Silent).await?;
    assert_eq!(gone.kept, []);
    assert_eq!(account.ports.tables.table(&system.names.table).await?, None);
    assert_eq!(account.ports.buckets.tags(&outputs.export_bucket, "000000000000").await?, None);
    assert!(account.ports.stacks.describe(&system.names.stack).await?.is_none());
    Ok(())
}

#[tokio::test]
async fn retained_data_can_be_deleted_with_the_next_stack() -> anyhow::Result<()> {
    let account = Account::start().await?;
    let keeping = seoul(SEOUL)?;
    let outputs = apply(&keeping, &account.ports).await?.0.outputs.context("outputs")?;
    destroy(&keeping, &account.ports, &settings(), &mut Silent).await?;
    let deleting = seoul(&SEOUL.replace("deletionPolicy: Retain ", "deletionPolicy: Delete "))?;
    let (again, _) = apply(&deleting, &account.ports).await?;
    assert!(again.is_ready(), "{:#?}", again.status);
    assert_eq!(destroy(&deleting, &account.ports, &settings(), &mut Silent).await?.kept, []);
    assert_eq!(account.ports.tables.table(&outputs.table_name).await?, None);
    Ok(())
}

#[tokio::test]
async fn a_rotated_push_key_is_recorded_by_the_stack_and_not_sent_again() -> anyhow::Result<()> {
    let account = Account::start().await?;
    let fcm = "notifications: { fcm: { serviceAccountSecretRef: { name: fcm, key: key.json } } }\n  cache:";
    let system = seoul(&SEOUL.replacen("cache:", fcm, 1))?;
    let mut settings = settings();
    settings.secrets.insert("fcm", "key.json", fcm_key());
    assert!(reconcile(&system, &account.ports, &settings, &mut Silent).await?.is_ready());
    let other = fcm_key().expose_secret().replace("not a key", "another key");
    settings.secrets.insert("fcm", "key.json", other.into());
    let mut sent = 0;
    for run in 0..3 {
        let mut listen = |event: Event| {
            sent += usize::from(matches!(&event, Event::Step(text) if text.starts_with("update the credential")));
        };
        let done = reconcile(&system, &account.ports, &settings, &mut listen).await?;
        assert!(done.is_ready(), "{:#?}", done.status);
        assert_eq!(done.changed, run == 0);
        assert_ne!(condition(&done, ConditionType::Stalled).0, Reason::InvalidPushCredential);
    }
    assert_eq!(sent, 1);
    Ok(())
}
