//! Decorators of the AWS ports: every call is counted and rate-limited, with one limit for all systems of a region and
//! role, and every write checks the fence first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::cloud::ports::{
    Buckets, CacheEndpoint, Caches, Call, Export, ExportRequest, Identity, PortError, PortErrorKind, Ports,
    PushPlatforms, QueueSettings, Queues, Recovery, Removed, TableCorrection, TableLook, Tables,
};
use crate::cloud::stack::{
    ChangeSet, ChangeSetRequest, Rollback, StackDescription, StackEvent, StackProvider, StackResource,
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
        push: under(&ports.push, throttle),
        caches: under(&ports.caches, throttle),
        queues: under(&ports.queues, throttle),
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
    fn read<'a, R, F>(&'a self, name: Name, call: F) -> Call<'a, R>
    where
        R: Send + 'a,
        F: FnOnce(&'a T) -> Call<'a, R> + Send + 'a,
    {
        Box::pin(async move {
            self.throttle.rate.acquire().await;
            self.counted(name, call).await
        })
    }

    fn write<'a, R, F>(&'a self, name: Name, call: F) -> Call<'a, R>
    where
        R: Send + 'a,
        F: FnOnce(&'a T) -> Call<'a, R> + Send + 'a,
    {
        Box::pin(async move {
            self.throttle.rate.acquire().await;
            if let Err(closed) = self.throttle.fence.check() {
                return Err(PortError::new("write to AWS", PortErrorKind::Unavailable, closed.to_string()));
            }
            self.counted(name, call).await
        })
    }

    async fn counted<'a, R, F>(&'a self, name: Name, call: F) -> Result<R, PortError>
    where
        R: Send + 'a,
        F: FnOnce(&'a T) -> Call<'a, R> + Send + 'a,
    {
        let start = Instant::now();
        let result = call(&self.inner).await;
        let code = result.as_ref().err().map_or(CallResult::Ok, |error| error.kind.into());
        self.throttle.metrics.aws_call(name, code, start.elapsed());
        result
    }
}

const CLOUDFORMATION: &str = "cloudformation";

impl StackProvider for Throttled<dyn StackProvider> {
    fn describe<'a>(&'a self, stack: &'a str) -> Call<'a, Option<StackDescription>> {
        self.read((CLOUDFORMATION, "DescribeStacks"), move |inner| inner.describe(stack))
    }

    fn create_change_set<'a>(&'a self, request: &'a ChangeSetRequest) -> Call<'a, ()> {
        self.write((CLOUDFORMATION, "CreateChangeSet"), move |inner| inner.create_change_set(request))
    }

    fn change_set<'a>(&'a self, stack: &'a str, name: &'a str) -> Call<'a, ChangeSet> {
        self.read((CLOUDFORMATION, "DescribeChangeSet"), move |inner| inner.change_set(stack, name))
    }

    fn execute<'a>(&'a self, stack: &'a str, name: &'a str, token: &'a str) -> Call<'a, ()> {
        self.write((CLOUDFORMATION, "ExecuteChangeSet"), move |inner| inner.execute(stack, name, token))
    }

    fn change_sets<'a>(&'a self, stack: &'a str) -> Call<'a, Vec<String>> {
        self.read((CLOUDFORMATION, "ListChangeSets"), move |inner| inner.change_sets(stack))
    }

    fn discard<'a>(&'a self, stack: &'a str, name: &'a str) -> Call<'a, ()> {
        self.write((CLOUDFORMATION, "DeleteChangeSet"), move |inner| inner.discard(stack, name))
    }

    fn roll_back<'a>(&'a self, stack: &'a str, way: Rollback<'a>, token: &'a str) -> Call<'a, ()> {
        let operation = match way {
            Rollback::ContinueRollback { .. } => "ContinueUpdateRollback",
            Rollback::RollBack => "RollbackStack",
        };
        self.write((CLOUDFORMATION, operation), move |inner| inner.roll_back(stack, way, token))
    }

    fn delete<'a>(&'a self, stack: &'a str, retain: &'a [String], token: &'a str) -> Call<'a, ()> {
        self.write((CLOUDFORMATION, "DeleteStack"), move |inner| inner.delete(stack, retain, token))
    }

    fn events_since<'a>(&'a self, stack: &'a str, after: Option<&'a str>) -> Call<'a, Vec<StackEvent>> {
        self.read((CLOUDFORMATION, "DescribeStackEvents"), move |inner| inner.events_since(stack, after))
    }

    fn refusals<'a>(&'a self, stack: &'a str, change_set: Option<&'a str>) -> Call<'a, Vec<String>> {
        self.read((CLOUDFORMATION, "DescribeEvents"), move |inner| inner.refusals(stack, change_set))
    }

    fn resources<'a>(&'a self, stack: &'a str) -> Call<'a, Vec<StackResource>> {
        self.read((CLOUDFORMATION, "ListStackResources"), move |inner| inner.resources(stack))
    }
}

const DYNAMODB: &str = "dynamodb";

impl Tables for Throttled<dyn Tables> {
    fn table<'a>(&'a self, table: &'a str) -> Call<'a, Option<TableLook>> {
        self.read((DYNAMODB, "DescribeTable"), move |inner| inner.table(table))
    }

    fn tags<'a>(&'a self, table_arn: &'a str) -> Call<'a, BTreeMap<String, String>> {
        self.read((DYNAMODB, "ListTagsOfResource"), move |inner| inner.tags(table_arn))
    }

    fn tag<'a>(&'a self, table_arn: &'a str, key: &'a str, value: &'a str) -> Call<'a, ()> {
        self.write((DYNAMODB, "TagResource"), move |inner| inner.tag(table_arn, key, value))
    }

    fn expiry<'a>(&'a self, table: &'a str) -> Call<'a, Option<String>> {
        self.read((DYNAMODB, "DescribeTimeToLive"), move |inner| inner.expiry(table))
    }

    fn correct<'a>(&'a self, table: &'a str, correction: &'a TableCorrection) -> Call<'a, ()> {
        self.write((DYNAMODB, "UpdateTable"), move |inner| inner.correct(table, correction))
    }

    fn recovery<'a>(&'a self, table: &'a str) -> Call<'a, Option<Recovery>> {
        self.read((DYNAMODB, "DescribeContinuousBackups"), move |inner| inner.recovery(table))
    }

    fn enable_recovery<'a>(&'a self, table: &'a str) -> Call<'a, ()> {
        self.write((DYNAMODB, "UpdateContinuousBackups"), move |inner| inner.enable_recovery(table))
    }

    fn start_export<'a>(&'a self, request: &'a ExportRequest) -> Call<'a, Export> {
        self.write((DYNAMODB, "ExportTableToPointInTime"), move |inner| inner.start_export(request))
    }

    fn export<'a>(&'a self, arn: &'a str) -> Call<'a, Export> {
        self.read((DYNAMODB, "DescribeExport"), move |inner| inner.export(arn))
    }

    fn exports<'a>(&'a self, table_arn: &'a str) -> Call<'a, Vec<String>> {
        self.read((DYNAMODB, "ListExports"), move |inner| inner.exports(table_arn))
    }
}

const SNS: &str = "sns";

impl PushPlatforms for Throttled<dyn PushPlatforms> {
    fn exists<'a>(&'a self, arn: &'a str) -> Call<'a, bool> {
        self.read((SNS, "GetPlatformApplicationAttributes"), move |inner| inner.exists(arn))
    }

    fn create<'a>(&'a self, name: &'a str, credential: &'a SecretString) -> Call<'a, String> {
        self.write((SNS, "CreatePlatformApplication"), move |inner| inner.create(name, credential))
    }

    fn update<'a>(&'a self, arn: &'a str, credential: &'a SecretString) -> Call<'a, ()> {
        self.write((SNS, "SetPlatformApplicationAttributes"), move |inner| inner.update(arn, credential))
    }

    fn delete<'a>(&'a self, arn: &'a str) -> Call<'a, ()> {
        self.write((SNS, "DeletePlatformApplication"), move |inner| inner.delete(arn))
    }
}

impl Caches for Throttled<dyn Caches> {
    fn endpoint<'a>(&'a self, replication_group: &'a str) -> Call<'a, Option<CacheEndpoint>> {
        self.read(("elasticache", "DescribeReplicationGroups"), move |inner| inner.endpoint(replication_group))
    }
}

const SQS: &str = "sqs";

impl Queues for Throttled<dyn Queues> {
    fn settings<'a>(&'a self, url: &'a str) -> Call<'a, Option<QueueSettings>> {
        self.read((SQS, "GetQueueAttributes"), move |inner| inner.settings(url))
    }

    fn waiting<'a>(&'a self, url: &'a str) -> Call<'a, Option<u64>> {
        self.read((SQS, "GetQueueAttributes"), move |inner| inner.waiting(url))
    }

    fn correct<'a>(&'a self, url: &'a str, settings: &'a QueueSettings) -> Call<'a, ()> {
        self.write((SQS, "SetQueueAttributes"), move |inner| inner.correct(url, settings))
    }
}

const S3: &str = "s3";

impl Buckets for Throttled<dyn Buckets> {
    fn tags<'a>(&'a self, bucket: &'a str, owner: &'a str) -> Call<'a, Option<BTreeMap<String, String>>> {
        self.read((S3, "GetBucketTagging"), move |inner| inner.tags(bucket, owner))
    }

    fn set_tags<'a>(&'a self, bucket: &'a str, owner: &'a str, tags: &'a BTreeMap<String, String>) -> Call<'a, ()> {
        self.write((S3, "PutBucketTagging"), move |inner| inner.set_tags(bucket, owner, tags))
    }

    fn remove_versions<'a>(&'a self, bucket: &'a str, owner: &'a str) -> Call<'a, Removed> {
        self.write((S3, "DeleteObjects"), move |inner| inner.remove_versions(bucket, owner))
    }
}

impl Identity for Throttled<dyn Identity> {
    fn account(&self) -> Call<'_, String> {
        self.read(("sts", "GetCallerIdentity"), |inner| inner.account())
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
