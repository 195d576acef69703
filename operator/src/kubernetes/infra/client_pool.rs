//! AWS clients of the controller: one set for each region and role, shared by all systems that use them.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

use dispatch_api::validate::ValidatedSystem;
use futures::future::BoxFuture;

use crate::cloud::aws::AwsClients;
use crate::cloud::ports::Ports;
use crate::kubernetes::infra::fence::Fence;
use crate::kubernetes::infra::metrics::Metrics;
use crate::kubernetes::infra::throttled::{RateLimiter, Throttle, throttled};

/// Provides the AWS ports of a system.
pub trait ClientPool: Send + Sync {
    /// Ports for the region and the role that the manifest names. Makes no AWS call.
    fn ports<'a>(&'a self, system: &'a ValidatedSystem) -> BoxFuture<'a, Ports>;
}

/// Region, role and external id; the last two are set if a role is assumed.
type Key = (String, Option<String>, Option<String>);

/// Clients of AWS itself, rate-limited and fenced.
pub struct AwsClientPool {
    endpoint_url: Option<String>,
    calls_per_second: u32,
    fence: Fence,
    metrics: Arc<Metrics>,
    // Bounded by the regions and roles that the manifests name.
    made: Mutex<HashMap<Key, Ports>>,
}

impl AwsClientPool {
    /// `endpoint_url` replaces the endpoint of every service; `calls_per_second` limits the calls of each region and
    /// role.
    pub fn new(endpoint_url: Option<String>, calls_per_second: u32, fence: Fence, metrics: Arc<Metrics>) -> Self {
        Self { endpoint_url, calls_per_second, fence, metrics, made: Mutex::default() }
    }

    fn find(&self, key: &Key) -> Option<Ports> {
        self.made.lock().get(key).cloned()
    }
}

impl ClientPool for AwsClientPool {
    fn ports<'a>(&'a self, system: &'a ValidatedSystem) -> BoxFuture<'a, Ports> {
        Box::pin(async move {
            let aws = &system.spec.aws;
            let key = (system.spec.region.clone(), aws.role_arn.clone(), aws.external_id.clone());
            if let Some(ports) = self.find(&key) {
                return ports;
            }
            let clients = AwsClients::connect(&key.0, self.endpoint_url.as_deref(), aws).await;
            let throttle = Throttle {
                fence: self.fence.clone(),
                rate: Arc::new(RateLimiter::per_second(self.calls_per_second)),
                metrics: Arc::clone(&self.metrics),
            };
            let ports = throttled(&clients.ports(), &throttle);
            // Two systems may have connected at the same time; both use the ports that were inserted first.
            self.made.lock().entry(key).or_insert(ports).clone()
        })
    }
}
