//! Snapshots of what people read.

use dispatch_api::dispatch_system::ApprovalPolicy;

use super::*;
use crate::plan::PartStep;
use crate::ports::QueueSettings;
use crate::testing::system;

fn change(kind: ChangeKind, logical_id: &str, resource_type: &str, properties: &[&str]) -> ResourceChange {
    ResourceChange {
        kind,
        properties: properties.iter().map(|&name| name.to_owned()).collect(),
        ..ResourceChange::added(logical_id, resource_type)
    }
}

fn every_kind() -> Plan {
    let replaced = ResourceChange {
        replacement: Replacement::Certain,
        forcing: vec!["KeySchema".to_owned()],
        ..change(ChangeKind::Replace, "Table", "AWS::DynamoDB::Table", &["BillingMode", "KeySchema"])
    };
    let maybe = ResourceChange {
        replacement: Replacement::Possible,
        forcing: vec!["Dimensions".to_owned()],
        ..change(ChangeKind::Replace, "OffersQueueAgeAlarm", "AWS::CloudWatch::Alarm", &["Dimensions"])
    };
    let changes = vec![
        change(ChangeKind::Add, "Api", "AWS::ApiGatewayV2::Api", &[]),
        change(ChangeKind::Change, "OffersQueue", "AWS::SQS::Queue", &["MessageRetentionPeriod", "Tags"]),
        maybe,
        replaced,
        change(ChangeKind::Remove, "ExportBucket", "AWS::S3::Bucket", &[]),
    ];
    let settings = QueueSettings {
        retention_seconds: 345_600,
        visibility_timeout_seconds: 30,
        max_receive_count: Some(5),
        dead_letter_arn: None,
    };
    let parts = vec![
        PartStep::EnableRecovery,
        PartStep::CorrectQueue {
            name: "offers",
            url: "http://q".to_owned(),
            settings,
            differences: vec!["queues.offers.visibilityTimeoutSeconds: 1 instead of 30".to_owned()],
        },
    ];
    Plan::new("hash", StackStep::Update, changes, parts)
}

#[test]
fn a_plan_shows_every_kind_of_change() {
    insta::assert_snapshot!(plan(&system(), &every_kind()));
}

#[test]
fn a_plan_is_a_document_too() {
    let (system, plan) = (system(), every_kind());
    insta::assert_yaml_snapshot!(PlanDocument::new(&system, &plan));
}

#[test]
fn an_empty_plan_says_so() {
    let nothing = Plan::new("hash", StackStep::UpToDate, Vec::new(), Vec::new());
    assert_eq!(plan(&system(), &nothing), "default/seoul: nothing to do, the environment is as the manifest says\n");
    let mut always = system();
    always.spec.approval_policy = ApprovalPolicy::Always;
    assert!(!plan(&always, &nothing).contains("approval"));
}

#[test]
fn events_are_aligned_and_coloured_only_when_wanted() {
    let failed = Event::Stack(StackEvent {
        id: "1".to_owned(),
        at: "2024-05-02T03:04:05Z".parse().expect("a time"),
        logical_id: "OffersQueue".to_owned(),
        physical_id: None,
        resource_type: "AWS::SQS::Queue".to_owned(),
        status: "CREATE_FAILED".to_owned(),
        reason: Some("The queue exists.".to_owned()),
    });
    assert_eq!(
        event(&failed, false),
        "    03:04:05  CREATE_FAILED       AWS::SQS::Queue                     OffersQueue  The queue exists."
    );
    assert!(event(&failed, true).contains("\x1b[31mCREATE_FAILED"));
}
