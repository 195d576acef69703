//! The DynamoDB single table (spec §6) and the table of stream leases.
//!
//! Both indexes project `ALL`. A projection is immutable: CloudFormation would have to delete and rebuild the index
//! under traffic. The search without a cache reads preferences and last location of a driver, the sweeper reads the
//! offer state of a dispatch, and lists show complete dispatches. A narrower projection would therefore save little,
//! and would fix today's attributes in the index. Items leave GSI1 when they are no longer active, which bounds its
//! size.

use dispatch_api::dispatch_system::{BillingMode, CapacitySpec};
use dispatch_api::validate::ValidatedSystem;
use serde_json::{Value, json};

use crate::engine::plan::template::fragment::{Resource, TemplateFragment, attribute, reference, sub};
use crate::engine::plan::template::{data_policies, data_tags, outputs};

/// Logical id of the single table.
pub const TABLE: &str = "Table";
const LEASE_TABLE: &str = "LeaseTable";
/// Parameter with the name of the table, for what is created before the table and names it. A name may have 248
/// characters; a template names it many times.
pub(super) const TABLE_NAME: &str = "TableName";
/// Index by status and region: free drivers, open dispatches.
pub(super) const GSI1: &str = "GSI1";
/// Index by user or driver: their dispatches.
pub(super) const GSI2: &str = "GSI2";

/// Name of an index.
pub type TableIndex = &'static str;
/// The indexes, in the order in which they are added one by one.
pub const INDEXES: [TableIndex; 2] = [GSI1, GSI2];

/// Attribute of both tables with the Unix time after which DynamoDB may delete an item, for example an idempotency
/// record or a lease.
pub const TTL_ATTRIBUTE: &str = "expiresAt";

/// View type of the stream: consumers compare the old item with the new one.
pub const STREAM_VIEW: &str = "NEW_AND_OLD_IMAGES";

pub(super) fn part(system: &ValidatedSystem) -> TemplateFragment {
    let mut part = TemplateFragment::default();
    part.parameters.insert(TABLE_NAME.to_owned(), json!({ "Type": "String", "Default": system.names.table }));
    part.resource(TABLE, table(system));
    part.resource(LEASE_TABLE, lease_table(system));
    if let Some((read, write)) = provisioned(system) {
        autoscaling(&mut part, "Read", read);
        autoscaling(&mut part, "Write", write);
    }
    part.output(outputs::TABLE_NAME, &reference(TABLE));
    part.output(outputs::STREAM_ARN, &attribute(TABLE, "StreamArn"));
    part.output(outputs::LEASE_TABLE_NAME, &reference(LEASE_TABLE));
    part
}

fn table(system: &ValidatedSystem) -> Resource {
    let spec = &system.spec.table;
    let throughput = provisioned(system)
        .map(|(read, write)| json!({ "ReadCapacityUnits": read.min, "WriteCapacityUnits": write.min }));
    let attributes = ["GSI1PK", "GSI1SK", "GSI2PK", "GSI2SK", "PK", "SK"]
        .map(|name| json!({ "AttributeName": name, "AttributeType": "S" }));
    let indexes = [GSI1, GSI2].map(|index| {
        json!({
            "IndexName": index,
            "KeySchema": key_schema(&format!("{index}PK"), Some(&format!("{index}SK"))),
            "Projection": { "ProjectionType": "ALL" },
            "ProvisionedThroughput": throughput,
        })
    });
    Resource::new(
        "AWS::DynamoDB::Table",
        json!({
            "TableName": system.names.table,
            "AttributeDefinitions": attributes,
            "KeySchema": key_schema("PK", Some("SK")),
            "GlobalSecondaryIndexes": indexes,
            "BillingMode": if throughput.is_some() { "PROVISIONED" } else { "PAY_PER_REQUEST" },
            "ProvisionedThroughput": throughput,
            "StreamSpecification": { "StreamViewType": STREAM_VIEW },
            "PointInTimeRecoverySpecification": { "PointInTimeRecoveryEnabled": spec.point_in_time_recovery },
            // Without a customer managed key, this is the key `aws/dynamodb` of the account and not the key that
            // DynamoDB owns: the table contains phone numbers and positions, and only the former key is logged in
            // CloudTrail.
            "SSESpecification": { "SSEEnabled": true, "SSEType": "KMS", "KMSMasterKeyId": system.spec.aws.kms_key_arn },
            "TimeToLiveSpecification": { "AttributeName": TTL_ATTRIBUTE, "Enabled": true },
            "DeletionProtectionEnabled": spec.deletion_protection,
            "Tags": data_tags(system),
        }),
    )
    .policies(data_policies(system))
}

/// Consumers rebuild leases, which contain no personal data, so this table has no backup and is never retained.
fn lease_table(system: &ValidatedSystem) -> Resource {
    let sse = system
        .spec
        .aws
        .kms_key_arn
        .as_ref()
        .map(|key| json!({ "SSEEnabled": true, "SSEType": "KMS", "KMSMasterKeyId": key }));
    Resource::new(
        "AWS::DynamoDB::Table",
        json!({
            "TableName": system.names.lease_table,
            "AttributeDefinitions": [{ "AttributeName": "leaseKey", "AttributeType": "S" }],
            "KeySchema": key_schema("leaseKey", None),
            "BillingMode": "PAY_PER_REQUEST",
            "PointInTimeRecoverySpecification": { "PointInTimeRecoveryEnabled": false },
            "SSESpecification": sse,
            "TimeToLiveSpecification": { "AttributeName": TTL_ATTRIBUTE, "Enabled": true },
        }),
    )
    .policies(("Delete", "Delete"))
}

/// Key attributes of the table (with an empty name) and of its indexes, partition key first.
pub fn table_keys() -> impl Iterator<Item = (&'static str, [&'static str; 2])> {
    [("", ["PK", "SK"]), (GSI1, ["GSI1PK", "GSI1SK"]), (GSI2, ["GSI2PK", "GSI2SK"])].into_iter()
}

fn key_schema(hash: &str, range: Option<&str>) -> Value {
    let keys = [(Some(hash), "HASH"), (range, "RANGE")];
    keys.into_iter()
        .filter_map(|(name, kind)| name.map(|name| json!({ "AttributeName": name, "KeyType": kind })))
        .collect()
}

/// Removes indexes from a rendered template, with the attributes and scaling policies that only they use: DynamoDB
/// refuses unused attributes, and a scaling policy requires its index.
pub fn without_indexes(body: &mut Value, missing: &[TableIndex]) {
    let of = |name: &Value| name.as_str().is_some_and(|name| missing.iter().any(|index| name.starts_with(*index)));
    let properties = &mut body["Resources"][TABLE]["Properties"];
    for (list, name) in [("GlobalSecondaryIndexes", "IndexName"), ("AttributeDefinitions", "AttributeName")] {
        if let Some(all) = properties[list].as_array_mut() {
            all.retain(|one| !of(&one[name]));
        }
    }
    if missing.len() == INDEXES.len()
        && let Some(properties) = properties.as_object_mut()
    {
        properties.remove("GlobalSecondaryIndexes");
    }
    if let Some(resources) = body["Resources"].as_object_mut() {
        resources.retain(|id, resource| {
            let scales =
                resource["Type"].as_str().is_some_and(|kind| kind.starts_with("AWS::ApplicationAutoScaling::"));
            !(scales && missing.iter().any(|index| id.ends_with(*index)))
        });
    }
}

/// Read and write capacity of a provisioned table. Validation guarantees that both are set.
fn provisioned(system: &ValidatedSystem) -> Option<(&CapacitySpec, &CapacitySpec)> {
    let billing = &system.spec.table.billing;
    match billing.mode {
        BillingMode::OnDemand => None,
        BillingMode::Provisioned => billing.read.as_ref().zip(billing.write.as_ref()),
    }
}

/// Auto scaling of one dimension of the table and of both indexes, because an index without write capacity throttles
/// the table. Application Auto Scaling uses its service-linked role.
fn autoscaling(part: &mut TemplateFragment, direction: &str, capacity: &CapacitySpec) {
    if capacity.max <= capacity.min {
        return;
    }
    for index in [None, Some(GSI1), Some(GSI2)] {
        let target = format!("{direction}ScalingTarget{}", index.unwrap_or_default());
        let (resource_id, level) = match index {
            None => (format!("table/${{{TABLE}}}"), "table"),
            Some(index) => (format!("table/${{{TABLE}}}/index/{index}"), "index"),
        };
        part.resource(
            &target,
            Resource::new(
                "AWS::ApplicationAutoScaling::ScalableTarget",
                json!({
                    "ServiceNamespace": "dynamodb",
                    "ResourceId": sub(&resource_id),
                    "ScalableDimension": format!("dynamodb:{level}:{direction}CapacityUnits"),
                    "MinCapacity": capacity.min,
                    "MaxCapacity": capacity.max,
                }),
            ),
        );
        part.resource(
            format!("{direction}ScalingPolicy{}", index.unwrap_or_default()),
            Resource::new(
                "AWS::ApplicationAutoScaling::ScalingPolicy",
                json!({
                    "PolicyName": format!("{direction}-utilization"),
                    "PolicyType": "TargetTrackingScaling",
                    "ScalingTargetId": reference(&target),
                    "TargetTrackingScalingPolicyConfiguration": {
                        "TargetValue": capacity.target_utilization_percent,
                        "PredefinedMetricSpecification": {
                            "PredefinedMetricType": format!("DynamoDB{direction}CapacityUtilization"),
                        },
                    },
                }),
            ),
        );
    }
}
