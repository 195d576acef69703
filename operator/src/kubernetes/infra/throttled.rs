//! Decorators of the AWS ports: every call is counted and rate-limited, with one limit for all systems of a region and
//! role, and every write checks the fence first.

use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::cloud::ports::StackProvider;
use crate::cloud::ports::{
    Buckets, CacheGroup, Caches, Export, ExportRequest, Exports, Identity, NewResource, NewSubscription, ObservedTable,
    PortError, PortErrorKind, Ports, PushPlatforms, PushStatus, QueueSettings, Queues, Recovery, Removed, Subscription,
    TableCorrection, Tables, Topics,
};
use crate::cloud::stack::{
    ChangeSet, ChangeSetRequest, ChangeSetSummary, ResourceState, Rollback, StackDescription, StackEvent, StackResource,
};
use crate::kubernetes::infra::fence::Fence;
use crate::kubernetes::infra::metric_labels::CallResult;
use crate::kubernetes::infra::metrics::Metrics;

/// Calls allowed in a burst before the rate limit applies.
const BURST: u32 = 10;

/// Limits the rate of calls. A call that comes too early waits; the number of concurrent reconciles bounds the queue.
#[derive(Debug)]
pub struct RateLimiter {
    interval: Duration,
    next: Mutex<Instant>,
}

impl RateLimiter {
    /// Allows `calls` per second, at least one.
    pub fn per_second(calls: u32) -> Self {
        Self { interval: Duration::from_secs(1) / calls.max(1), next: Mutex::new(Instant::now()) }
    }

    async fn acquire(&self) {
        let at = {
            let mut next = self.next.lock().await;
            let now = Instant::now();
            let earliest = now.checked_sub(self.interval * BURST).unwrap_or(now);
            let at = (*next).max(earliest);
            *next = at + self.interval;
            at
        };
        sleep_until(at).await;
    }
}

/// The checks before the calls of one region and role.
#[derive(Clone, Debug)]
pub struct Throttle {
    /// Checked before every write.
    pub fence: Fence,
    /// Limits all calls.
    pub rate: Arc<RateLimiter>,
    /// Counts all calls.
    pub metrics: Arc<Metrics>,
}

/// Wraps every port with a throttle.
pub fn throttled(ports: &Ports, throttle: &Throttle) -> Ports {
    fn under<T: ?Sized>(inner: &Arc<T>, throttle: &Throttle) -> Arc<Throttled<T>> {
        Arc::new(Throttled { inner: Arc::clone(inner), throttle: throttle.clone() })
    }
    Ports {
        stacks: under(&ports.stacks, throttle),
        tables: under(&ports.tables, throttle),
        exports: under(&ports.exports, throttle),
        push: under(&ports.push, throttle),
        caches: under(&ports.caches, throttle),
        queues: under(&ports.queues, throttle),
        topics: under(&ports.topics, throttle),
        buckets: under(&ports.buckets, throttle),
        identity: under(&ports.identity, throttle),
        clock: ports.clock,
    }
}

struct Throttled<T: ?Sized> {
    inner: Arc<T>,
    throttle: Throttle,
}

type Name = (&'static str, &'static str);

impl<T: ?Sized + Send + Sync> Throttled<T> {
    async fn read<R>(
        &self,
        name: Name,
        call: impl Future<Output = Result<R, PortError>> + Send,
    ) -> Result<R, PortError> {
        self.throttle.rate.acquire().await;
        self.counted(name, call).await
    }

    async fn write<R>(
        &self,
        name: Name,
        call: impl Future<Output = Result<R, PortError>> + Send,
    ) -> Result<R, PortError> {
        self.throttle.rate.acquire().await;
        if let Err(closed) = self.throttle.fence.check() {
            return Err(PortError::new("write to AWS", PortErrorKind::Unavailable, closed.to_string()));
        }
        self.counted(name, call).await
    }

    async fn counted<R>(
        &self,
        name: Name,
        call: impl Future<Output = Result<R, PortError>> + Send,
    ) -> Result<R, PortError> {
        let start = Instant::now();
        let result = call.await;
        let code = result.as_ref().err().map_or(CallResult::Ok, |error| error.kind.into());
        self.throttle.metrics.aws_call(name, code, start.elapsed());
        result
    }
}

const CLOUDFORMATION: &str = "cloudformation";

#[async_trait]
impl StackProvider for Throttled<dyn StackProvider> {
    async fn describe(&self, stack: &str) -> Result<Option<StackDescription>, PortError> {
        self.read((CLOUDFORMATION, "DescribeStacks"), self.inner.describe(stack)).await
    }

    async fn create_change_set(&self, request: &ChangeSetRequest) -> Result<(), PortError> {
        self.write((CLOUDFORMATION, "CreateChangeSet"), self.inner.create_change_set(request)).await
    }

    async fn change_set(&self, stack: &str, name: &str) -> Result<ChangeSet, PortError> {
        self.read((CLOUDFORMATION, "DescribeChangeSet"), self.inner.change_set(stack, name)).await
    }

    async fn template(&self, stack: &str) -> Result<serde_json::Value, PortError> {
        self.read((CLOUDFORMATION, "GetTemplate"), self.inner.template(stack)).await
    }

    async fn execute(&self, stack: &str, name: &str, token: &str) -> Result<(), PortError> {
        self.write((CLOUDFORMATION, "ExecuteChangeSet"), self.inner.execute(stack, name, token)).await
    }

    async fn change_sets(&self, stack: &str) -> Result<Vec<ChangeSetSummary>, PortError> {
        self.read((CLOUDFORMATION, "ListChangeSets"), self.inner.change_sets(stack)).await
    }

    async fn discard(&self, stack: &str, name: &str) -> Result<(), PortError> {
        self.write((CLOUDFORMATION, "DeleteChangeSet"), self.inner.discard(stack, name)).await
    }

    async fn roll_back(&self, stack: &str, way: Rollback<'_>, token: &str) -> Result<(), PortError> {
        let operation = match way {
            Rollback::ContinueRollback { .. } => "ContinueUpdateRollback",
            Rollback::RollBack => "RollbackStack",
        };
        self.write((CLOUDFORMATION, operation), self.inner.roll_back(stack, way, token)).await
    }

    async fn delete(&self, stack: &str, retain: &[String], token: &str) -> Result<(), PortError> {
        self.write((CLOUDFORMATION, "DeleteStack"), self.inner.delete(stack, retain, token)).await
    }

    async fn events_since(&self, stack: &str, after: Option<&str>) -> Result<Vec<StackEvent>, PortError> {
        self.read((CLOUDFORMATION, "DescribeStackEvents"), self.inner.events_since(stack, after)).await
    }

    async fn refusals(&self, stack: &str, change_set: Option<&str>) -> Result<Vec<String>, PortError> {
        self.read((CLOUDFORMATION, "DescribeEvents"), self.inner.refusals(stack, change_set)).await
    }

    async fn resources(&self, stack: &str) -> Result<Vec<StackResource>, PortError> {
        self.read((CLOUDFORMATION, "ListStackResources"), self.inner.resources(stack)).await
    }

    async fn resource_state(&self, stack: &str, logical_id: &str) -> Result<ResourceState, PortError> {
        self.read((CLOUDFORMATION, "DetectStackResourceDrift"), self.inner.resource_state(stack, logical_id)).await
    }
}

const DYNAMODB: &str = "dynamodb";

#[async_trait]
impl Exports for Throttled<dyn Exports> {
    async fn start(&self, request: &ExportRequest) -> Result<Export, PortError> {
        self.write((DYNAMODB, "ExportTableToPointInTime"), self.inner.start(request)).await
    }

    async fn describe(&self, arn: &str) -> Result<Export, PortError> {
        self.read((DYNAMODB, "DescribeExport"), self.inner.describe(arn)).await
    }

    async fn list(&self, table_arn: &str) -> Result<Vec<String>, PortError> {
        self.read((DYNAMODB, "ListExports"), self.inner.list(table_arn)).await
    }
}

#[async_trait]
impl Tables for Throttled<dyn Tables> {
    async fn table(&self, table: &str) -> Result<Option<ObservedTable>, PortError> {
        self.read((DYNAMODB, "DescribeTable"), self.inner.table(table)).await
    }

    async fn tags(&self, table_arn: &str) -> Result<BTreeMap<String, String>, PortError> {
        self.read((DYNAMODB, "ListTagsOfResource"), self.inner.tags(table_arn)).await
    }

    async fn tag(&self, table_arn: &str, key: &str, value: &str) -> Result<(), PortError> {
        self.write((DYNAMODB, "TagResource"), self.inner.tag(table_arn, key, value)).await
    }

    async fn expiry(&self, table: &str) -> Result<Option<String>, PortError> {
        self.read((DYNAMODB, "DescribeTimeToLive"), self.inner.expiry(table)).await
    }

    async fn correct(&self, table: &str, correction: &TableCorrection) -> Result<(), PortError> {
        self.write((DYNAMODB, "UpdateTable"), self.inner.correct(table, correction)).await
    }

    async fn recovery(&self, table: &str) -> Result<Option<Recovery>, PortError> {
        self.read((DYNAMODB, "DescribeContinuousBackups"), self.inner.recovery(table)).await
    }

    async fn enable_recovery(&self, table: &str) -> Result<(), PortError> {
        self.write((DYNAMODB, "UpdateContinuousBackups"), self.inner.enable_recovery(table)).await
    }
}

const SNS: &str = "sns";

#[async_trait]
impl PushPlatforms for Throttled<dyn PushPlatforms> {
    async fn status(&self, arn: &str) -> Result<Option<PushStatus>, PortError> {
        self.read((SNS, "GetPlatformApplicationAttributes"), self.inner.status(arn)).await
    }

    async fn create(&self, name: &str, credential: &SecretString) -> Result<String, PortError> {
        self.write((SNS, "CreatePlatformApplication"), self.inner.create(name, credential)).await
    }

    async fn update(&self, arn: &str, credential: &SecretString) -> Result<(), PortError> {
        self.write((SNS, "SetPlatformApplicationAttributes"), self.inner.update(arn, credential)).await
    }

    async fn delete(&self, arn: &str) -> Result<(), PortError> {
        self.write((SNS, "DeletePlatformApplication"), self.inner.delete(arn)).await
    }
}

#[async_trait]
impl Caches for Throttled<dyn Caches> {
    async fn group(&self, replication_group: &str) -> Result<Option<CacheGroup>, PortError> {
        self.read(("elasticache", "DescribeReplicationGroups"), self.inner.group(replication_group)).await
    }
}

const SQS: &str = "sqs";

#[async_trait]
impl Queues for Throttled<dyn Queues> {
    async fn settings(&self, url: &str) -> Result<Option<QueueSettings>, PortError> {
        self.read((SQS, "GetQueueAttributes"), self.inner.settings(url)).await
    }

    async fn waiting(&self, url: &str) -> Result<Option<u64>, PortError> {
        self.read((SQS, "GetQueueAttributes"), self.inner.waiting(url)).await
    }

    async fn correct(&self, url: &str, settings: &QueueSettings) -> Result<(), PortError> {
        self.write((SQS, "SetQueueAttributes"), self.inner.correct(url, settings)).await
    }

    async fn create(&self, queue: &NewResource) -> Result<(), PortError> {
        self.write((SQS, "CreateQueue"), self.inner.create(queue)).await
    }
}

#[async_trait]
impl Topics for Throttled<dyn Topics> {
    async fn subscriptions(&self, topic_arn: &str) -> Result<Option<Vec<Subscription>>, PortError> {
        self.read((SNS, "ListSubscriptionsByTopic"), self.inner.subscriptions(topic_arn)).await
    }

    async fn create(&self, topic: &NewResource) -> Result<(), PortError> {
        self.write((SNS, "CreateTopic"), self.inner.create(topic)).await
    }

    async fn subscribe(&self, subscription: &NewSubscription) -> Result<(), PortError> {
        self.write((SNS, "Subscribe"), self.inner.subscribe(subscription)).await
    }
}

const S3: &str = "s3";

#[async_trait]
impl Buckets for Throttled<dyn Buckets> {
    async fn tags(&self, bucket: &str, owner: &str) -> Result<Option<BTreeMap<String, String>>, PortError> {
        self.read((S3, "GetBucketTagging"), self.inner.tags(bucket, owner)).await
    }

    async fn set_tags(&self, bucket: &str, owner: &str, tags: &BTreeMap<String, String>) -> Result<(), PortError> {
        self.write((S3, "PutBucketTagging"), self.inner.set_tags(bucket, owner, tags)).await
    }

    async fn remove_versions(&self, bucket: &str, owner: &str) -> Result<Removed, PortError> {
        self.write((S3, "DeleteObjects"), self.inner.remove_versions(bucket, owner)).await
    }
}

#[async_trait]
impl Identity for Throttled<dyn Identity> {
    async fn account(&self) -> Result<String, PortError> {
        self.read(("sts", "GetCallerIdentity"), self.inner.account()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    fn throttle(fence: Fence, rate: u32) -> Throttle {
        Throttle { fence, rate: Arc::new(RateLimiter::per_second(rate)), metrics: Arc::new(Metrics::new()) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_that_is_not_the_leader_reads_but_writes_nothing() {
        let world = World::default();
        let throttle = throttle(Fence::closed(), 100);
        let ports = throttled(&world.ports(), &throttle);
        assert_eq!(ports.stacks.describe("s").await.unwrap(), None);
        let error = ports.tables.enable_recovery("t").await.unwrap_err();
        assert_eq!(error.kind, PortErrorKind::Unavailable);
        assert!(world.take_calls().1.is_empty());
        assert!(throttle.metrics.encode().unwrap().contains("operation=\"DescribeStacks\",code=\"ok\"} 1"));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_rate_limited() {
        let world = World::default();
        let ports = throttled(&world.ports(), &throttle(Fence::open(), 10));
        let start = Instant::now();
        for _ in 0..60 {
            ports.tables.recovery("t").await.unwrap();
        }
        let took = start.elapsed();
        assert!(took >= Duration::from_secs(4) && took <= Duration::from_secs(6), "{took:?}");
    }
}
