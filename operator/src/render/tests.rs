//! Snapshots of the rendered texts.

use dispatch_api::conditions::Reason;
use dispatch_api::dispatch_system::ApprovalPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::*;
use crate::cloud::ports::QueueSettings;
use crate::cloud::{MonthlyCost, Replacement};
use crate::engine::plan::DirectStep;
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
    let value = |path: &str, before: Option<&str>, after: Option<&str>| PropertyValue {
        path: path.to_owned(),
        before: before.map(str::to_owned),
        after: after.map(str::to_owned),
        live: None,
    };
    let retention = ResourceChange {
        values: vec![value("MessageRetentionPeriod", Some("345600"), Some("600000")), value("Tags", None, Some("[]"))],
        ..change(ChangeKind::Change, "OffersQueue", "AWS::SQS::Queue", &["MessageRetentionPeriod", "Tags"])
    };
    let alarm = |id| change(ChangeKind::Change, id, "AWS::CloudWatch::Alarm", &["AlarmActions"]);
    let changes = vec![
        change(ChangeKind::Add, "Api", "AWS::ApiGatewayV2::Api", &[]),
        ResourceChange {
            cost: MonthlyCost::By(23_360_000),
            ..change(
                ChangeKind::Change,
                "ReplicationGroup",
                "AWS::ElastiCache::ReplicationGroup",
                &["NumCacheClusters"],
            )
        },
        retention,
        alarm("TableReadAlarm"),
        alarm("TableWriteAlarm"),
        alarm("ResponsesQueueAgeAlarm"),
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
        DirectStep::EnableRecovery,
        DirectStep::CorrectQueue {
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
    assert_eq!(
        plan(&system(), &nothing),
        "default/seoul: no changes: the stack has the manifest's template; the existence of the stack's resources was \
         not checked\n"
    );
    let mut always = system();
    always.spec.approval_policy = ApprovalPolicy::Always;
    assert!(!plan(&always, &nothing).contains("approval"));
}

#[test]
fn a_blocked_plan_says_why_and_is_never_in_sync() {
    let message = "OffersQueue (AWS::SQS::Queue http://q) is gone: restore \u{1b}[2J it".to_owned();
    let blockage = Some(Blockage { reason: Reason::ResourceGone, message });
    let nothing = Plan::new("hash", StackStep::UpToDate, Vec::new(), Vec::new());
    let blocked = Plan { blockage: blockage.clone(), ..nothing };
    let first = "default/seoul: blocked (ResourceGone), an apply does not reach the manifest: OffersQueue \
                 (AWS::SQS::Queue http://q) is gone: restore \\u{1b}[2J it\n";
    assert_eq!(plan(&system(), &blocked), first);
    let system = system();
    let json = serde_json::to_value(PlanDocument::new(&system, &blocked)).expect("JSON");
    assert_eq!((json["verdict"].as_str(), json["changesPending"].as_bool()), (Some("blocked"), Some(false)));
    assert_eq!(json["blocked"]["reason"], "ResourceGone");

    let both = Plan { blockage, ..every_kind() };
    let text = plan(&system, &both);
    assert!(text.starts_with(first) && text.contains("1 to remove"), "{text}");
    for (plan, verdict) in [(every_kind(), "changes"), (Plan { blockage: None, ..blocked }, "inSync")] {
        let json = serde_json::to_value(PlanDocument::new(&system, &plan)).expect("JSON");
        assert_eq!(json["verdict"], verdict);
        assert!(json["blocked"].is_null());
    }
}

fn conditions(pairs: &[(&str, &str, &str, &str)]) -> Vec<Condition> {
    let at = Time("2024-05-02T03:00:00Z".parse().expect("a time"));
    let one = |(kind, status, reason, message): &(&str, &str, &str, &str)| Condition {
        type_: (*kind).to_owned(),
        status: (*status).to_owned(),
        reason: (*reason).to_owned(),
        message: (*message).to_owned(),
        observed_generation: Some(1),
        last_transition_time: at.clone(),
    };
    pairs.iter().map(one).collect()
}

#[test]
fn a_status_shows_conditions_outputs_resources_and_the_last_export() {
    let cause = "Table (AWS::DynamoDB::Table) UPDATE_FAILED: Subscriber limit exceeded";
    let shown = DispatchSystemStatus {
        conditions: conditions(&[
            ("Ready", "False", "UpdateRolledBack", cause),
            ("Stalled", "True", "UpdateRolledBack", cause),
            ("Drifted", "True", "DriftDetected", "queues.offers.visibilityTimeoutSeconds: 45 instead of 30"),
        ]),
        stack_status: Some("UPDATE_ROLLBACK_COMPLETE".to_owned()),
        outputs: Some(OutputsStatus {
            table_name: "coactus-default-seoul".to_owned(),
            stream_arn: "arn:stream".to_owned(),
            lease_table_name: "coactus-default-seoul-leases".to_owned(),
            offers_queue_url: "https://sqs.example/offers".to_owned(),
            responses_queue_url: "https://sqs.example/responses".to_owned(),
            notifications_queue_url: "https://sqs.example/notifications".to_owned(),
            topic_arn: "arn:topic".to_owned(),
            cache_url: "rediss://cache.example:6379".to_owned(),
            export_bucket: "coactus-default-seoul-exports-000000000000".to_owned(),
            ..OutputsStatus::default()
        }),
        last_export: Some(ExportStatus {
            export_arn: "arn:aws:dynamodb:ap-northeast-2:000000000000:table/coactus-default-seoul/export/1".to_owned(),
            state: "COMPLETED".to_owned(),
            item_count: Some(3),
            ..ExportStatus::default()
        }),
        ..DispatchSystemStatus::default()
    };
    let resource = |id: &str, kind: &str, state: &str, reason: Option<&str>| StackResource {
        logical_id: id.to_owned(),
        physical_id: None,
        resource_type: kind.to_owned(),
        status: state.to_owned(),
        reason: reason.map(str::to_owned),
    };
    let resources = [
        resource("Table", "AWS::DynamoDB::Table", "UPDATE_FAILED", Some("Subscriber limit exceeded")),
        resource("OffersQueue", "AWS::SQS::Queue", "UPDATE_COMPLETE", None),
    ];
    insta::assert_snapshot!(status(&system(), &shown, &resources));
}

#[test]
fn events_are_aligned_and_coloured_only_on_request() {
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

#[test]
fn texts_of_others_steer_no_terminal() {
    let steering = "\u{1b}]0;title\u{7}\u{202e}";
    let stack = Event::Stack(StackEvent {
        id: "1".to_owned(),
        at: "2024-05-02T03:04:05Z".parse().expect("a time"),
        logical_id: format!("Queue{steering}"),
        physical_id: None,
        resource_type: format!("AWS::SQS::Queue{steering}"),
        status: format!("CREATE_FAILED{steering}"),
        reason: Some(format!("line\nbreak{steering}")),
    });
    let changed = change(ChangeKind::Change, &format!("Queue{steering}"), "AWS::SQS::Queue", &["a\u{9b}2J"]);
    for event in [
        stack,
        Event::Step(format!("step {steering}")),
        Event::Note(format!("note {steering}")),
        Event::Rollback(format!("rollback {steering}")),
        Event::ResourcesSkipped("rollback".to_owned(), vec![format!("id {steering}")]),
        Event::Changes(vec![changed]),
    ] {
        let text = super::event(&event, false);
        assert!(!text.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{text:?}");
    }
}
