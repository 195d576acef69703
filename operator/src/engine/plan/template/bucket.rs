//! The S3 bucket of the table exports and of query results.

use dispatch_api::dispatch_system::QUERY_RESULTS_PREFIX;
use dispatch_api::validate::ValidatedSystem;
use serde_json::{Value, json};

use crate::engine::plan::template::fragment::{
    Resource, TemplateFragment, deny_without_tls, policy_document, reference, sub,
};
use crate::engine::plan::template::{data_policies, data_tags, outputs};

/// Logical id of the export bucket.
pub const BUCKET: &str = "ExportBucket";

/// Days until a query result expires. Results can be recreated from the exports.
const RESULTS_DAYS: u32 = 7;
/// Days for which an overwritten or deleted object can be restored.
const NONCURRENT_DAYS: u32 = 30;
/// Days until the parts of an incomplete upload are removed.
const ABORT_UPLOAD_DAYS: u32 = 7;

pub(super) fn part(system: &ValidatedSystem, account: Option<&str>) -> TemplateFragment {
    let mut part = TemplateFragment::default();
    part.resource(BUCKET, bucket(system, account));
    let arn = format!("arn:${{AWS::Partition}}:s3:::${{{BUCKET}}}");
    let everything = json!([sub(&arn), sub(&format!("{arn}/*"))]);
    part.resource(
        "ExportBucketPolicy",
        Resource::new(
            "AWS::S3::BucketPolicy",
            json!({
                "Bucket": reference(BUCKET),
                "PolicyDocument": policy_document([deny_without_tls("s3:*", everything)]),
            }),
        )
        // A bucket has one policy, and CloudFormation cannot create it if one exists: a retained policy would block the
        // stack that imports the retained bucket. Without the policy, the bucket still blocks public access.
        .policies(("Delete", "Delete")),
    );
    part.output(outputs::EXPORT_BUCKET, &reference(BUCKET));
    part
}

/// Bucket names are unique in a partition, so the name contains the account.
pub fn bucket_name(system: &ValidatedSystem, account: &str) -> String {
    format!("{}-exports-{account}", system.names.prefix)
}

fn bucket(system: &ValidatedSystem, account: Option<&str>) -> Resource {
    let name = account
        .map_or_else(|| sub(&bucket_name(system, "${AWS::AccountId}")), |account| json!(bucket_name(system, account)));
    Resource::new(
        "AWS::S3::Bucket",
        json!({
            "BucketName": name,
            "PublicAccessBlockConfiguration": {
                "BlockPublicAcls": true,
                "BlockPublicPolicy": true,
                "IgnorePublicAcls": true,
                "RestrictPublicBuckets": true,
            },
            "OwnershipControls": { "Rules": [{ "ObjectOwnership": "BucketOwnerEnforced" }] },
            "VersioningConfiguration": { "Status": "Enabled" },
            "BucketEncryption": { "ServerSideEncryptionConfiguration": [encryption(system)] },
            "LifecycleConfiguration": { "Rules": lifecycle(system) },
            "Tags": data_tags(system),
        }),
    )
    .policies(data_policies(system))
}

fn encryption(system: &ValidatedSystem) -> Value {
    match &system.spec.aws.kms_key_arn {
        // The bucket key avoids a KMS call for each object.
        Some(key) => json!({
            "BucketKeyEnabled": true,
            "ServerSideEncryptionByDefault": { "SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key },
        }),
        None => json!({ "ServerSideEncryptionByDefault": { "SSEAlgorithm": "AES256" } }),
    }
}

fn lifecycle(system: &ValidatedSystem) -> Value {
    let export = &system.spec.export;
    json!([
        {
            "Id": "expire-exports",
            "Status": "Enabled",
            "Prefix": format!("{}/", export.prefix),
            "ExpirationInDays": export.retention_days,
        },
        {
            "Id": "expire-query-results",
            "Status": "Enabled",
            "Prefix": format!("{QUERY_RESULTS_PREFIX}/"),
            "ExpirationInDays": RESULTS_DAYS,
        },
        {
            "Id": "clean-up",
            "Status": "Enabled",
            "NoncurrentVersionExpiration": { "NoncurrentDays": NONCURRENT_DAYS },
            "AbortIncompleteMultipartUpload": { "DaysAfterInitiation": ABORT_UPLOAD_DAYS },
            "ExpiredObjectDeleteMarker": true,
        },
    ])
}
