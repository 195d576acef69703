//! `spec.aws`: the account, the identity used in it, and the tags of everything made there.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Account, identity and tags.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AwsSpec {
    /// Twelve-digit account the city must live in. When set, the operator refuses to act with credentials of any other
    /// account. Default: the account of the credentials. Immutable once set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_id: Option<String>,
    /// IAM role the operator assumes for this system. Default: the operator's own identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    /// Tags put on every resource. At most 40; keys must not begin with `aws:` or `coactus:`, which are reserved.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Permissions boundary set on every IAM role the stack makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions_boundary_arn: Option<String>,
    /// Customer-managed KMS key that encrypts table, queues, topic, bucket and logs. Default: the services' own keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kms_key_arn: Option<String>,
}
