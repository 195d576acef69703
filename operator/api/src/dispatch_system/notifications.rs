//! `spec.notifications`: push notifications to the apps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DATA_KEY, OBJECT_NAME};

/// Push notifications to the apps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NotificationsSpec {
    /// Firebase Cloud Messaging. Default: no push; notifications reach the apps only through the event streams of the
    /// HTTP API. Removing it deletes the SNS platform application with its registered devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fcm: Option<FcmSpec>,
}

/// Firebase Cloud Messaging.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FcmSpec {
    /// Secret key with the JSON key file of the Firebase service account, which FCM HTTP v1 requires. A changed value
    /// is applied in place.
    pub service_account_secret_ref: SecretKeyRef,
}

/// A key of a Secret in the namespace of the system. If the operator runs with `--require-secret-label`, the Secret
/// needs the label `dispatch.coactus.io/readable-by` with the name of the system, or `AnySystem`. Without a cluster,
/// the command line reads the value from `--secret <name>/<key>=<file>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(
        length(max = 253),
        regex(pattern = OBJECT_NAME)
    )]
    pub name: String,
    /// Key in the data of the Secret.
    #[schemars(length(max = 253), regex(pattern = DATA_KEY))]
    pub key: String,
}
