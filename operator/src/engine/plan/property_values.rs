//! The values that differ between two versions of a resource in templates, or of the worker configuration. Pure.
//!
//! Neither has secrets: those of a template are parameters.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::cloud::PropertyValue;
use crate::sanitize::{shortened, shown};

/// Longest value shown, in characters: the lines of a plan stay readable.
const VALUE_MAX: usize = 80;
/// Attributes of a resource beside its properties that decide about data. `Metadata` has only digests.
const ATTRIBUTES: [&str; 2] = ["DeletionPolicy", "UpdateReplacePolicy"];

/// The differences between two documents, value by value, in the order of their paths.
pub fn between(old: &Value, new: &Value) -> Vec<PropertyValue> {
    let mut differences = Vec::new();
    walk("", old, new, &mut differences);
    differences
}

/// The differences of a resource, property by property, in the order of their paths.
pub fn differences(old: &Value, new: &Value) -> Vec<PropertyValue> {
    let mut differences = between(&old["Properties"], &new["Properties"]);
    for name in ATTRIBUTES {
        walk(name, &old[name], &new[name], &mut differences);
    }
    differences
}

fn walk(path: &str, old: &Value, new: &Value, found: &mut Vec<PropertyValue>) {
    if old == new {
        return;
    }
    match (old, new) {
        (Value::Object(before), Value::Object(after)) if !is_function(old) && !is_function(new) => {
            let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                walk(&path, &old[key.as_str()], &new[key.as_str()], found);
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (at, (old, new)) in before.iter().zip(after).enumerate() {
                walk(&format!("{path}[{at}]"), old, new, found);
            }
        }
        _ => found.push(PropertyValue { path: shown(path), before: text(old), after: text(new), live: None }),
    }
}

/// `Ref` and the functions of CloudFormation are values.
fn is_function(value: &Value) -> bool {
    value.as_object().is_some_and(|map| map.keys().any(|key| key == "Ref" || key.starts_with("Fn::")))
}

/// `None` for an absent value.
fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    Some(shown(&shortened(&text, VALUE_MAX)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(old: &Value, new: &Value) -> Vec<String> {
        let value = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let found = differences(old, new).into_iter();
        found
            .map(|PropertyValue { path, before, after, .. }| format!("{path}: {} {}", value(before), value(after)))
            .collect()
    }

    #[test]
    fn every_differing_value_is_shown_with_its_path_and_nothing_else() {
        let old = json!({ "Type": "AWS::SQS::Queue", "DeletionPolicy": "Retain", "Metadata": { "Digest": "a" },
            "Properties": {
                "MessageRetentionPeriod": 345_600,
                "RedrivePolicy": { "deadLetterTargetArn": { "Fn::GetAtt": ["A", "Arn"] }, "maxReceiveCount": 5 },
                "Names": ["a", "b"], "Same": true, "Gone": { "deep": 1 },
            } });
        let new = json!({ "Type": "AWS::SQS::Queue", "DeletionPolicy": "Delete", "Metadata": { "Digest": "b" },
            "Properties": {
                "MessageRetentionPeriod": 600_000,
                "RedrivePolicy": { "deadLetterTargetArn": { "Fn::GetAtt": ["B", "Arn"] }, "maxReceiveCount": 5 },
                "Names": ["a", "c"], "Same": true, "New": "red\u{1b}[31m",
            } });
        assert_eq!(
            lines(&old, &new),
            [
                "Gone: {\"deep\":1} -",
                "MessageRetentionPeriod: 345600 600000",
                "Names[1]: b c",
                "New: - red\\u{1b}[31m",
                "RedrivePolicy.deadLetterTargetArn: {\"Fn::GetAtt\":[\"A\",\"Arn\"]} {\"Fn::GetAtt\":[\"B\",\"Arn\"]}",
                "DeletionPolicy: Retain Delete",
            ]
        );
        assert_eq!(lines(&old, &old), Vec::<String>::new());
        let long = json!({ "Properties": { "Text": "x".repeat(100_000) } });
        assert!(lines(&json!({}), &long)[0].len() < 200);
    }
}
