//! `spec.connection`: objects in the cluster that publish resource names and addresses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::OBJECT_NAME;

/// Objects that publish resource names and addresses to other programs of the city. They are created in the namespace
/// of the system and deleted with it. An existing object of the same name with another owner is not changed; the
/// condition `ConnectionPublished` reports it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectionSpec {
    /// Name of the `ConfigMap` with city, region, table, stream, queues, topic, bucket and addresses. Default
    /// `<name>-connection`. A new name creates a new object and deletes the previous one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 253),
        regex(pattern = OBJECT_NAME)
    )]
    pub config_map_name: Option<String>,
    /// Name of the `Secret` with the address of the cache and, if it has one, its AUTH token. It must differ from the
    /// Secrets that the system reads. Default: no Secret. The operator needs the optional permission to write Secrets.
    /// A new name creates a new object and deletes the previous one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 253),
        regex(pattern = OBJECT_NAME)
    )]
    pub secret_name: Option<String>,
}
