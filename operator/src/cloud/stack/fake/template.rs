//! What the fake reads of a template.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::cloud::{ChangeKind, Replacement, ResourceChange};

/// The account of all resources.
const ACCOUNT: &str = "000000000000";
/// Properties whose change replaces a resource, according to CloudFormation's documentation of the types used here.
const REPLACING: [(&str, &str); 6] = [
    ("AWS::DynamoDB::Table", "TableName"),
    ("AWS::DynamoDB::Table", "KeySchema"),
    ("AWS::SQS::Queue", "QueueName"),
    ("AWS::S3::Bucket", "BucketName"),
    ("AWS::ElastiCache::ReplicationGroup", "KmsKeyId"),
    ("AWS::ElastiCache::ReplicationGroup", "CacheSubnetGroupName"),
];

pub(super) fn outputs(template: &Value) -> BTreeMap<String, String> {
    let Some(outputs) = template["Outputs"].as_object() else { return BTreeMap::new() };
    // A reference to a resource with a name gives the name.
    let named = |value: &Value| {
        let id = value["Ref"].as_str()?;
        given_id(&template["Resources"][id]["Properties"])
    };
    let text =
        |value: &Value| named(value).unwrap_or_else(|| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    outputs.iter().map(|(key, output)| (key.clone(), text(&output["Value"]))).collect()
}

pub(super) fn indexes(template: &Value) -> usize {
    template["Resources"]["Table"]["Properties"]["GlobalSecondaryIndexes"].as_array().map_or(0, Vec::len)
}

/// The physical id that follows from a name in the template.
fn given_id(properties: &Value) -> Option<String> {
    let text = |name: &str| properties[name].as_str();
    let own = ["TableName", "BucketName", "ReplicationGroupId"].into_iter().find_map(text).map(str::to_owned);
    let queue = || text("QueueName").map(|name| format!("http://sqs.example/{ACCOUNT}/{name}"));
    let topic = || text("TopicName").map(|name| format!("arn:aws:sns:ap-northeast-2:{ACCOUNT}:{name}"));
    own.or_else(queue).or_else(topic)
}

/// The physical id that follows from the name in the template, or a generated one.
pub(super) fn physical_id(logical_id: &str, properties: &Value) -> String {
    given_id(properties).unwrap_or_else(|| logical_id.to_lowercase())
}

pub(super) fn compare(old: &Value, new: &Value) -> Vec<ResourceChange> {
    let names = |template: &Value| -> BTreeSet<String> {
        template["Resources"].as_object().map(|all| all.keys().cloned().collect()).unwrap_or_default()
    };
    let (before, after) = (names(old), names(new));
    let mut changes = Vec::new();
    for id in before.union(&after) {
        let (was, is) = (&old["Resources"][id], &new["Resources"][id]);
        let some = if is.is_null() { was } else { is };
        let mut change = ResourceChange::added(id, some["Type"].as_str().unwrap_or_default());
        if is.is_null() {
            change.kind = ChangeKind::Remove;
        } else if !was.is_null() {
            let empty = serde_json::Map::new();
            let old = was["Properties"].as_object().unwrap_or(&empty);
            let new = is["Properties"].as_object().unwrap_or(&empty);
            let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            let mut differ: Vec<String> = keys.into_iter().filter(|k| old.get(*k) != new.get(*k)).cloned().collect();
            let attributes = ["DeletionPolicy", "Metadata"].into_iter().filter(|name| was[name] != is[name]);
            differ.extend(attributes.map(str::to_owned));
            if differ.is_empty() {
                continue;
            }
            let forces = |name: &&String| REPLACING.contains(&(change.resource_type.as_str(), name.as_str()));
            change.forcing = differ.iter().filter(forces).cloned().collect();
            change.properties = differ;
            change.kind = if change.forcing.is_empty() { ChangeKind::Change } else { ChangeKind::Replace };
            if change.kind == ChangeKind::Replace {
                change.replacement = Replacement::Certain;
            }
        }
        changes.push(change);
    }
    changes
}
