//! Where the controller's AWS ports come from: one set for each region and role, shared by all systems that use it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use dispatch_api::validate::ValidatedSystem;
use futures::future::BoxFuture;

use super::fence::Fence;
use super::guarded::{Guard, Rate, guarded};
use super::metrics::Metrics;
use crate::aws::AwsClients;
use crate::ports::Ports;

/// Makes or finds the ports of a system.
pub trait PortsSource: Send + Sync {
    /// Ports with the identity and region the manifest names. Makes no call.
    fn ports<'a>(&'a self, system: &'a ValidatedSystem) -> BoxFuture<'a, Ports>;
}

/// Region, and role and external id if one is assumed.
type Key = (String, Option<String>, Option<String>);

/// Real AWS, under guard.
pub struct Aws {
    endpoint_url: Option<String>,
    calls_per_second: u32,
    fence: Fence,
    metrics: Arc<Metrics>,
    // Bounded by the regions and roles that the manifests name.
    made: Mutex<HashMap<Key, Ports>>,
}

impl Aws {
    /// `endpoint_url` replaces every service's address; `calls_per_second` bounds the calls of each region and role.
    pub fn new(endpoint_url: Option<String>, calls_per_second: u32, fence: Fence, metrics: Arc<Metrics>) -> Self {
        Self { endpoint_url, calls_per_second, fence, metrics, made: Mutex::default() }
    }

    fn find(&self, key: &Key) -> Option<Ports> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }
}

impl PortsSource for Aws {
    fn ports<'a>(&'a self, system: &'a ValidatedSystem) -> BoxFuture<'a, Ports> {
        Box::pin(async move {
            let aws = &system.spec.aws;
            let key = (system.spec.region.clone(), aws.role_arn.clone(), aws.external_id.clone());
            if let Some(ports) = self.find(&key) {
                return ports;
            }
            let clients = AwsClients::connect(&key.0, self.endpoint_url.as_deref(), aws).await;
            let guard = Guard {
                fence: self.fence.clone(),
                rate: Arc::new(Rate::per_second(self.calls_per_second)),
                metrics: Arc::clone(&self.metrics),
            };
            let ports = guarded(&clients.ports(), &guard);
            // Two systems may have connected at once; they go on with the same ports.
            self.made.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_insert(ports).clone()
        })
    }
}
