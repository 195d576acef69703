//! AWS's reference of actions, and the published permissions that this product does not need.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::objects::{output_of, python};

/// Permissions boundary of the roles in a stack. The operator cannot create a role without it.
pub(super) const BOUNDARY: &str = "arn:aws:iam::*:policy/coactus-workers-boundary";
/// Actions that can grant permissions and that support the condition key of the boundary ("Actions, resources, and
/// condition keys for IAM").
pub(super) const BOUNDED: [&str; 6] = [
    "AttachRolePolicy",
    "CreateRole",
    "DeleteRolePolicy",
    "DetachRolePolicy",
    "PutRolePermissionsBoundary",
    "PutRolePolicy",
];
/// The roles in the stacks.
pub(super) const WORKER_ROLES: &str = "arn:aws:iam::*:role/coactus/*";
/// Services that create a service-linked role on first use.
pub(super) const LINKED_SERVICES: [&str; 3] =
    ["dynamodb.application-autoscaling.amazonaws.com", "elasticache.amazonaws.com", "ops.apigateway.amazonaws.com"];

/// Services that hold data, and the scaling of their capacity.
pub(super) const STORES: [&str; 7] =
    ["application-autoscaling", "athena", "dynamodb", "elasticache", "glue", "kms", "s3"];

/// Permissions for the access logs of an HTTP API, besides those of the stage ("Configure logging for HTTP APIs").
pub(super) const ACCESS_LOGS: [&str; 7] = [
    "logs:CreateLogDelivery",
    "logs:DeleteLogDelivery",
    "logs:DescribeResourcePolicies",
    "logs:GetLogDelivery",
    "logs:ListLogDeliveries",
    "logs:PutResourcePolicy",
    "logs:UpdateLogDelivery",
];

/// Operations whose IAM actions have different names ("Required permissions for Amazon S3 API operations").
pub(super) const RENAMED: [(&str, &[&str]); 2] = [
    ("s3:ListObjectVersions", &["s3:ListBucketVersions"]),
    ("s3:DeleteObjects", &["s3:DeleteObject", "s3:DeleteObjectVersion"]),
];

/// Actions of which AWS's sources disagree whether they have resources: the service reference names one, the tables of
/// the service authorization reference none. A statement that named resources would then allow nothing. They read or
/// end subscriptions, and list exports by the ARN of a table.
pub(super) const UNSURE: [(&str, &str); 4] = [
    ("dynamodb", "ListExports"),
    ("sns", "GetSubscriptionAttributes"),
    ("sns", "SetSubscriptionAttributes"),
    ("sns", "Unsubscribe"),
];

/// Returns a policy statement.
type Statement = fn() -> Value;

/// Permissions that a call needs besides the action of its name.
pub(super) const ALONGSIDE: [(&str, Statement); 6] = [
    // "Grant Pods access to AWS resources based on tags": the session tags of EKS Pod Identity are transitive, so that
    // assuming another role passes them on.
    ("sts:AssumeRole", || {
        json!({
            "Sid": "TagSessions",
            "Effect": "Allow",
            "Action": ["sts:TagSession"],
            "Resource": resources_of("sts"),
        })
    }),
    // "Requesting a table export in DynamoDB": DynamoDB writes with the caller's permissions. The bucket must belong to
    // the account.
    ("dynamodb:ExportTableToPointInTime", || {
        json!({
            "Sid": "WriteExports",
            "Effect": "Allow",
            "Action": ["s3:AbortMultipartUpload", "s3:PutObject", "s3:PutObjectAcl"],
            "Resource": ["arn:aws:s3:::coactus-*-exports-*/*"],
            "Condition": { "StringEquals": { "s3:ResourceAccount": "${aws:PrincipalAccount}" } },
        })
    }),
    // "Using server-side encryption with AWS KMS keys": permissions for a multipart upload.
    ("dynamodb:ExportTableToPointInTime", || {
        json!({
            "Sid": "EncryptExports",
            "Effect": "Allow",
            "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
            "Resource": ["arn:aws:kms:*:*:key/*"],
            "Condition": { "StringLike": { "kms:ViaService": "s3.*.amazonaws.com" } },
        })
    }),
    // Stack tags are part of the change set.
    ("cloudformation:CreateChangeSet", || {
        json!({
            "Sid": "TagStacks",
            "Effect": "Allow",
            "Action": ["cloudformation:TagResource", "cloudformation:UntagResource"],
            "Resource": resources_of("cloudformation"),
        })
    }),
    // "Create a queue with tags" and "Create a topic with tags": a queue or topic that was deleted is created again
    // with the tags of its stack.
    (
        "sqs:CreateQueue",
        || json!({ "Sid": "TagQueues", "Effect": "Allow", "Action": ["sqs:TagQueue"], "Resource": resources_of("sqs") }),
    ),
    ("sns:CreateTopic", || {
        json!({
            "Sid": "TagTopics",
            "Effect": "Allow",
            "Action": ["sns:TagResource"],
            "Resource": ["arn:aws:sns:*:*:coactus-*"],
        })
    }),
];

/// The resources of the product. Names start with `coactus-`, paths with `/coactus/`. API Gateways and scalable targets
/// have ids generated by AWS, and a KMS key belongs to the account: its key policy decides who may use it.
pub(super) fn resources_of(service: &str) -> &'static [&'static str] {
    match service {
        "apigateway" => &[
            "arn:aws:apigateway:*::/apis",
            "arn:aws:apigateway:*::/apis/*",
            "arn:aws:apigateway:*::/tags/*",
            "arn:aws:apigateway:*::/vpclinks",
            "arn:aws:apigateway:*::/vpclinks/*",
        ],
        "application-autoscaling" => &["arn:aws:application-autoscaling:*:*:scalable-target/*"],
        "athena" => &["arn:aws:athena:*:*:workgroup/coactus-*"],
        "cloudformation" => &["arn:aws:cloudformation:*:*:stack/coactus-*/*"],
        "cloudwatch" => &["arn:aws:cloudwatch:*:*:alarm:coactus-*"],
        "dynamodb" => &["arn:aws:dynamodb:*:*:table/coactus-*"],
        "elasticache" => &[
            "arn:aws:elasticache:*:*:cluster:coactus-*",
            "arn:aws:elasticache:*:*:parametergroup:coactus-*",
            "arn:aws:elasticache:*:*:replicationgroup:coactus-*",
            "arn:aws:elasticache:*:*:subnetgroup:coactus-*",
            // Of a cache without `spec.cache.subnetIds`.
            "arn:aws:elasticache:*:*:subnetgroup:default",
        ],
        "eks" => &["arn:aws:eks:*:*:cluster/*", "arn:aws:eks:*:*:podidentityassociation/*/*"],
        "glue" => &[
            "arn:aws:glue:*:*:catalog",
            "arn:aws:glue:*:*:database/coactus_*",
            "arn:aws:glue:*:*:table/coactus_*/*",
            // `DeleteDatabase` is authorized for the functions of the database, too.
            "arn:aws:glue:*:*:userDefinedFunction/coactus_*/*",
        ],
        "iam" => &["arn:aws:iam::*:policy/coactus/*", "arn:aws:iam::*:role/coactus/*"],
        "kms" => &["arn:aws:kms:*:*:key/*"],
        "logs" => &["arn:aws:logs:*:*:log-group:/aws/vendedlogs/coactus/*", "arn:aws:logs:*:*:log-group:/coactus/*"],
        "s3" => &["arn:aws:s3:::coactus-*-exports-*"],
        // The topic, and the device endpoints of the platform application.
        "sns" => &["arn:aws:sns:*:*:coactus-*", "arn:aws:sns:*:*:endpoint/GCM/coactus-*"],
        "sqs" => &["arn:aws:sqs:*:*:coactus-*"],
        // `spec.aws.roleArn`: a city in another account. The trust policy in that account decides as well.
        "sts" => &["arn:aws:iam::*:role/coactus-*"],
        other => panic!("{other} is new: add the product's resources of this service"),
    }
}

/// Published permissions of the handlers for features that no template uses, with the reason.
pub(super) const UNUSED: [(&str, &[&str]); 11] = [
    (
        "policies are attached to roles only",
        &["iam:AttachGroupPolicy", "iam:AttachUserPolicy", "iam:DetachGroupPolicy", "iam:DetachUserPolicy"],
    ),
    (
        "boundaries are never removed, and service-linked roles are never deleted",
        &["iam:DeleteRolePermissionsBoundary", "iam:DeleteServiceLinkedRole", "iam:GetServiceLinkedRoleDeletionStatus"],
    ),
    ("an API is defined inline, not imported from a bucket", &["s3:getObject", "s3:GetObject"]),
    ("scaling uses a predefined metric of DynamoDB, not a customized one", &["cloudwatch:GetMetricData"]),
    (
        "only the table is scaled, without schedules",
        &["lambda:*", "application-autoscaling:PutScheduledAction", "application-autoscaling:DeleteScheduledAction"],
    ),
    (
        "tables are neither imported nor replicated, do not stream to Kinesis and have no resource policy",
        &[
            "dynamodb:AssociateTableReplica",
            "dynamodb:BatchWriteItem",
            "dynamodb:CreateTableReplica",
            "dynamodb:DeleteItem",
            "dynamodb:DeleteResourcePolicy",
            "dynamodb:DescribeImport",
            "dynamodb:DisableKinesisStreamingDestination",
            "dynamodb:EnableKinesisStreamingDestination",
            "dynamodb:GetItem",
            "dynamodb:ImportTable",
            "dynamodb:PutItem",
            "dynamodb:PutResourcePolicy",
            "dynamodb:Query",
            "dynamodb:Scan",
            "dynamodb:UpdateContributorInsights",
            "dynamodb:UpdateItem",
            "dynamodb:UpdateKinesisStreamingDestination",
            "kinesis:*",
            "logs:CreateLogStream",
            "logs:DescribeLogStreams",
            "logs:PutLogEvents",
            "s3:GetObjectMetadata",
        ],
    ),
    (
        "caches deliver no logs and take no snapshots, and replication groups are not resharded",
        &["elasticache:CreateSnapshot", "elasticache:ModifyReplicationGroupShardConfiguration", "firehose:*"],
    ),
    (
        "log groups have no data protection, no index policies and no bearer tokens",
        &[
            "logs:DeleteDataProtectionPolicy",
            "logs:DeleteIndexPolicy",
            "logs:DeleteResourcePolicy",
            "logs:PutBearerTokenAuthentication",
            "logs:PutDataProtectionPolicy",
            "logs:PutIndexPolicy",
            "logs:PutLogGroupDeletionProtection",
            "s3:REST.PUT.OBJECT",
            "sns:PutDataProtectionPolicy",
        ],
    ),
    (
        "the bucket only stores exports",
        &[
            "s3:CreateBucketMetadataTableConfiguration",
            "s3:DeleteBucketAnalyticsConfiguration",
            "s3:DeleteBucketCors",
            "s3:DeleteBucketEncryption",
            "s3:DeleteBucketLifecycle",
            "s3:DeleteBucketMetadataTableConfiguration",
            "s3:DeleteBucketMetricsConfiguration",
            "s3:DeleteBucketReplication",
            "s3:DeleteBucketWebsite",
            "s3:DeleteObject",
            "s3:PutAccelerateConfiguration",
            "s3:PutAnalyticsConfiguration",
            "s3:PutBucketAbac",
            "s3:PutBucketAcl",
            "s3:PutBucketCORS",
            "s3:PutBucketLogging",
            "s3:PutBucketNotification",
            "s3:PutBucketObjectLockConfiguration",
            "s3:PutBucketReplication",
            "s3:PutBucketWebsite",
            "s3:PutIntelligentTieringConfiguration",
            "s3:PutInventoryConfiguration",
            "s3:PutMetricsConfiguration",
            "s3:PutObjectAcl",
            "s3:PutObjectLockConfiguration",
            "s3:PutReplicationConfiguration",
            "s3:UpdateBucketMetadataAnnotationTableConfiguration",
            "s3:UpdateBucketMetadataInventoryTableConfiguration",
            "s3:UpdateBucketMetadataJournalTableConfiguration",
            "s3tables:*",
        ],
    ),
    (
        "creating a workgroup or a Glue table writes nothing to the bucket",
        &["s3:AbortMultipartUpload", "s3:ListBucketMultipartUploads", "s3:ListMultipartUploadParts", "s3:PutObject"],
    ),
    (
        "the catalog uses no connections, no schema registry and no Lake Formation",
        &[
            "glue:CreateConnection",
            "glue:DeleteConnection",
            "glue:GetConnection",
            "glue:GetSchemaVersion",
            "glue:PassConnection",
            "glue:UpdateConnection",
            "lakeformation:*",
        ],
    ),
];

/// Whether an entry of [`UNUSED`] covers a published permission.
pub(super) fn covers(entry: &str, action: &str) -> bool {
    entry == action || entry.strip_suffix('*').is_some_and(|service| action.starts_with(service))
}

pub(super) fn is_unused(action: &str) -> bool {
    UNUSED.iter().any(|(_, actions)| actions.iter().any(|entry| covers(entry, action)))
}

/// The reference that ships with the template linter.
#[derive(Deserialize)]
pub(super) struct Reference {
    types: BTreeMap<String, Vec<String>>,
    services: BTreeMap<String, BTreeMap<String, bool>>,
}

impl Reference {
    pub(super) fn of(types: &BTreeSet<String>) -> Self {
        let text = output_of(Command::new(python()).arg("tests/manifests/permissions.py").args(types));
        serde_json::from_str(&text).expect("the reference")
    }

    /// Permissions of a resource type's create, read, update and delete handlers and of its tagging, with normalized
    /// spelling.
    pub(super) fn handlers(&self, kind: &str) -> Vec<String> {
        let found = self.types.get(kind).unwrap_or_else(|| panic!("{kind} is not published"));
        found.iter().map(|action| action.replace(":unTag", ":Untag")).collect()
    }

    /// Whether the action exists.
    pub(super) fn knows(&self, service: &str, action: &str) -> bool {
        self.services.get(service).is_some_and(|actions| actions.contains_key(&action.to_lowercase()))
    }

    /// Whether a statement can name resources for this action. An unknown action counts as one that can be limited.
    pub(super) fn is_limited_to_resources(&self, service: &str, action: &str) -> bool {
        !UNSURE.contains(&(service, action))
            && self
                .services
                .get(service)
                .and_then(|actions| actions.get(&action.to_lowercase()))
                .copied()
                .unwrap_or(true)
    }
}
