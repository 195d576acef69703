//! `spec.connection`: where names and addresses are published for other programs of the city.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Names of the objects that carry the connection. Both are made in the system's own namespace, belong to it and go with it; an
/// object of that name that somebody else made is left as it is, which the condition `ConnectionPublished` says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectionSpec {
    /// Name of the `ConfigMap` with table, stream, queues, topic, bucket and addresses. Default `<name>-connection`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub config_map_name: Option<String>,
    /// Name of the `Secret` with the cache's address and, where it has one, its AUTH token. Default: none is made. The operator
    /// may write Secrets only where it was installed with that right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub secret_name: Option<String>,
}
