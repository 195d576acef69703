//! `spec.aws`: the account, the identity used in it, and the tags of everything made there.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Account, identity and tags.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!has(oldSelf.accountId) || (has(self.accountId) && self.accountId == oldSelf.accountId)")
        .message("accountId is immutable once set"),
    validation = Rule::new(
        "!has(self.roleArn) || !has(self.accountId) || self.roleArn.contains('::' + self.accountId + ':')"
    )
    .message("roleArn must be a role of the account that accountId names"),
    validation = Rule::new("!has(self.externalId) || has(self.roleArn)").message("externalId needs roleArn"),
    validation = Rule::new("self.tags.all(key, !key.startsWith('aws:') && !key.startsWith('coactus:'))")
        .message("tag keys that begin with aws: or coactus: are reserved"),
)]
pub struct AwsSpec {
    /// Twelve-digit account the city must live in. When set, the operator refuses to act with credentials of any other
    /// account. Default: the account of the credentials. Immutable once set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 12), regex(pattern = r"^[0-9]{12}$"))]
    pub account_id: Option<String>,
    /// ARN of the IAM role the operator assumes for this system. Default: the operator's own identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^arn:aws(-[a-z-]+)?:iam::[0-9]{12}:role/[!-~]+$"))]
    pub role_arn: Option<String>,
    /// External id the role's trust policy asks for ("How to use an external ID" in the IAM user guide). Needs `roleArn`; it is no secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 1224), regex(pattern = r"^[A-Za-z0-9_+=,.@:/-]+$"))]
    pub external_id: Option<String>,
    /// Tags put on every resource. At most 40 (AWS allows 50, the operator adds its own); keys of 1 to 128 characters
    /// that do not begin with `aws:` or `coactus:`, which are reserved; values of at most 256. Letters, digits,
    /// spaces and `_ . : / = + - @` are allowed.
    #[serde(default)]
    #[schemars(schema_with = "tags")]
    pub tags: BTreeMap<String, String>,
    /// ARN of the permissions boundary set on every IAM role the stack makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^arn:aws(-[a-z-]+)?:iam::([0-9]{12}|aws):policy/[!-~]+$"))]
    pub permissions_boundary_arn: Option<String>,
    /// ARN of the customer-managed KMS key, of the city's region, that encrypts table, queues, topic, bucket and
    /// logs. Default: the services' own keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^arn:aws(-[a-z-]+)?:kms:[a-z0-9-]+:[0-9]{12}:key/[!-~]+$"))]
    pub kms_key_arn: Option<String>,
}

fn tags(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 40,
        "additionalProperties": { "type": "string", "maxLength": 256 }
    })
}
