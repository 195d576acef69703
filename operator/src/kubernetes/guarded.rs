//! AWS under guard: every call keeps to a rate that all systems of one account and region share and is counted; every call that changes
//! something asks the fence first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use super::fence::Fence;
use super::metrics::Metrics;
use crate::ports::{
    Buckets, CacheEndpoint, Caches, Call, Export, ExportRequest, Identity, PortError, PortErrorKind, Ports,
    PushPlatforms, QueueSettings, Queues, Recovery, Removed, TableCorrection, TableLook, Tables,
};
use crate::stack::{ChangeSet, ChangeSetRequest, StackDescription, StackEvent, StackProvider, StackResource, WayBack};

/// Calls that may be made at once before the rate counts.
const BURST: u32 = 10;

/// A rate of calls. Who comes too early waits; reconciles are bounded in number, so the queue is, too.
#[derive(Debug)]
pub struct Rate {
    interval: Duration,
    next: Mutex<Instant>,
}

impl Rate {
    /// So many calls a second, at least one.
    pub fn per_second(calls: u32) -> Self {
        Self { interval: Duration::from_secs(1) / calls.max(1), next: Mutex::new(Instant::now()) }
    }

    async fn turn(&self) {
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

/// The guard of one account and region.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Asked before everything that changes something.
    pub fence: Fence,
    /// Rate of calls.
    pub rate: Arc<Rate>,
    /// Where calls are counted.
    pub metrics: Arc<Metrics>,
}

/// Ports under a guard.
pub fn guarded(ports: &Ports, guard: &Guard) -> Ports {
    fn under<T: ?Sized>(inner: &Arc<T>, guard: &Guard) -> Arc<Guarded<T>> {
        Arc::new(Guarded { inner: Arc::clone(inner), guard: guard.clone() })
    }
    Ports {
        stacks: under(&ports.stacks, guard),
        tables: under(&ports.tables, guard),
        push: under(&ports.push, guard),
        caches: under(&ports.caches, guard),
        queues: under(&ports.queues, guard),
        buckets: under(&ports.buckets, guard),
        identity: under(&ports.identity, guard),
        clock: ports.clock,
    }
}

struct Guarded<T: ?Sized> {
    inner: Arc<T>,
    guard: Guard,
}

type Name = (&'static str, &'static str);

impl<T: ?Sized + Send + Sync> Guarded<T> {
    fn read<'a, R, F>(&'a self, name: Name, call: F) -> Call<'a, R>
    where
        R: Send + 'a,
        F: FnOnce(&'a T) -> Call<'a, R> + Send + 'a,
    {
        Box::pin(async move {
            self.guard.rate.turn().await;
            self.counted(name, call).await
        })
    }

    fn write<'a, R, F>(&'a self, name: Name, call: F) -> Call<'a, R>
    where
        R: Send + 'a,
        F: FnOnce(&'a T) -> Call<'a, R> + Send + 'a,
    {
        Box::pin(async move {
            self.guard.rate.turn().await;
            if let Err(closed) = self.guard.fence.check() {
                return Err(PortError::new("change anything", PortErrorKind::Unavailable, closed.to_string()));
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
        let code = result.as_ref().err().map_or("ok", |error| code(error.kind));
        self.guard.metrics.aws_call(name, code, start.elapsed());
        result
    }
}

fn code(kind: PortErrorKind) -> &'static str {
    match kind {
        PortErrorKind::NotFound => "not_found",
        PortErrorKind::AlreadyExists => "already_exists",
        PortErrorKind::Throttled => "throttled",
        PortErrorKind::Quota => "quota",
        PortErrorKind::Denied => "denied",
        PortErrorKind::Invalid => "invalid",
        PortErrorKind::Unavailable => "unavailable",
    }
}

const CLOUDFORMATION: &str = "cloudformation";

impl StackProvider for Guarded<dyn StackProvider> {
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

    fn go_back<'a>(&'a self, stack: &'a str, way: WayBack<'a>, token: &'a str) -> Call<'a, ()> {
        let operation = match way {
            WayBack::ContinueRollback { .. } => "ContinueUpdateRollback",
            WayBack::RollBack => "RollbackStack",
        };
        self.write((CLOUDFORMATION, operation), move |inner| inner.go_back(stack, way, token))
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

impl Tables for Guarded<dyn Tables> {
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

impl PushPlatforms for Guarded<dyn PushPlatforms> {
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

impl Caches for Guarded<dyn Caches> {
    fn endpoint<'a>(&'a self, replication_group: &'a str) -> Call<'a, Option<CacheEndpoint>> {
        self.read(("elasticache", "DescribeReplicationGroups"), move |inner| inner.endpoint(replication_group))
    }
}

const SQS: &str = "sqs";

impl Queues for Guarded<dyn Queues> {
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

impl Buckets for Guarded<dyn Buckets> {
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

impl Identity for Guarded<dyn Identity> {
    fn account(&self) -> Call<'_, String> {
        self.read(("sts", "GetCallerIdentity"), |inner| inner.account())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    fn guard(fence: Fence, rate: u32) -> Guard {
        Guard { fence, rate: Arc::new(Rate::per_second(rate)), metrics: Arc::new(Metrics::new()) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_that_does_not_lead_reads_and_changes_nothing() {
        let world = World::default();
        let guard = guard(Fence::closed(), 100);
        let ports = guarded(&world.ports(), &guard);
        assert_eq!(ports.stacks.describe("s").await.unwrap(), None);
        let error = ports.tables.enable_recovery("t").await.unwrap_err();
        assert_eq!(error.kind, PortErrorKind::Unavailable);
        assert!(world.take_calls().1.is_empty());
        assert!(guard.metrics.encode().unwrap().contains("operation=\"DescribeStacks\",code=\"ok\"} 1"));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_keep_to_their_rate() {
        let world = World::default();
        let ports = guarded(&world.ports(), &guard(Fence::open(), 10));
        let start = Instant::now();
        for _ in 0..60 {
            ports.tables.recovery("t").await.unwrap();
        }
        let took = start.elapsed();
        assert!(took >= Duration::from_secs(4) && took <= Duration::from_secs(6), "{took:?}");
    }
}
