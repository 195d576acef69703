//! What the engine needs from the outside, in the engine's own words: no SDK type appears here.
//!
//! The real adapters are in [`crate::cloud::aws`]; behaving in-memory ones and a failing decorator are in
//! [`crate::testing`] (feature `testing`).

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use dispatch_api::dispatch_system::BillingMode;
use jiff::Timestamp;
use secrecy::SecretString;
use thiserror::Error;

use crate::cloud::stack::StackProvider;

/// A call on a port. Boxed, so that the ports can be chosen at run time and the engine is compiled once.
pub type Call<'a, T> = Pin<Box<dyn Future<Output = Result<T, PortError>> + Send + 'a>>;

/// How a failed call is to be met. Classified by AWS's typed error codes and transport errors, never by message text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortErrorKind {
    /// The thing is not there.
    NotFound,
    /// It is there already.
    AlreadyExists,
    /// AWS asks for patience; the SDK's own retries are used up.
    Throttled,
    /// A quota of the account is used up. It passes when something else ends, or somebody has it raised.
    Quota,
    /// Missing, expired or insufficient credentials.
    Denied,
    /// The request itself is wrong; sending it again changes nothing.
    Invalid,
    /// No answer, a timeout or an error of the service's own.
    Unavailable,
}

impl PortErrorKind {
    /// Whether the same call may succeed later without anybody changing the manifest.
    pub fn passes_with_time(self) -> bool {
        match self {
            Self::Throttled | Self::Quota | Self::Denied | Self::Unavailable => true,
            Self::NotFound | Self::AlreadyExists | Self::Invalid => false,
        }
    }
}

/// A failed call.
#[derive(Debug, Error)]
#[error("could not {action}: {message}")]
pub struct PortError {
    /// What was tried, as a verb phrase: `describe the stack`.
    pub action: &'static str,
    /// How to meet it.
    pub kind: PortErrorKind,
    /// AWS's code and text. Never holds request data.
    pub message: String,
    /// The SDK's error.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl PortError {
    /// An error without a deeper cause.
    pub fn new(action: &'static str, kind: PortErrorKind, message: impl Into<String>) -> Self {
        Self { action, kind, message: message.into(), source: None }
    }
}

/// Everything the engine reaches the world through.
#[derive(Clone)]
pub struct Ports {
    /// CloudFormation.
    pub stacks: Arc<dyn StackProvider>,
    /// Continuous backups and exports of tables.
    pub tables: Arc<dyn Tables>,
    /// SNS platform applications.
    pub push: Arc<dyn PushPlatforms>,
    /// ElastiCache.
    pub caches: Arc<dyn Caches>,
    /// SQS.
    pub queues: Arc<dyn Queues>,
    /// S3.
    pub buckets: Arc<dyn Buckets>,
    /// The account the credentials belong to.
    pub identity: Arc<dyn Identity>,
    /// The clock of status timestamps.
    pub clock: fn() -> Timestamp,
}

/// State of a table's continuous backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Point-in-time recovery is on.
    Enabled,
    /// It is off.
    Disabled,
}

/// A table as `DescribeTable` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableLook {
    /// Name.
    pub name: String,
    /// ARN.
    pub arn: String,
    /// Key attributes, partition key first: of each index by its name, of the table under the empty name.
    pub keys: BTreeMap<String, Vec<String>>,
    /// Indexes that are not `ACTIVE`: being made, changed or removed.
    pub building: Vec<String>,
    /// How it is paid for.
    pub billing: BillingMode,
    /// ARN of the stream; `None` when it is off.
    pub stream_arn: Option<String>,
    /// `StreamViewType`; `None` when the stream is off.
    pub stream_view: Option<String>,
    /// Whether DynamoDB refuses its deletion.
    pub deletion_protection: bool,
}

/// Capacity of a table and of each of its indexes, in units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throughput {
    /// Read units.
    pub read: i64,
    /// Write units.
    pub write: i64,
}

/// What to give back to a table. What is `None` is left as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableCorrection {
    /// Deletion protection.
    pub deletion_protection: Option<bool>,
    /// A stream of new and old images. It is a new stream with an ARN of its own.
    pub stream: Option<()>,
    /// Billing: on demand, or provisioned with this capacity for the table and each index named.
    pub billing: Option<(Option<Throughput>, Vec<String>)>,
    /// Attribute of the time to live.
    pub expiry: Option<String>,
}

/// What an export covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportExtent {
    /// The whole table as it was at the moment of the request.
    Full,
    /// What changed in `[from, to)`. DynamoDB allows 15 minutes to 24 hours.
    Incremental {
        /// Beginning, inclusive.
        from: Timestamp,
        /// End, exclusive.
        to: Timestamp,
    },
}

/// One export to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportRequest {
    /// ARN of the table.
    pub table_arn: String,
    /// Bucket it goes to.
    pub bucket: String,
    /// Account that owns the bucket. Always sent, so that an export can never land in somebody else's bucket of that name.
    pub bucket_owner: String,
    /// Key prefix.
    pub prefix: String,
    /// File format.
    pub format: dispatch_api::dispatch_system::ExportFormat,
    /// What it covers.
    pub extent: ExportExtent,
    /// Makes the request idempotent for eight hours (DynamoDB API reference, `ClientToken`).
    pub token: String,
}

/// One export as DynamoDB describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// ARN.
    pub arn: String,
    /// `IN_PROGRESS`, `COMPLETED` or `FAILED`.
    pub state: String,
    /// Token of the request that started it, where DynamoDB tells it.
    pub token: Option<String>,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Beginning of the period of an incremental one; `None` for a full one.
    pub from: Option<Timestamp>,
    /// Moment of the table it shows; the end of the period of an incremental one.
    pub time: Option<Timestamp>,
    /// Bytes billed.
    pub billed_bytes: Option<i64>,
    /// Items written.
    pub item_count: Option<i64>,
    /// Key of the manifest in the bucket.
    pub manifest: Option<String>,
    /// Code and text of a failure.
    pub failure: Option<String>,
}

/// Continuous backups and exports of DynamoDB tables.
pub trait Tables: Send + Sync {
    /// The table; `None` when there is none of that name.
    fn table<'a>(&'a self, table: &'a str) -> Call<'a, Option<TableLook>>;
    /// Tags of a table.
    fn tags<'a>(&'a self, table_arn: &'a str) -> Call<'a, BTreeMap<String, String>>;
    /// Adds a tag to a table, or changes it.
    fn tag<'a>(&'a self, table_arn: &'a str, key: &'a str, value: &'a str) -> Call<'a, ()>;
    /// Attribute of the time to live; `None` when it is off.
    fn expiry<'a>(&'a self, table: &'a str) -> Call<'a, Option<String>>;
    /// Gives settings back. DynamoDB changes a table only while it is `ACTIVE`; until then the call fails with `Unavailable`.
    fn correct<'a>(&'a self, table: &'a str, correction: &'a TableCorrection) -> Call<'a, ()>;
    /// State of point-in-time recovery; `None` when there is no such table.
    fn recovery<'a>(&'a self, table: &'a str) -> Call<'a, Option<Recovery>>;
    /// Switches point-in-time recovery on. Idempotent.
    fn enable_recovery<'a>(&'a self, table: &'a str) -> Call<'a, ()>;
    /// Starts an export. Idempotent by its token.
    fn start_export<'a>(&'a self, request: &'a ExportRequest) -> Call<'a, Export>;
    /// One export.
    fn export<'a>(&'a self, arn: &'a str) -> Call<'a, Export>;
    /// ARNs of a table's exports of the last 90 days (what DynamoDB lists).
    fn exports<'a>(&'a self, table_arn: &'a str) -> Call<'a, Vec<String>>;
}

/// SNS platform applications for Firebase Cloud Messaging (platform `GCM`, token authentication).
pub trait PushPlatforms: Send + Sync {
    /// Whether the application exists.
    fn exists<'a>(&'a self, arn: &'a str) -> Call<'a, bool>;
    /// Makes it and answers with its ARN.
    fn create<'a>(&'a self, name: &'a str, credential: &'a SecretString) -> Call<'a, String>;
    /// Gives it another credential.
    fn update<'a>(&'a self, arn: &'a str, credential: &'a SecretString) -> Call<'a, ()>;
    /// Removes it. Idempotent.
    fn delete<'a>(&'a self, arn: &'a str) -> Call<'a, ()>;
}

/// Where a replication group is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheEndpoint {
    /// Host name of the primary.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Whether it speaks TLS only.
    pub tls: bool,
}

/// ElastiCache replication groups.
pub trait Caches: Send + Sync {
    /// Primary endpoint of a replication group; `None` while there is no such group or it has no endpoint yet.
    fn endpoint<'a>(&'a self, replication_group: &'a str) -> Call<'a, Option<CacheEndpoint>>;
}

/// The settings of a queue the manifest decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// `MessageRetentionPeriod`, s.
    pub retention_seconds: u32,
    /// `VisibilityTimeout`, s.
    pub visibility_timeout_seconds: u32,
    /// `maxReceiveCount` of the redrive policy; `None` where the queue has lost its policy.
    pub max_receive_count: Option<u32>,
    /// `deadLetterTargetArn` of the redrive policy.
    pub dead_letter_arn: Option<String>,
}

/// SQS queues.
pub trait Queues: Send + Sync {
    /// Settings of a queue; `None` when there is no such queue.
    fn settings<'a>(&'a self, url: &'a str) -> Call<'a, Option<QueueSettings>>;
    /// Messages in a queue, about: visible, in flight and delayed; `None` when there is no such queue.
    fn waiting<'a>(&'a self, url: &'a str) -> Call<'a, Option<u64>>;
    /// Sets them. The redrive policy is left alone where `dead_letter_arn` or `max_receive_count` is absent.
    fn correct<'a>(&'a self, url: &'a str, settings: &'a QueueSettings) -> Call<'a, ()>;
}

/// What one call has removed from a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Object versions and delete markers.
    pub versions: usize,
    /// Whether there are more.
    pub more: bool,
}

/// S3 buckets. `owner` is the account a bucket has to belong to; a bucket of somebody else's under that name is `Denied`.
pub trait Buckets: Send + Sync {
    /// Tags of a bucket; `None` when there is no such bucket.
    fn tags<'a>(&'a self, bucket: &'a str, owner: &'a str) -> Call<'a, Option<BTreeMap<String, String>>>;
    /// Gives a bucket these tags and no others; those of AWS itself stay.
    fn set_tags<'a>(&'a self, bucket: &'a str, owner: &'a str, tags: &'a BTreeMap<String, String>) -> Call<'a, ()>;
    /// Removes a page of object versions and delete markers, at most 1,000, for good. A bucket that is gone is empty.
    fn remove_versions<'a>(&'a self, bucket: &'a str, owner: &'a str) -> Call<'a, Removed>;
}

/// Who the credentials belong to.
pub trait Identity: Send + Sync {
    /// Twelve-digit account. Asked for once; the answer is kept for the life of the adapter.
    fn account(&self) -> Call<'_, String>;
}
