//! What AWS says about its actions, and what of it does not concern this product.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::objects::{output_of, python};

/// Permissions boundary of the roles a stack makes. The operator can make no role without it.
pub const BOUNDARY: &str = "arn:aws:iam::*:policy/coactus-workers-boundary";
/// Actions that could give rights, and that know the boundary of the role they are about ("Actions, resources, and condition keys
/// for IAM").
pub const BOUNDED: [&str; 6] = [
    "AttachRolePolicy",
    "CreateRole",
    "DeleteRolePolicy",
    "DetachRolePolicy",
    "PutRolePermissionsBoundary",
    "PutRolePolicy",
];
/// Services that make a role of their own when they are first used.
pub const LINKED_SERVICES: [&str; 3] =
    ["dynamodb.application-autoscaling.amazonaws.com", "elasticache.amazonaws.com", "ops.apigateway.amazonaws.com"];

/// Services that hold data, and what watches over their size.
pub const STORES: [&str; 7] = ["application-autoscaling", "athena", "dynamodb", "elasticache", "glue", "kms", "s3"];

/// What an HTTP API's access logs need beside the stage's own permissions ("Configure logging for HTTP APIs").
pub const ACCESS_LOGS: [&str; 7] = [
    "logs:CreateLogDelivery",
    "logs:DeleteLogDelivery",
    "logs:DescribeResourcePolicies",
    "logs:GetLogDelivery",
    "logs:ListLogDeliveries",
    "logs:PutResourcePolicy",
    "logs:UpdateLogDelivery",
];

/// Operations whose actions have other names ("Required permissions for Amazon S3 API operations").
pub const RENAMED: [(&str, &[&str]); 2] = [
    ("s3:ListObjectVersions", &["s3:ListBucketVersions"]),
    ("s3:DeleteObjects", &["s3:DeleteObject", "s3:DeleteObjectVersion"]),
];

/// Makes a statement of a policy.
type Statement = fn() -> Value;

/// Rights a call needs beside the one of its name.
pub const ALONGSIDE: [(&str, Statement); 3] = [
    // "Requesting a table export in DynamoDB": DynamoDB writes with the caller's rights. The bucket's owner must be the account.
    ("dynamodb:ExportTableToPointInTime", || {
        json!({
            "Sid": "WriteExports",
            "Effect": "Allow",
            "Action": ["s3:AbortMultipartUpload", "s3:PutObject", "s3:PutObjectAcl"],
            "Resource": ["arn:aws:s3:::coactus-*-exports-*/*"],
            "Condition": { "StringEquals": { "s3:ResourceAccount": "${aws:PrincipalAccount}" } },
        })
    }),
    // "Using server-side encryption with AWS KMS keys": what an upload in parts needs.
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
];

/// The product's own resources. Names begin with `coactus-`, paths with `/coactus/`; an API Gateway and what scales a table have
/// ids that AWS invents, and a KMS key is the account's: its own policy says who may use it.
pub fn resources_of(service: &str) -> &'static [&'static str] {
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
        ],
        "glue" => {
            &["arn:aws:glue:*:*:catalog", "arn:aws:glue:*:*:database/coactus_*", "arn:aws:glue:*:*:table/coactus_*/*"]
        }
        "iam" => &["arn:aws:iam::*:policy/coactus/*", "arn:aws:iam::*:role/coactus/*"],
        "kms" => &["arn:aws:kms:*:*:key/*"],
        "logs" => &["arn:aws:logs:*:*:log-group:/aws/vendedlogs/coactus/*", "arn:aws:logs:*:*:log-group:/coactus/*"],
        "s3" => &["arn:aws:s3:::coactus-*-exports-*"],
        // The topic, and the devices below the platform application.
        "sns" => &["arn:aws:sns:*:*:coactus-*", "arn:aws:sns:*:*:endpoint/GCM/coactus-*"],
        "sqs" => &["arn:aws:sqs:*:*:coactus-*"],
        // `spec.aws.roleArn`: a city in another account. That account's own trust policy decides as well.
        "sts" => &["arn:aws:iam::*:role/coactus-*"],
        other => panic!("{other} is new: say here what of it is the product's own"),
    }
}

/// Permissions the handlers are published with for features no template uses.
pub const UNUSED: [(&str, &[&str]); 12] = [
    ("no service is handed a role", &["iam:PassRole"]),
    (
        "policies are attached to roles alone",
        &["iam:AttachGroupPolicy", "iam:AttachUserPolicy", "iam:DetachGroupPolicy", "iam:DetachUserPolicy"],
    ),
    (
        "a boundary stays, and a service's own role is nobody else's to delete",
        &["iam:DeleteRolePermissionsBoundary", "iam:DeleteServiceLinkedRole", "iam:GetServiceLinkedRoleDeletionStatus"],
    ),
    ("an API is written out, not imported from a bucket", &["s3:getObject", "s3:GetObject"]),
    ("scaling goes by DynamoDB's own metric, not by a metric that is described", &["cloudwatch:GetMetricData"]),
    (
        "nothing scales but the table",
        &["lambda:*", "application-autoscaling:PutScheduledAction", "application-autoscaling:DeleteScheduledAction"],
    ),
    (
        "tables are neither imported nor replicated, stream to no Kinesis and have no policy of their own",
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
        "caches send no logs and take no snapshots, and their groups are not split",
        &["elasticache:CreateSnapshot", "elasticache:ModifyReplicationGroupShardConfiguration", "firehose:*"],
    ),
    (
        "log groups mask nothing, index nothing and take no tokens",
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
        "the bucket stores exports and does nothing else",
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
        "making a workgroup or a Glue table writes nothing into the bucket",
        &["s3:AbortMultipartUpload", "s3:ListBucketMultipartUploads", "s3:ListMultipartUploadParts", "s3:PutObject"],
    ),
    (
        "the catalogue has no connections, schemas and no Lake Formation",
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

/// Whether an entry of [`UNUSED`] speaks of a published permission.
pub fn covers(entry: &str, action: &str) -> bool {
    entry == action || entry.strip_suffix('*').is_some_and(|service| action.starts_with(service))
}

pub fn is_unused(action: &str) -> bool {
    UNUSED.iter().any(|(_, actions)| actions.iter().any(|entry| covers(entry, action)))
}

/// The reference as the template linter carries it.
#[derive(Deserialize)]
pub struct Reference {
    types: BTreeMap<String, Vec<String>>,
    services: BTreeMap<String, BTreeMap<String, bool>>,
}

impl Reference {
    pub fn of(types: &BTreeSet<String>) -> Self {
        let text = output_of(Command::new(python()).arg("tests/manifests/permissions.py").args(types));
        serde_json::from_str(&text).expect("the reference")
    }

    /// Permissions of a resource type's create, read, update and delete handlers and of its tagging, each spelled in one way.
    pub fn handlers(&self, kind: &str) -> Vec<String> {
        let found = self.types.get(kind).unwrap_or_else(|| panic!("{kind} is not published"));
        found.iter().map(|action| action.replace(":unTag", ":Untag")).collect()
    }

    /// Whether there is such an action.
    pub fn knows(&self, service: &str, action: &str) -> bool {
        self.services.get(service).is_some_and(|actions| actions.contains_key(&action.to_lowercase()))
    }

    /// Whether a statement can name resources for this action. An action the reference does not know is taken for limited.
    pub fn is_limited_to_resources(&self, service: &str, action: &str) -> bool {
        self.services.get(service).and_then(|actions| actions.get(&action.to_lowercase())).copied().unwrap_or(true)
    }
}
