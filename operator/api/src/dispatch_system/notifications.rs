//! `spec.notifications`: push to the apps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Push notifications.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NotificationsSpec {
    /// Firebase Cloud Messaging. Without it notifications still reach the event streams of the HTTP API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fcm: Option<FcmSpec>,
}

/// Firebase Cloud Messaging.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FcmSpec {
    /// Where the Firebase service account (the whole JSON key file, which FCM HTTP v1 requires) is kept.
    pub service_account_secret_ref: SecretKeyRef,
}

/// A key of a Secret in the system's own namespace. Without a cluster the command line reads it from
/// `--secret <name>/<key>=<file>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(
        length(max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,
    /// Key in the Secret's data.
    #[schemars(length(max = 253), regex(pattern = r"^[-._A-Za-z0-9]+$"))]
    pub key: String,
}
