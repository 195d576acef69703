//! `spec.api.ingress` and `spec.api.httpRoute`: how clients outside the cluster reach the API through a proxy of the
//! cluster.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LABEL, OBJECT_NAME};

/// An `Ingress` for the API. Created, changed and deleted with this field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IngressSpec {
    /// Name of the `IngressClass`. Default: the default class of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = OBJECT_NAME))]
    pub class_name: Option<String>,
    /// Host name of the API, for example `seoul.example.com`, in lower case, without a wildcard. An administrator can
    /// limit it, with the annotation `dispatch.coactus.io/allowed-hosts` of the namespace or an option of the operator.
    #[schemars(length(max = 253), regex(pattern = OBJECT_NAME))]
    pub host: String,
    /// Secret of the type `kubernetes.io/tls`, in this namespace, with the certificate of the host. The proxy reads it.
    /// Default: the default certificate of the proxy, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = OBJECT_NAME))]
    pub tls_secret_name: Option<String>,
}

/// An `HTTPRoute` of the Gateway API for the API. Created, changed and deleted with this field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpRouteSpec {
    /// Gateways to which the route attaches, 1 to 8. They decide which namespaces may attach, and hold the
    /// certificates.
    #[schemars(length(min = 1, max = 8))]
    pub gateways: Vec<GatewayRef>,
    /// Host names of the API, 1 to 8, in lower case, without wildcards. An administrator can limit them, with the
    /// annotation `dispatch.coactus.io/allowed-hosts` of the namespace or an option of the operator.
    #[schemars(length(min = 1, max = 8), inner(length(max = 253), regex(pattern = OBJECT_NAME)))]
    pub hosts: Vec<String>,
}

/// A Gateway, or one of its listeners.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GatewayRef {
    /// Name of the Gateway.
    #[schemars(length(max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
    /// Namespace of the Gateway. Default: the namespace of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = LABEL))]
    pub namespace: Option<String>,
    /// Name of the listener. Default: every listener that allows the route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = OBJECT_NAME))]
    pub listener: Option<String>,
}
