//! `spec.aws`: account, operator role, encryption key and tags.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// AWS account, operator role, encryption key and tags.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new(
        "!has(self.roleArn) || !has(self.accountId) || self.roleArn.contains('::' + self.accountId + ':')"
    )
    .message("roleArn must be a role in the account accountId")
    .field_path(".roleArn")
    .reason(Reason::FieldValueInvalid),
    validation = Rule::new("!has(self.externalId) || has(self.roleArn)")
        .message("externalId requires roleArn")
        .field_path(".externalId")
        .reason(Reason::FieldValueForbidden),
    validation = Rule::new("self.tags.all(key, !key.startsWith('aws:') && !key.startsWith('coactus:'))")
        .message("tag keys that start with aws: or coactus: are reserved")
        .field_path(".tags")
        .reason(Reason::FieldValueForbidden),
)]
pub struct AwsSpec {
    /// Id of the AWS account of the city, twelve digits in quotes. If it is set, the operator refuses credentials of
    /// any other account. Default: the account of the credentials. Immutable once it is set and the
    /// stack exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 12), regex(pattern = r"^[0-9]{12}$"))]
    pub account_id: Option<String>,
    /// ARN of the IAM role that the operator assumes for this system. An administrator allows it, with the annotation
    /// `dispatch.coactus.io/allowed-role-arns` of the namespace or an option of the operator. Default: the operator's
    /// own identity. A change applies from the next reconcile on and modifies no resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^arn:aws(-[a-z-]+)?:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@:/-]+$"))]
    pub role_arn: Option<String>,
    /// External ID that the trust policy of the role requires, 2 to 1224 letters, digits and `_ + = , . @ : / -`. It is
    /// not a secret. Requires `roleArn`. Default: none, or the one that the operator derives (`--external-ids`), which
    /// then is the only one allowed for a new role. A change applies from the next reconcile on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 1224), regex(pattern = r"^[A-Za-z0-9_+=,.@:/-]+$"))]
    pub external_id: Option<String>,
    /// Tags of every resource, at most 40, in addition to the tags that the operator sets. Keys have 1 to 128
    /// characters and must not start with `aws:` or `coactus:`; values have at most 256. Allowed characters: letters,
    /// digits, spaces and `_ . : / = + - @`. Default: none. Updated in place.
    #[serde(default)]
    #[schemars(schema_with = "tags")]
    pub tags: BTreeMap<String, String>,
    /// ARN of the permissions boundary of the IAM roles in the stack. Default: none. Updated in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 2048),
        regex(pattern = r"^arn:aws(-[a-z-]+)?:iam::([0-9]{12}|aws):policy/[A-Za-z0-9_+=,.@:/-]+$")
    )]
    pub permissions_boundary_arn: Option<String>,
    /// ARN of the customer managed KMS key, in `spec.region`, that encrypts table, queues, topic, bucket, logs and
    /// managed cache. The key policy must allow `sns.amazonaws.com` and `logs.<region>.amazonaws.com` to use it.
    /// Default: keys that AWS manages or owns. Set it at creation: ElastiCache cannot change the key of an existing
    /// cache, so with a managed cache a later change fails and is rolled back. With `cache.external` it is updated in
    /// place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 2048),
        regex(pattern = r"^arn:aws(-[a-z-]+)?:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9_+=,.@:/-]+$")
    )]
    pub kms_key_arn: Option<String>,
    /// Name of the EKS cluster whose Pod Identity gives the workers their roles, in the account and region of the city:
    /// the stack then associates each role with its service account, and the roles trust this cluster only. Default:
    /// none; the associations are made by hand, from the roles in `status.outputs.workerRoleArns`. Updated in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"))]
    pub eks_cluster_name: Option<String>,
    /// ARN of the IAM OIDC provider of the cluster, in the account of the city, for IAM roles for service accounts:
    /// each role trusts its service account of this issuer, and the operator annotates the service accounts. Default:
    /// none. Updated in place; Pods that exist keep their identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 2048),
        regex(pattern = r"^arn:aws(-[a-z-]+)?:iam::[0-9]{12}:oidc-provider/[A-Za-z0-9][A-Za-z0-9._/-]*$")
    )]
    pub oidc_provider_arn: Option<String>,
    /// ARN of an IAM role in another account that may assume the roles of the workers, with session tags: for a cluster
    /// in that account, whose Pod Identity associations name it as `roleArn` and a role of the workers as
    /// `targetRoleArn`. Default: none. Updated in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^arn:aws(-[a-z-]+)?:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@:/-]+$"))]
    pub worker_principal_arn: Option<String>,
}

fn tags(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 40,
        "additionalProperties": { "type": "string", "maxLength": 256 }
    })
}
