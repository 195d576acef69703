//! The part of the CloudFormation and IAM syntax that the builders share.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The contribution of one group of resources to the template.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct TemplateFragment {
    pub(super) parameters: BTreeMap<String, Value>,
    pub(super) resources: BTreeMap<String, Value>,
    pub(super) outputs: BTreeMap<String, Value>,
}

impl TemplateFragment {
    pub(super) fn resource(&mut self, logical_id: impl Into<String>, resource: Resource) {
        self.resources.insert(logical_id.into(), resource.into_value());
    }

    /// Outputs have no description, to save template size.
    pub(super) fn output(&mut self, name: &str, value: &Value) {
        self.outputs.insert(name.to_owned(), json!({ "Value": value }));
    }

    pub(super) fn join(&mut self, other: Self) {
        self.parameters.extend(other.parameters);
        self.resources.extend(other.resources);
        self.outputs.extend(other.outputs);
    }
}

/// A resource. Properties that are `null` are omitted, so optional properties can be written in place.
#[derive(Debug)]
pub(super) struct Resource(Map<String, Value>);

impl Resource {
    pub(super) fn new(kind: &str, mut properties: Value) -> Self {
        drop_nulls(&mut properties);
        let mut resource = Map::new();
        resource.insert("Type".to_owned(), json!(kind));
        resource.insert("Properties".to_owned(), properties);
        Self(resource)
    }

    pub(super) fn depends_on(mut self, mut logical_ids: Vec<&str>) -> Self {
        if !logical_ids.is_empty() {
            logical_ids.sort_unstable();
            self.0.insert("DependsOn".to_owned(), json!(logical_ids));
        }
        self
    }

    /// Deletion and replacement policies of the resource. The default of CloudFormation, `Delete`, is explicit only
    /// where it could surprise.
    pub(super) fn policies(mut self, (deletion, replacement): (&str, &str)) -> Self {
        self.0.insert("DeletionPolicy".to_owned(), json!(deletion));
        self.0.insert("UpdateReplacePolicy".to_owned(), json!(replacement));
        self
    }

    /// Disables one cfn-lint rule for this resource.
    pub(super) fn without_lint(mut self, rule: &str) -> Self {
        self.0.insert("Metadata".to_owned(), json!({ "cfn-lint": { "config": { "ignore_checks": [rule] } } }));
        self
    }

    fn into_value(self) -> Value {
        Value::Object(self.0)
    }
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, child| !child.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// `Ref`: the physical name of a resource, or the value of a parameter.
pub(super) fn reference(logical_id: &str) -> Value {
    json!({ "Ref": logical_id })
}

/// `Fn::GetAtt`.
pub(super) fn attribute(logical_id: &str, name: &str) -> Value {
    json!({ "Fn::GetAtt": [logical_id, name] })
}

/// `Fn::Sub`.
pub(super) fn sub(text: &str) -> Value {
    json!({ "Fn::Sub": text })
}

/// ARN of a resource in the account and region of the stack, for resources that cannot be referenced.
pub(super) fn local_arn(service: &str, resource: &str) -> Value {
    sub(&format!("arn:${{AWS::Partition}}:{service}:${{AWS::Region}}:${{AWS::AccountId}}:{resource}"))
}

/// An IAM policy document.
pub(super) fn policy_document(statements: impl IntoIterator<Item = Value>) -> Value {
    json!({ "Version": "2012-10-17", "Statement": statements.into_iter().collect::<Vec<_>>() })
}

/// An `Allow` statement of an identity policy.
pub(super) fn allow(sid: &str, actions: &[&str], resource: impl Into<Value>) -> Value {
    json!({ "Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resource.into() })
}

/// The `Deny` statement of a resource policy that refuses requests without TLS.
pub(super) fn deny_without_tls(action: &str, resource: impl Into<Value>) -> Value {
    json!({
        "Sid": "DenyWithoutTls",
        "Effect": "Deny",
        "Principal": "*",
        "Action": action,
        "Resource": resource.into(),
        "Condition": { "Bool": { "aws:SecureTransport": "false" } },
    })
}
