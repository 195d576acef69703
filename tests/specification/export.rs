//! Spec §7.7: an export that the operator's adapter starts writes the specification's lines to the bucket.
//!
//! Runs against moto, which writes the objects. ministack reports a completed export but writes none.

use std::io::Read as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, PointInTimeRecoverySpecification,
    ScalarAttributeType,
};
use dispatch_api::dispatch_system::ExportFormat;
use dispatch_operator::cloud::aws::AwsClients;
use dispatch_operator::cloud::ports::{Export, ExportExtent, ExportRequest, Ports};
use dispatch_tests::moto::Moto;
use serde_json::Value;

use super::fixture;

const REGION: &str = "ap-northeast-2";
const BUCKET: &str = "coactus-default-seoul-exports-123456789012";
/// moto exports one item within milliseconds.
const EXPORTED_WITHIN: Duration = Duration::from_secs(30);

/// Creates a table with point-in-time recovery and this one item; returns its ARN.
async fn table_with(item: Value, clients: &AwsClients) -> anyhow::Result<String> {
    let dynamodb = aws_sdk_dynamodb::Client::new(clients.config());
    let key = |name: &str, kind: KeyType| KeySchemaElement::builder().attribute_name(name).key_type(kind).build();
    let text =
        |name: &str| AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S).build();
    let made = dynamodb
        .create_table()
        .table_name("coactus-default-seoul")
        .billing_mode(BillingMode::PayPerRequest)
        .key_schema(key("PK", KeyType::Hash)?)
        .key_schema(key("SK", KeyType::Range)?)
        .attribute_definitions(text("PK")?)
        .attribute_definitions(text("SK")?)
        .send()
        .await?;
    let recovery = PointInTimeRecoverySpecification::builder().point_in_time_recovery_enabled(true).build()?;
    dynamodb
        .update_continuous_backups()
        .table_name("coactus-default-seoul")
        .point_in_time_recovery_specification(recovery)
        .send()
        .await?;
    let item: std::collections::HashMap<String, AttributeValue> = serde_dynamo::to_item(item)?;
    dynamodb.put_item().table_name("coactus-default-seoul").set_item(Some(item)).send().await?;
    made.table_description.and_then(|table| table.table_arn).context("the table has an ARN")
}

async fn exported(ports: &Ports, table_arn: String) -> anyhow::Result<Export> {
    let request = ExportRequest {
        table_arn,
        bucket: BUCKET.to_owned(),
        bucket_owner: "123456789012".to_owned(),
        prefix: "exports".to_owned(),
        format: ExportFormat::DynamoDbJson,
        extent: ExportExtent::Full,
        token: "export-of-the-test".to_owned(),
    };
    let mut export = ports.exports.start(&request).await?;
    let deadline = tokio::time::Instant::now() + EXPORTED_WITHIN;
    while export.state == "IN_PROGRESS" {
        ensure!(tokio::time::Instant::now() < deadline, "the export did not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
        export = ports.exports.describe(&export.arn).await?;
    }
    Ok(export)
}

/// The lines of all data files below the prefix.
async fn lines_in_bucket(endpoint: &str) -> anyhow::Result<Vec<Value>> {
    let listing = reqwest::get(format!("{endpoint}/{BUCKET}?list-type=2&prefix=exports/")).await?.text().await?;
    let mut lines = Vec::new();
    let keys = listing.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next());
    for key in keys.filter(|key| key.contains("/data/")) {
        // The emulator does not verify signatures, but denies private objects to a request without one.
        let object = reqwest::Client::new().get(format!("{endpoint}/{BUCKET}/{key}"));
        let signed = object.header("authorization", "AWS4-HMAC-SHA256 Credential=test/20250525/x/s3/aws4_request");
        let packed = signed.send().await?.error_for_status()?.bytes().await?;
        let mut text = String::new();
        flate2::read::GzDecoder::new(packed.as_ref()).read_to_string(&mut text)?;
        for line in text.lines() {
            lines.push(serde_json::from_str(line)?);
        }
    }
    Ok(lines)
}

/// Whether `value` contains everything in `shape`: members by name, list entries by position.
fn holds(value: &Value, shape: &Value) -> bool {
    match (value, shape) {
        (Value::Object(value), Value::Object(shape)) => {
            shape.iter().all(|(name, part)| value.get(name).is_some_and(|found| holds(found, part)))
        }
        (Value::Array(value), Value::Array(shape)) => {
            value.len() >= shape.len() && shape.iter().zip(value).all(|(part, found)| holds(found, part))
        }
        (value, shape) => value == shape,
    }
}

#[tokio::test]
async fn an_exported_dispatch_is_the_line_of_section_7_7() -> anyhow::Result<()> {
    let moto = Moto::start().await?;
    let clients = AwsClients::emulated(REGION, &moto.endpoint()).await;
    let line = fixture("7.7-export-line");
    let mut item = fixture("6-dispatch");
    // The ride of spec §6 in the state of spec §7.7: completed, paid, with one route point.
    item["PK"] = "dispatch#00001".into();
    item["status"] = "COMPLETED".into();
    item["actualFare"] = 12000.into();
    let point: Value = serde_dynamo_json(&line["Item"]["route"]["L"][0]);
    item["route"] = Value::Array(vec![point]);
    let table_arn = table_with(item, &clients).await?;
    reqwest::Client::new().put(format!("{}/{BUCKET}", moto.endpoint())).send().await?.error_for_status()?;

    let export = exported(&clients.ports(), table_arn).await?;

    assert_eq!(export.state, "COMPLETED");
    let lines = lines_in_bucket(&moto.endpoint()).await?;
    assert_eq!(lines.len(), 1, "one item, one line");
    assert!(holds(&lines[0], &line), "{:#}", lines[0]);
    Ok(())
}

/// Converts a value in DynamoDB JSON to plain JSON.
fn serde_dynamo_json(typed: &Value) -> Value {
    let (kind, value) = typed.as_object().and_then(|object| object.iter().next()).expect("one type descriptor");
    match kind.as_str() {
        "N" => serde_json::from_str(value.as_str().expect("a number in quotes")).expect("a number"),
        "M" => {
            let fields = value.as_object().expect("a map").iter();
            fields
                .map(|(name, field)| (name.clone(), serde_dynamo_json(field)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        }
        _ => value.clone(),
    }
}
