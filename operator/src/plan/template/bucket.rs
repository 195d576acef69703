//! The S3 bucket of the table's exports and of the query results over them.

use dispatch_api::validate::ValidatedSystem;
use serde_json::{Value, json};

use super::syntax::{Part, Resource, deny_without_tls, policy_document, reference, sub};
use super::{data_policies, outputs};

pub(super) const BUCKET: &str = "ExportBucket";

/// Prefix of Athena's results.
pub(super) const RESULTS_PREFIX: &str = "athena-results";
/// Days a query result is kept: results can be had again from the exports.
const RESULTS_DAYS: u32 = 7;
/// Days an overwritten or removed object can still be brought back.
const NONCURRENT_DAYS: u32 = 30;
/// Days after which the parts of an upload nobody finished are removed.
const ABORT_UPLOAD_DAYS: u32 = 7;

pub(super) fn part(system: &ValidatedSystem) -> Part {
    let mut part = Part::default();
    part.resource(BUCKET, bucket(system));
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
        // A kept bucket keeps its guard.
        .policies(data_policies(system)),
    );
    part.output(outputs::EXPORT_BUCKET, &reference(BUCKET));
    part
}

fn bucket(system: &ValidatedSystem) -> Resource {
    Resource::new(
        "AWS::S3::Bucket",
        json!({
            // Bucket names are shared by all accounts of a partition, so the account number keeps two cities of one name apart.
            "BucketName": sub(&format!("{}-exports-${{AWS::AccountId}}", system.names.prefix)),
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
        }),
    )
    .policies(data_policies(system))
}

fn encryption(system: &ValidatedSystem) -> Value {
    match &system.spec.aws.kms_key_arn {
        // The bucket key spares a KMS call for each object.
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
            "Prefix": format!("{RESULTS_PREFIX}/"),
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
