//! The CloudFormation template of one system: one stack contains everything that CloudFormation can create.
//!
//! [`render`] is a pure function of the validated system. Equal systems give equal bytes, so a hash shows whether the
//! stack is up to date. Each module returns the fragment of one group of resources; this module joins them.
//!
//! Two things are deliberately not in the template body:
//!
//! * **Tags** are [`Template::tags`], to be passed as tags of the *stack*. CloudFormation applies them to every
//!   resource of the stack that supports tags ("Resource tag" in the CloudFormation user guide). Forty tags on each of
//!   about eighty resources would exceed the limit of 51,200 bytes.
//! * **Secrets** are template parameters with `NoEcho` ([`parameters`]).
//!
//! With `spec.aws.kmsKeyArn`, the key policy must allow two services to use the key: `sns.amazonaws.com` (to write to
//! the encrypted queue) and `logs.<region>.amazonaws.com`. The stack does not own that key, so it cannot grant this.

mod alarms;
mod analytics;
mod bucket;
mod cache;
mod fragment;
mod gateway;
mod ids;
mod logs;
mod order;
mod queues;
mod roles;
mod table;
#[cfg(test)]
mod tests;
mod topic;

use std::collections::BTreeMap;

use dispatch_api::dispatch_system::DeletionPolicy;
use dispatch_api::validate::ValidatedSystem;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::engine::plan::ownership::SYSTEM_TAG;
pub use bucket::{BUCKET, bucket_name};
pub use cache::{AUTH_TOKEN_SYMBOLS, REPLICATION_GROUP};
use fragment::TemplateFragment;
pub use queues::{NOTIFICATIONS, OFFERS, RESPONSES};
pub use table::{INDEXES, STREAM_VIEW, TABLE, TTL_ATTRIBUTE, TableIndex, table_keys, without_indexes};

/// Maximum size of a template in a request, in bytes ("CloudFormation quotas": template body size in a request). Larger
/// templates would have to be in S3, and a new account has no bucket for them.
pub const MAX_BODY_BYTES: usize = 51_200;

/// Capabilities to acknowledge. CloudFormation generates the names of the roles, so `CAPABILITY_NAMED_IAM` is not
/// required.
pub const CAPABILITIES: [&str; 1] = ["CAPABILITY_IAM"];

/// Names of the outputs of the stack.
pub mod outputs {
    /// Name of the single table.
    pub const TABLE_NAME: &str = "TableName";
    /// ARN of the table's stream.
    pub const STREAM_ARN: &str = "StreamArn";
    /// Name of the table of stream leases.
    pub const LEASE_TABLE_NAME: &str = "LeaseTableName";
    /// URL of the queue of offer timers.
    pub const OFFERS_QUEUE_URL: &str = "OffersQueueUrl";
    /// URL of the queue of driver responses.
    pub const RESPONSES_QUEUE_URL: &str = "ResponsesQueueUrl";
    /// URL of the queue of notifications.
    pub const NOTIFICATIONS_QUEUE_URL: &str = "NotificationsQueueUrl";
    /// ARN of the topic of notifications.
    pub const TOPIC_ARN: &str = "TopicArn";
    /// Host of the cache's primary; absent with an external cache.
    pub const CACHE_ENDPOINT: &str = "CacheEndpoint";
    /// Port of the cache's primary; absent with an external cache.
    pub const CACHE_PORT: &str = "CachePort";
    /// Name of the export bucket.
    pub const EXPORT_BUCKET: &str = "ExportBucket";
    /// Address of the HTTP API; absent without a gateway.
    pub const API_ENDPOINT: &str = "ApiEndpoint";
    /// Name of the Athena workgroup; absent without analytics.
    pub const ATHENA_WORKGROUP: &str = "AthenaWorkgroup";
    /// ARN of the role of `save-dispatch` workers.
    pub const SAVE_DISPATCH_ROLE_ARN: &str = "SaveDispatchRoleArn";
    /// ARN of the role of `dispatch-algorithm` workers.
    pub const DISPATCH_ALGORITHM_ROLE_ARN: &str = "DispatchAlgorithmRoleArn";
    /// ARN of the role of `driver-response` workers.
    pub const DRIVER_RESPONSE_ROLE_ARN: &str = "DriverResponseRoleArn";
    /// ARN of the role of `status-update` workers.
    pub const STATUS_UPDATE_ROLE_ARN: &str = "StatusUpdateRoleArn";
    /// ARN of the role of workers that run all roles.
    pub const COMBINED_ROLE_ARN: &str = "CombinedRoleArn";
    /// The outputs with the ARNs of the roles, in the order of [`IDENTITIES`](dispatch_api::names::IDENTITIES).
    pub const ROLE_ARNS: [&str; 5] = [
        SAVE_DISPATCH_ROLE_ARN,
        DISPATCH_ALGORITHM_ROLE_ARN,
        DRIVER_RESPONSE_ROLE_ARN,
        STATUS_UPDATE_ROLE_ARN,
        COMBINED_ROLE_ARN,
    ];
}

/// Template parameter with the Redis AUTH token.
pub const CACHE_AUTH_TOKEN: &str = "CacheAuthToken";

/// Why a template cannot be sent.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TemplateError {
    /// The body exceeds [`MAX_BODY_BYTES`]. A retry does not help.
    #[error("the template has {bytes} bytes; the limit of CloudFormation is {limit}")]
    TooLarge {
        /// Size of the minified body.
        bytes: usize,
        /// [`MAX_BODY_BYTES`].
        limit: usize,
    },
    /// A text of the template is an expression that CloudFormation would resolve, with the rights of its caller. The
    /// text may be a secret, so only its place is named. Validation refuses such texts by their fields.
    #[error("the template has an expression that CloudFormation would resolve, at {0}")]
    Expression(String),
}

/// A rendered template and the tags of its stack.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    body: Value,
    tags: BTreeMap<String, String>,
}

impl Template {
    /// The template as a value.
    pub fn body(&self) -> &Value {
        &self.body
    }

    /// Tags of the stack, which CloudFormation applies to its resources.
    pub fn tags(&self) -> &BTreeMap<String, String> {
        &self.tags
    }

    /// Fails if a text is a dynamic reference. The template itself uses none, so it comes from a value of the spec.
    pub fn check(&self) -> Result<(), TemplateError> {
        let tags = json!(self.tags);
        match find_expression("", &self.body).or_else(|| find_expression("/Tags", &tags)) {
            Some(place) => Err(TemplateError::Expression(place)),
            None => Ok(()),
        }
    }

    /// The minified body to send; an error above [`MAX_BODY_BYTES`].
    pub fn to_request_body(&self) -> Result<String, TemplateError> {
        let body = self.to_json();
        if body.len() > MAX_BODY_BYTES {
            return Err(TemplateError::TooLarge { bytes: body.len(), limit: MAX_BODY_BYTES });
        }
        Ok(body)
    }

    /// Minified JSON with sorted keys: equal systems give equal bytes.
    pub fn to_json(&self) -> String {
        self.body.to_string()
    }

    /// Indented JSON for people.
    pub fn to_json_pretty(&self) -> String {
        format!("{:#}", self.body)
    }

    /// YAML for people.
    pub fn to_yaml(&self) -> Result<String, serde_yaml::Error> {
        serde_yaml::to_string(&self.body)
    }

    /// SHA-256 of body and tags, in hexadecimal. Equal hashes mean that the stack need not be updated. Parameters are
    /// not included.
    pub fn hash(&self) -> String {
        let mut digest = Sha256::new();
        digest.update(self.to_json());
        digest.update(json!(self.tags).to_string());
        digest.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
            use std::fmt::Write as _;
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

/// Place of the first text or key with the beginning of a dynamic reference (user guide, "Get values stored in other
/// services using dynamic references").
fn find_expression(place: &str, value: &Value) -> Option<String> {
    match value {
        Value::String(text) => text.contains("{{").then(|| place.to_owned()),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(index, item)| find_expression(&format!("{place}/{index}"), item))
        }
        Value::Object(members) => members.iter().find_map(|(key, member)| {
            if key.contains("{{") { Some(place.to_owned()) } else { find_expression(&format!("{place}/{key}"), member) }
        }),
        _ => None,
    }
}

/// Renders the template of a system. The bucket name is a literal if the manifest names the account.
pub fn render(system: &ValidatedSystem) -> Template {
    render_in(system, system.spec.aws.account_id.as_deref())
}

/// Renders the template of a system in an account. CloudFormation imports an existing resource into a stack only if its
/// name is a literal in the template (user guide, "Import AWS resources into a CloudFormation stack automatically").
pub fn render_in(system: &ValidatedSystem, account: Option<&str>) -> Template {
    let mut whole = TemplateFragment::default();
    for part in [
        table::part(system),
        queues::part(system),
        topic::part(system),
        cache::part(system),
        bucket::part(system, account),
        gateway::part(system),
        roles::part(system),
        logs::part(system),
        alarms::part(system),
        analytics::part(system),
    ] {
        whole.join(part);
    }
    order::create_the_table_last(&mut whole.resources);
    let mut body = json!({
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": format!("Coactus Dispatch {}/{}: ride dispatch of {}", system.namespace, system.name, system.spec.city),
        "Resources": whole.resources,
        "Outputs": whole.outputs,
    });
    if !whole.parameters.is_empty() {
        body["Parameters"] = json!(whole.parameters);
    }
    // Whether a JSON object preserves insertion order depends on a feature that any dependency may enable, so it is
    // sorted.
    body.sort_all_objects();
    Template { body, tags: tags(system) }
}

/// Names of the template parameters whose values the caller must provide. All of them are secrets.
pub fn parameters(system: &ValidatedSystem) -> Vec<&'static str> {
    if cache::needs_auth_token(system) { vec![CACHE_AUTH_TOKEN] } else { Vec::new() }
}

/// The user's tags and three of the operator, which distinguish the stack from another one of the same name.
fn tags(system: &ValidatedSystem) -> BTreeMap<String, String> {
    let mut tags = system.spec.aws.tags.clone();
    tags.insert(SYSTEM_TAG.to_owned(), format!("{}/{}", system.namespace, system.name));
    tags.insert("coactus:city".to_owned(), system.spec.city.clone());
    tags.insert("coactus:managed-by".to_owned(), "dispatch-operator".to_owned());
    tags
}

/// Logical ids of the resources whose data can outlive the stack.
pub const DATA_RESOURCES: [&str; 2] = [table::TABLE, bucket::BUCKET];

/// The tag that identifies retained data. It is set on the resource itself, so that it does not depend on the tags of a
/// stack.
fn data_tags(system: &ValidatedSystem) -> Value {
    json!([{ "Key": SYSTEM_TAG, "Value": format!("{}/{}", system.namespace, system.name) }])
}

/// `DeletionPolicy` and `UpdateReplacePolicy` of a resource with data.
///
/// `RetainExceptOnCreate` retains the data of a system that was created, but not after a failed first creation, so that
/// the next creation can use the same names.
fn data_policies(system: &ValidatedSystem) -> (&'static str, &'static str) {
    match system.deletion_policy {
        DeletionPolicy::Retain => ("RetainExceptOnCreate", "Retain"),
        DeletionPolicy::Delete => ("Delete", "Delete"),
    }
}
