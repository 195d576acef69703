//! One IAM role for each worker role, with the permissions of that role only.
//!
//! EKS Pod Identity provides the roles: only its service may assume them, for Pods of this account and of the namespace
//! of the system. Every resource is named exactly, with two exceptions for ids that services generate: the endpoint of
//! a device in the platform application, and the label of a stream of the table. That label changes when the stream is
//! disabled and enabled while the earlier stream is still read.

use dispatch_api::validate::ValidatedSystem;
use serde_json::{Value, json};

use crate::engine::plan::template::fragment::{
    Resource, TemplateFragment, allow, attribute, local_arn, policy_document, reference, sub,
};
use crate::engine::plan::template::queues::queue_arn;
use crate::engine::plan::template::table::{GSI1, GSI2, LEASE_TABLE, TABLE};
use crate::engine::plan::template::{ids, outputs};

/// Permissions on the table for roles that change dispatches. A transaction requires the permissions of its single
/// actions. No role scans or deletes: items that may be removed have an expiry.
const READ_WRITE: [&str; 6] = [
    "dynamodb:BatchGetItem",
    "dynamodb:ConditionCheckItem",
    "dynamodb:GetItem",
    "dynamodb:PutItem",
    "dynamodb:Query",
    "dynamodb:UpdateItem",
];
const LEASES: [&str; 5] =
    ["dynamodb:BatchGetItem", "dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"];
const STREAM: [&str; 3] = ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"];
const CONSUME: [&str; 4] =
    ["sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"];

/// Policy with the permissions of all four roles: each changes dispatches, and a change writes the dispatch, its people
/// and their histories in one transaction.
const DATA_POLICY: &str = "WorkerDataPolicy";

pub(super) fn part(system: &ValidatedSystem) -> TemplateFragment {
    let names = &system.names;
    let mut part = TemplateFragment::default();
    part.resource(DATA_POLICY, data_policy(system));
    for (logical_id, output, role, statements) in [
        ("SaveDispatchRole", outputs::SAVE_DISPATCH_ROLE_ARN, "save-dispatch", Vec::new()),
        (
            "DispatchAlgorithmRole",
            outputs::DISPATCH_ALGORITHM_ROLE_ARN,
            "dispatch-algorithm",
            vec![
                allow("Stream", &STREAM, table_arn(TABLE, "/stream/*")),
                allow("Leases", &LEASES, table_arn(LEASE_TABLE, "")),
                // Timers, stream records that cannot be processed, and outcomes of offers by timeout or auto-accept.
                allow(
                    "Send",
                    &["sqs:SendMessage"],
                    json!([
                        queue_arn(&names.offers_queue),
                        queue_arn(&format!("{}-dlq", names.offers_queue)),
                        queue_arn(&names.responses_queue),
                    ]),
                ),
                allow("TakeTimers", &CONSUME, queue_arn(&names.offers_queue)),
                publish(),
            ],
        ),
        ("DriverResponseRole", outputs::DRIVER_RESPONSE_ROLE_ARN, "driver-response", driver_response(system)),
        ("StatusUpdateRole", outputs::STATUS_UPDATE_ROLE_ARN, "status-update", vec![publish()]),
    ] {
        part.resource(logical_id, worker_role(system, role, &statements));
        part.output(output, &attribute(logical_id, "Arn"));
    }
    part
}

fn data_policy(system: &ValidatedSystem) -> Resource {
    let statements = [Some(table_access()), use_of_key(system)];
    Resource::new(
        "AWS::IAM::ManagedPolicy",
        json!({
            "Path": path(system),
            "Description": format!("What all workers of {}/{} may do", system.namespace, system.name),
            "PolicyDocument": policy_document(statements.into_iter().flatten()),
        }),
    )
}

fn worker_role(system: &ValidatedSystem, role: &str, statements: &[Value]) -> Resource {
    let own = json!([{ "PolicyName": role, "PolicyDocument": policy_document(statements.iter().cloned()) }]);
    Resource::new(
        "AWS::IAM::Role",
        json!({
            "Path": path(system),
            "Description": format!("{role} workers of {}/{}", system.namespace, system.name),
            "AssumeRolePolicyDocument": trust(system),
            "PermissionsBoundary": system.spec.aws.permissions_boundary_arn,
            "ManagedPolicyArns": [reference(DATA_POLICY)],
            "Policies": (!statements.is_empty()).then_some(own),
        }),
    )
}

/// Roles and policies have generated names, because IAM names are unique in an account and the same system can exist in
/// several regions. The path identifies the system.
fn path(system: &ValidatedSystem) -> String {
    format!("/coactus/{}/{}/", system.namespace, system.name)
}

/// Pod Identity always sets this session tag ("EKS Pod Identity session tags").
fn trust(system: &ValidatedSystem) -> Value {
    policy_document([json!({
        "Effect": "Allow",
        "Principal": { "Service": "pods.eks.amazonaws.com" },
        "Action": ["sts:AssumeRole", "sts:TagSession"],
        "Condition": {
            "StringEquals": {
                "aws:SourceAccount": { "Ref": "AWS::AccountId" },
                "aws:RequestTag/kubernetes-namespace": system.namespace,
            },
        },
    })])
}

fn table_access() -> Value {
    let index = |name: &str| table_arn(TABLE, &format!("/index/{name}"));
    allow("Table", &READ_WRITE, json!([table_arn(TABLE, ""), index(GSI1), index(GSI2)]))
}

/// As text, for the reason described at [`queue_arn`].
fn table_arn(logical_id: &str, behind: &str) -> Value {
    local_arn("dynamodb", &format!("table/${{{logical_id}}}{behind}"))
}

/// By reading the attributes, a worker finds out at its start whether the topic exists.
fn publish() -> Value {
    allow("Publish", &["sns:GetTopicAttributes", "sns:Publish"], reference(ids::TOPIC))
}

/// Records the answers of drivers and delivers notifications to devices.
fn driver_response(system: &ValidatedSystem) -> Vec<Value> {
    let names = &system.names;
    let mut statements = vec![
        allow("SendResponses", &["sqs:SendMessage"], queue_arn(&names.responses_queue)),
        allow(
            "TakeMessages",
            &CONSUME,
            json!([queue_arn(&names.responses_queue), queue_arn(&names.notifications_queue)]),
        ),
        publish(),
    ];
    if system.spec.notifications.fcm.is_some() {
        let application = &names.platform_application;
        let application_arn = local_arn("sns", &format!("app/GCM/{application}"));
        let endpoints = local_arn("sns", &format!("endpoint/GCM/{application}/*"));
        statements.push(allow("RegisterDevices", &["sns:CreatePlatformEndpoint"], application_arn));
        statements.push(allow(
            "PushToDevices",
            &["sns:DeleteEndpoint", "sns:GetEndpointAttributes", "sns:Publish", "sns:SetEndpointAttributes"],
            endpoints,
        ));
    }
    statements
}

/// The customer managed key, only through the services that store the data of this system.
fn use_of_key(system: &ValidatedSystem) -> Option<Value> {
    let key = system.spec.aws.kms_key_arn.as_ref()?;
    let actions = [
        "kms:Decrypt",
        "kms:DescribeKey",
        "kms:Encrypt",
        "kms:GenerateDataKey",
        "kms:ReEncryptFrom",
        "kms:ReEncryptTo",
    ];
    let mut statement = allow("UseKey", &actions, json!(key));
    let services =
        ["dynamodb", "sns", "sqs"].map(|service| sub(&format!("{service}.${{AWS::Region}}.${{AWS::URLSuffix}}")));
    statement["Condition"] = json!({ "StringEquals": { "kms:ViaService": services } });
    Some(statement)
}
