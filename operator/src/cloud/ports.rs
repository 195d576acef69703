//! The calls the engine makes to AWS. No SDK type appears here.
//!
//! The adapters are in [`crate::cloud::aws`]; in-memory fakes with fault injection are in [`crate::testing`] (feature
//! `testing`).

use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::Arc;

use dispatch_api::dispatch_system::BillingMode;
use jiff::Timestamp;
use secrecy::SecretString;
use thiserror::Error;

use crate::cloud::stack::{
    ChangeSet, ChangeSetRequest, ChangeSetSummary, ResourceState, Rollback, StackDescription, StackEvent, StackResource,
};

/// Kind of a failed call. Derived from AWS's error codes and transport errors, never from message text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortErrorKind {
    NotFound,
    AlreadyExists,
    /// AWS throttles the call, and the SDK's retries are exhausted.
    Throttled,
    /// A quota of the account is reached.
    Quota,
    /// No credentials could be loaded, so no call was made.
    CredentialsMissing,
    /// Credentials are rejected, expired or insufficient.
    Denied,
    /// The request is invalid; a retry does not help.
    Invalid,
    /// Another client has changed the resource meanwhile.
    Conflict,
    /// No response, a timeout, or an internal error of the service.
    Unavailable,
}

impl PortErrorKind {
    /// Whether a retry of the same call may succeed.
    pub fn is_transient(self) -> bool {
        match self {
            Self::Throttled
            | Self::Quota
            | Self::CredentialsMissing
            | Self::Denied
            | Self::Conflict
            | Self::Unavailable => true,
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
    pub exports: Arc<dyn Exports>,
    pub push: Arc<dyn PushPlatforms>,
    pub caches: Arc<dyn Caches>,
    pub queues: Arc<dyn Queues>,
    pub topics: Arc<dyn Topics>,
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
pub struct ObservedTable {
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

/// CloudFormation stacks. `stack` is always a name or an ARN; a deleted stack is found only by its ARN.
#[async_trait]
pub trait StackProvider: Send + Sync {
    /// The stack; `None` if it does not exist.
    async fn describe(&self, stack: &str) -> Result<Option<StackDescription>, PortError>;
    /// Starts the computation of a change set. Fails with `AlreadyExists` if the name is in use.
    async fn create_change_set(&self, request: &ChangeSetRequest) -> Result<(), PortError>;
    /// State and changes of a change set.
    async fn change_set(&self, stack: &str, name: &str) -> Result<ChangeSet, PortError>;
    /// The template that was last applied.
    async fn template(&self, stack: &str) -> Result<serde_json::Value, PortError>;
    /// Starts the execution of a change set. Idempotent by `token`.
    async fn execute(&self, stack: &str, name: &str, token: &str) -> Result<(), PortError>;
    /// A stack's change sets.
    async fn change_sets(&self, stack: &str) -> Result<Vec<ChangeSetSummary>, PortError>;
    /// Deletes a change set. Idempotent.
    async fn discard(&self, stack: &str, name: &str) -> Result<(), PortError>;
    /// Starts a rollback to the last stable state. Idempotent by `token`.
    async fn roll_back(&self, stack: &str, way: Rollback<'_>, token: &str) -> Result<(), PortError>;
    /// Starts the deletion. `retain` are logical ids of resources to retain, allowed only in `DELETE_FAILED`.
    /// Idempotent.
    async fn delete(&self, stack: &str, retain: &[String], token: &str) -> Result<(), PortError>;
    /// Events after the one with id `after`, or without `after` those of the last operation, oldest first.
    async fn events_since(&self, stack: &str, after: Option<&str>) -> Result<Vec<StackEvent>, PortError>;
    /// Errors of CloudFormation's pre-deployment validation of a change set or of the stack's last operation, each
    /// naming its resource. They do not appear among the stack's events.
    async fn refusals(&self, stack: &str, change_set: Option<&str>) -> Result<Vec<String>, PortError>;
    /// Resources in CloudFormation's order.
    async fn resources(&self, stack: &str) -> Result<Vec<StackResource>, PortError>;
    /// Whether a resource of the stack still exists. CloudFormation reads the resource with the caller's permissions,
    /// and rejects types for which it has no drift detection as `Invalid`.
    async fn resource_state(&self, stack: &str, logical_id: &str) -> Result<ResourceState, PortError>;
}

/// DynamoDB tables and their continuous backups.
#[async_trait]
pub trait Tables: Send + Sync {
    /// The table; `None` if it does not exist.
    async fn table(&self, table: &str) -> Result<Option<ObservedTable>, PortError>;
    async fn tags(&self, table_arn: &str) -> Result<BTreeMap<String, String>, PortError>;
    /// Sets one tag of a table.
    async fn tag(&self, table_arn: &str, key: &str, value: &str) -> Result<(), PortError>;
    /// Attribute of the time to live; `None` if it is disabled.
    async fn expiry(&self, table: &str) -> Result<Option<String>, PortError>;
    /// Restores settings. DynamoDB updates a table only while it is `ACTIVE`; until then the call fails with
    /// `Unavailable`.
    async fn correct(&self, table: &str, correction: &TableCorrection) -> Result<(), PortError>;
    /// State of point-in-time recovery; `None` if the table does not exist.
    async fn recovery(&self, table: &str) -> Result<Option<Recovery>, PortError>;
    /// Enables point-in-time recovery. Idempotent.
    async fn enable_recovery(&self, table: &str) -> Result<(), PortError>;
}

/// Exports of DynamoDB tables to S3.
#[async_trait]
pub trait Exports: Send + Sync {
    /// Starts an export. Idempotent by its token.
    async fn start(&self, request: &ExportRequest) -> Result<Export, PortError>;
    async fn describe(&self, arn: &str) -> Result<Export, PortError>;
    /// ARNs of a table's exports of the last 90 days; DynamoDB lists no older ones.
    async fn list(&self, table_arn: &str) -> Result<Vec<String>, PortError>;
}

/// Whether SNS delivers through a platform application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushStatus {
    Enabled,
    /// SNS disables an application whose credential the push service rejects.
    Disabled,
}

/// SNS platform applications for Firebase Cloud Messaging (platform `GCM`, token authentication).
#[async_trait]
pub trait PushPlatforms: Send + Sync {
    /// Status of an application; `None` if it does not exist.
    async fn status(&self, arn: &str) -> Result<Option<PushStatus>, PortError>;
    async fn exists(&self, arn: &str) -> Result<bool, PortError> {
        Ok(self.status(arn).await?.is_some())
    }
    /// Creates an application and returns its ARN.
    async fn create(&self, name: &str, credential: &SecretString) -> Result<String, PortError>;
    /// Replaces the credential and enables the application.
    async fn update(&self, arn: &str, credential: &SecretString) -> Result<(), PortError>;
    /// Idempotent.
    async fn delete(&self, arn: &str) -> Result<(), PortError>;
}

/// Primary endpoint of a replication group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheEndpoint {
    pub host: String,
    pub port: u16,
    /// Whether connections require TLS.
    pub tls: bool,
}

/// An ElastiCache replication group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheGroup {
    /// Primary endpoint; `None` while it is being created or changed.
    pub endpoint: Option<CacheEndpoint>,
}

/// ElastiCache replication groups.
#[async_trait]
pub trait Caches: Send + Sync {
    /// The replication group; `None` if it does not exist.
    async fn group(&self, replication_group: &str) -> Result<Option<CacheGroup>, PortError>;
}

/// A queue or topic to create.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewResource {
    pub name: String,
    /// Attributes by their names in the service's API.
    pub attributes: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
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
#[async_trait]
pub trait Queues: Send + Sync {
    /// Settings of a queue; `None` if it does not exist.
    async fn settings(&self, url: &str) -> Result<Option<QueueSettings>, PortError>;
    /// Approximate number of messages: visible, in flight and delayed; `None` if the queue does not exist.
    async fn waiting(&self, url: &str) -> Result<Option<u64>, PortError>;
    /// Sets the settings. Without `dead_letter_arn` or `max_receive_count` the redrive policy does not change.
    async fn correct(&self, url: &str, settings: &QueueSettings) -> Result<(), PortError>;
    /// Creates a queue. Idempotent while name and attributes are the same. Fails with `Conflict` for a minute after a
    /// queue of this name was deleted.
    async fn create(&self, queue: &NewResource) -> Result<(), PortError>;
}

/// A subscription of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// `sqs` for a queue.
    pub protocol: String,
    /// ARN of the queue.
    pub endpoint: String,
}

/// A subscription to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSubscription {
    pub topic_arn: String,
    pub subscription: Subscription,
    /// Attributes by their names in the API of SNS.
    pub attributes: BTreeMap<String, String>,
}

/// SNS topics.
#[async_trait]
pub trait Topics: Send + Sync {
    /// Subscriptions of a topic; `None` if the topic does not exist.
    async fn subscriptions(&self, topic_arn: &str) -> Result<Option<Vec<Subscription>>, PortError>;
    /// Creates a topic. Idempotent while name, attributes and tags are the same.
    async fn create(&self, topic: &NewResource) -> Result<(), PortError>;
    /// Creates a subscription. Idempotent.
    async fn subscribe(&self, subscription: &NewSubscription) -> Result<(), PortError>;
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
#[async_trait]
pub trait Buckets: Send + Sync {
    /// Tags of a bucket; `None` if it does not exist.
    async fn tags(&self, bucket: &str, owner: &str) -> Result<Option<BTreeMap<String, String>>, PortError>;
    /// Replaces all tags of a bucket except AWS's own.
    async fn set_tags(&self, bucket: &str, owner: &str, tags: &BTreeMap<String, String>) -> Result<(), PortError>;
    /// Permanently removes up to 1,000 object versions and delete markers. A bucket that does not exist counts as
    /// empty.
    async fn remove_versions(&self, bucket: &str, owner: &str) -> Result<Removed, PortError>;
}

/// The owner of the credentials.
#[async_trait]
pub trait Identity: Send + Sync {
    /// The twelve-digit account id. Read once and cached for the lifetime of the adapter.
    async fn account(&self) -> Result<String, PortError>;
}
