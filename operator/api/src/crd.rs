//! The custom resource definition: the resource types as Kubernetes reads them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

use crate::dispatch_system::DispatchSystem;

/// The definition.
pub fn crd() -> CustomResourceDefinition {
    DispatchSystem::crd()
}
