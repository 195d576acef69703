//! The calls the engine makes to AWS. No SDK type appears here.
//!
//! The adapters are in [`crate::cloud::aws`]; in-memory fakes with fault injection are in [`crate::testing`] (feature
//! `testing`).

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

/// Kind of a failed call. Derived from AWS's error codes and transport errors, never from message text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortErrorKind {
    NotFound,
    AlreadyExists,
    /// AWS throttles the call, and the SDK's retries are exhausted.
    Throttled,
    /// A quota of the account is reached.
    Quota,
    /// Credentials are missing, expired or insufficient.
    Denied,
    /// The request is invalid; a retry does not help.
    Invalid,
    /// No response, a timeout, or an internal error of the service.
    Unavailable,
}

impl PortErrorKind {
    /// Whether a retry of the same call may succeed.
    pub fn passes_with_time(self) -> bool {
        match self {
            Self::Throttled | Self::Quota | Self::Denied | Self::Unavailable => true,
            Self::NotFound | Self::AlreadyExists | Self::Invalid => false,
        }
    }
}

/// A failed call.
#[derive(Debug, Error)]
#[error("cannot {action}: {message}")]
pub struct PortError {
    /// The attempted action as a verb phrase: `describe the stack`.
    pub action: &'static str,
    pub kind: PortErrorKind,
    /// AWS's error code and message. Contains no request data.
    pub message: String,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl PortError {
    /// An error without a source.
    pub fn new(action: &'static str, kind: PortErrorKind, message: impl Into<String>) -> Self {
        Self { action, kind, message: message.into(), source: None }
    }
}

/// All external dependencies of the engine.
#[derive(Clone)]
pub struct Ports {
    pub stacks: Arc<dyn StackProvider>,
    pub tables: Arc<dyn Tables>,
    pub push: Arc<dyn PushPlatforms>,
    pub caches: Arc<dyn Caches>,
    pub queues: Arc<dyn Queues>,
    pub buckets: Arc<dyn Buckets>,
    pub identity: Arc<dyn Identity>,
    /// Clock for timestamps in the status.
    pub clock: fn() -> Timestamp,
}

/// State of a table's point-in-time recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    Enabled,
    Disabled,
}

/// A table as reported by `DescribeTable`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableLook {
    pub name: String,
    pub arn: String,
    /// Key attributes, partition key first: of each index by its name, of the table under the empty name.
    pub keys: BTreeMap<String, Vec<String>>,
    /// Indexes that are not `ACTIVE`: being created, updated or deleted.
    pub building: Vec<String>,
    pub billing: BillingMode,
    /// ARN of the stream; `None` if it is disabled.
    pub stream_arn: Option<String>,
    /// `StreamViewType`; `None` if the stream is disabled.
    pub stream_view: Option<String>,
    pub deletion_protection: bool,
}

/// Provisioned capacity of a table and of each of its indexes, in capacity units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throughput {
    pub read: i64,
    pub write: i64,
}

/// Settings of a table to restore. `None` leaves a setting unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableCorrection {
    pub deletion_protection: Option<bool>,
    /// Enables a stream of new and old images. It is a new stream with a new ARN.
    pub stream: Option<()>,
    /// On demand (`None`), or provisioned with this capacity for the table and the named indexes.
    pub billing: Option<(Option<Throughput>, Vec<String>)>,
    /// Attribute of the time to live.
    pub expiry: Option<String>,
}

/// What an export covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportExtent {
    /// The whole table at the time of the request.
    Full,
    /// Changes in `[from, to)`. DynamoDB allows 15 minutes to 24 hours.
    Incremental { from: Timestamp, to: Timestamp },
}

/// A request to start an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportRequest {
    pub table_arn: String,
    pub bucket: String,
    /// Account that owns the bucket. Always sent, so that an export cannot go to a bucket of another account.
    pub bucket_owner: String,
    /// Prefix of the keys in the bucket.
    pub prefix: String,
    pub format: dispatch_api::dispatch_system::ExportFormat,
    pub extent: ExportExtent,
    /// Makes the request idempotent for eight hours (DynamoDB API reference, `ClientToken`).
    pub token: String,
}

/// An export as reported by DynamoDB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    pub arn: String,
    /// `IN_PROGRESS`, `COMPLETED` or `FAILED`.
    pub state: String,
    /// Token of the request that started it, if DynamoDB reports it.
    pub token: Option<String>,
    pub started: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    /// Start of the period of an incremental export; `None` for a full one.
    pub from: Option<Timestamp>,
    /// Point in time that a full export shows; end of the period of an incremental one.
    pub time: Option<Timestamp>,
    pub billed_bytes: Option<i64>,
    pub item_count: Option<i64>,
    /// Key of the export's manifest in the bucket.
    pub manifest: Option<String>,
    /// Error code and message of a failed export.
    pub failure: Option<String>,
}

/// Continuous backups and exports of DynamoDB tables.
pub trait Tables: Send + Sync {
    /// The table; `None` if it does not exist.
    fn table<'a>(&'a self, table: &'a str) -> Call<'a, Option<TableLook>>;
    fn tags<'a>(&'a self, table_arn: &'a str) -> Call<'a, BTreeMap<String, String>>;
    /// Sets one tag of a table.
    fn tag<'a>(&'a self, table_arn: &'a str, key: &'a str, value: &'a str) -> Call<'a, ()>;
    /// Attribute of the time to live; `None` if it is disabled.
    fn expiry<'a>(&'a self, table: &'a str) -> Call<'a, Option<String>>;
    /// Restores settings. DynamoDB updates a table only while it is `ACTIVE`; until then the call fails with
    /// `Unavailable`.
    fn correct<'a>(&'a self, table: &'a str, correction: &'a TableCorrection) -> Call<'a, ()>;
    /// State of point-in-time recovery; `None` if the table does not exist.
    fn recovery<'a>(&'a self, table: &'a str) -> Call<'a, Option<Recovery>>;
    /// Enables point-in-time recovery. Idempotent.
    fn enable_recovery<'a>(&'a self, table: &'a str) -> Call<'a, ()>;
    /// Starts an export. Idempotent by its token.
    fn start_export<'a>(&'a self, request: &'a ExportRequest) -> Call<'a, Export>;
    fn export<'a>(&'a self, arn: &'a str) -> Call<'a, Export>;
    /// ARNs of a table's exports of the last 90 days; DynamoDB lists no older ones.
    fn exports<'a>(&'a self, table_arn: &'a str) -> Call<'a, Vec<String>>;
}

/// SNS platform applications for Firebase Cloud Messaging (platform `GCM`, token authentication).
pub trait PushPlatforms: Send + Sync {
    fn exists<'a>(&'a self, arn: &'a str) -> Call<'a, bool>;
    /// Creates an application and returns its ARN.
    fn create<'a>(&'a self, name: &'a str, credential: &'a SecretString) -> Call<'a, String>;
    /// Replaces the credential.
    fn update<'a>(&'a self, arn: &'a str, credential: &'a SecretString) -> Call<'a, ()>;
    /// Idempotent.
    fn delete<'a>(&'a self, arn: &'a str) -> Call<'a, ()>;
}

/// Primary endpoint of a replication group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheEndpoint {
    pub host: String,
    pub port: u16,
    /// Whether connections require TLS.
    pub tls: bool,
}

/// ElastiCache replication groups.
pub trait Caches: Send + Sync {
    /// Primary endpoint; `None` if the group does not exist or has no endpoint yet.
    fn endpoint<'a>(&'a self, replication_group: &'a str) -> Call<'a, Option<CacheEndpoint>>;
}

/// The settings of a queue that the spec determines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// `MessageRetentionPeriod`, s.
    pub retention_seconds: u32,
    /// `VisibilityTimeout`, s.
    pub visibility_timeout_seconds: u32,
    /// `maxReceiveCount` of the redrive policy; `None` if the queue has no policy.
    pub max_receive_count: Option<u32>,
    /// `deadLetterTargetArn` of the redrive policy.
    pub dead_letter_arn: Option<String>,
}

/// SQS queues.
pub trait Queues: Send + Sync {
    /// Settings of a queue; `None` if it does not exist.
    fn settings<'a>(&'a self, url: &'a str) -> Call<'a, Option<QueueSettings>>;
    /// Approximate number of messages: visible, in flight and delayed; `None` if the queue does not exist.
    fn waiting<'a>(&'a self, url: &'a str) -> Call<'a, Option<u64>>;
    /// Sets the settings. Without `dead_letter_arn` or `max_receive_count` the redrive policy does not change.
    fn correct<'a>(&'a self, url: &'a str, settings: &'a QueueSettings) -> Call<'a, ()>;
}

/// What one call removed from a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Object versions and delete markers.
    pub versions: usize,
    /// Whether more remain.
    pub more: bool,
}

/// S3 buckets. `owner` is the account that must own the bucket; a bucket of another account is `Denied`.
pub trait Buckets: Send + Sync {
    /// Tags of a bucket; `None` if it does not exist.
    fn tags<'a>(&'a self, bucket: &'a str, owner: &'a str) -> Call<'a, Option<BTreeMap<String, String>>>;
    /// Replaces all tags of a bucket except AWS's own.
    fn set_tags<'a>(&'a self, bucket: &'a str, owner: &'a str, tags: &'a BTreeMap<String, String>) -> Call<'a, ()>;
    /// Permanently removes up to 1,000 object versions and delete markers. A bucket that does not exist counts as
    /// empty.
    fn remove_versions<'a>(&'a self, bucket: &'a str, owner: &'a str) -> Call<'a, Removed>;
}

/// The owner of the credentials.
pub trait Identity: Send + Sync {
    /// The twelve-digit account id. Read once and cached for the lifetime of the adapter.
    fn account(&self) -> Call<'_, String>;
}
