//! The lease table: reading rows, acquiring them, and the owner's writes.
//!
//! This module relies on documented behaviour of DynamoDB: a conditional `UpdateItem`, `PutItem` or `DeleteItem` is
//! atomic, `ConsistentRead` sees every write acknowledged before, and `BatchGetItem` lists the keys it did not process
//! (`UnprocessedKeys`).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::adapters::aws::port_error;
use crate::ports::{Clock, PortError};
use crate::stream::assignment::Shard;
use crate::stream::lease::{CHECKPOINT, COUNTER, Checkpoint, KEY, OWNER, PARENT, REQUESTED_BY, Row};
use crate::telemetry::metrics::Metrics;

const READING: &str = "reading leases";
const WRITING: &str = "writing a lease";

/// Row that lists the streams of the table that may still have unread records, in the attribute [`LABELS`].
const STREAMS: &str = "streams";
const LABELS: &str = "labels";

/// Keys of one `BatchGetItem`, the maximum that DynamoDB allows.
const BATCH: usize = 100;
/// Attempts to read keys that a throttled `BatchGetItem` did not process; the next round retries.
const BATCH_ATTEMPTS: usize = 3;

/// How long the row of a finished shard may remain if no worker deletes it, s: well over the 24 hours for which the
/// shard is listed.
const KEEP_FINISHED_S: i64 = 7 * 24 * 3600;

/// Why an owner cannot write.
#[derive(Debug, Error)]
pub(super) enum LeaseError {
    /// The lease has another owner, or its row is gone.
    #[error("the lease is lost")]
    Lost,
    /// The call failed.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// An unreadable row. Its counter is the condition for overwriting it.
#[derive(Debug)]
pub(super) enum Broken {
    WithoutCounter,
    /// The value of the counter attribute.
    Counter(AttributeValue),
}

/// The lease rows of some shards.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// Readable rows by key.
    pub(super) rows: HashMap<String, Row>,
    /// Unreadable rows by key.
    pub(super) broken: HashMap<String, Broken>,
    /// Labels of the streams that may have unread records; `None` if the list is missing.
    pub(super) streams: Option<Vec<String>>,
}

/// The lease table. Cheap to clone.
#[derive(Clone)]
pub struct Leases {
    client: Client,
    table: String,
    worker: String,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

impl Leases {
    /// The lease table for `worker`, whose name must be unique to the process: a restarted process is another worker.
    pub fn new(client: Client, table: &str, worker: &str, clock: Arc<dyn Clock>) -> Self {
        let (table, worker) = (table.to_owned(), worker.to_owned());
        Self { client, table, worker, clock, metrics: Arc::new(Metrics::new()) }
    }

    /// Counts refused writes in the metrics of a process.
    #[must_use]
    pub fn counting(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics, ..self }
    }

    pub(super) fn worker(&self) -> &str {
        &self.worker
    }

    /// Reads the rows of these keys, strongly consistent.
    pub(super) async fn read(&self, keys: &HashSet<String>) -> Result<Snapshot, PortError> {
        let mut snapshot = Snapshot::default();
        let wanted: Vec<&str> = keys.iter().map(String::as_str).chain([STREAMS]).collect();
        for batch in wanted.chunks(BATCH) {
            for item in self.read_batch(batch).await? {
                snapshot.take(&item);
            }
        }
        Ok(snapshot)
    }

    async fn read_batch(&self, keys: &[&str]) -> Result<Vec<HashMap<String, AttributeValue>>, PortError> {
        let keys = keys.iter().map(|key| HashMap::from([(KEY.to_owned(), text(key))])).collect();
        let request = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true).build();
        let request = request.map_err(|error| PortError::Failed { action: READING, source: Box::new(error) })?;
        let mut left = Some(HashMap::from([(self.table.clone(), request)]));
        let mut items = Vec::new();
        for _ in 0..BATCH_ATTEMPTS {
            let answer = self.client.batch_get_item().set_request_items(left.take()).send().await;
            let answer = answer.map_err(|error| port_error(READING, &error))?;
            items.extend(answer.responses.unwrap_or_default().remove(&self.table).unwrap_or_default());
            left = answer.unprocessed_keys.filter(|keys| !keys.is_empty());
            if left.is_none() {
                return Ok(items);
            }
        }
        // An unprocessed row must not be taken for a deleted one.
        Err(PortError::Unavailable { action: READING, source: "rows were not processed".into() })
    }

    /// Adds a stream to the list of streams that may have unread records.
    pub(super) async fn add_stream(&self, label: &str) -> Result<(), PortError> {
        self.change_streams("ADD", label).await
    }

    /// Removes a stream from the list.
    pub(super) async fn remove_stream(&self, label: &str) -> Result<(), PortError> {
        self.change_streams("DELETE", label).await
    }

    async fn change_streams(&self, how: &str, label: &str) -> Result<(), PortError> {
        let request = self.update(STREAMS).update_expression(format!("{how} {LABELS} :label"));
        let sent =
            request.expression_attribute_values(":label", AttributeValue::Ss(vec![label.to_owned()])).send().await;
        sent.map(|_| ()).map_err(|error| port_error(WRITING, &error))
    }

    /// Creates the row of a shard, or replaces an unreadable one, and acquires it. `None` if another worker was faster.
    pub(super) async fn create(&self, shard: &Shard, broken: Option<&Broken>) -> Result<Option<Held>, PortError> {
        let mut request = self
            .client
            .put_item()
            .table_name(&self.table)
            .item(KEY, text(&shard.key))
            .item(OWNER, text(&self.worker))
            .item(COUNTER, number(1))
            .item(CHECKPOINT, text(Checkpoint::TrimHorizon.as_str()))
            .item("ownerSwitchesSinceCheckpoint", number(0));
        if let Some(parent) = &shard.parent {
            request = request.item(PARENT, AttributeValue::Ss(vec![parent.clone()]));
        }
        request = match broken {
            None => request.condition_expression(format!("attribute_not_exists({KEY})")),
            Some(Broken::WithoutCounter) => request.condition_expression(format!("attribute_not_exists({COUNTER})")),
            Some(Broken::Counter(counter)) => request
                .condition_expression(format!("{COUNTER} = :broken"))
                .expression_attribute_values(":broken", counter.clone()),
        };
        match request.send().await {
            Ok(_) => Ok(Some(self.held(&shard.key, 1))),
            Err(error) if condition_failed(&error) => Ok(None),
            Err(error) => Err(port_error(WRITING, &error)),
        }
    }

    /// Acquires a lease whose row is unchanged; `None` if it has changed.
    pub(super) async fn take(&self, row: &Row) -> Result<Option<Held>, PortError> {
        let mut request = self
            .update(&row.key)
            .update_expression(format!(
                "SET {OWNER} = :me, {COUNTER} = :next REMOVE {REQUESTED_BY} ADD ownerSwitchesSinceCheckpoint :one"
            ))
            .expression_attribute_values(":me", text(&self.worker))
            .expression_attribute_values(":next", number(row.counter + 1))
            .expression_attribute_values(":seen", number(row.counter))
            .expression_attribute_values(":one", number(1));
        let owner = match &row.owner {
            Some(owner) => {
                request = request.expression_attribute_values(":owner", text(owner));
                format!("{OWNER} = :owner")
            }
            None => format!("attribute_not_exists({OWNER})"),
        };
        match request.condition_expression(format!("{COUNTER} = :seen AND {owner}")).send().await {
            Ok(_) => Ok(Some(self.held(&row.key, row.counter + 1))),
            Err(error) if condition_failed(&error) => Ok(None),
            Err(error) => Err(port_error(WRITING, &error)),
        }
    }

    /// Asks the owner to hand its lease over. Has no effect if the owner has changed or another worker has asked.
    pub(super) async fn ask(&self, key: &str, of: &str) -> Result<(), PortError> {
        let request = self
            .update(key)
            .update_expression(format!("SET {REQUESTED_BY} = :me"))
            .condition_expression(format!("{OWNER} = :owner AND attribute_not_exists({REQUESTED_BY})"))
            .expression_attribute_values(":me", text(&self.worker))
            .expression_attribute_values(":owner", text(of));
        match request.send().await {
            Err(error) if !condition_failed(&error) => Err(port_error(WRITING, &error)),
            _ => Ok(()),
        }
    }

    /// Prepares a lease for other workers at shutdown: withdraws this worker's request for it, and releases it if it
    /// was handed over meanwhile and has no reader here.
    pub(super) async fn leave(&self, row: &Row) -> Result<(), PortError> {
        let is = |name: &Option<String>| name.as_deref() == Some(self.worker.as_str());
        if is(&row.requested_by) && !is(&row.owner) {
            let request = self
                .update(&row.key)
                .update_expression(format!("REMOVE {REQUESTED_BY}"))
                .condition_expression(format!("{REQUESTED_BY} = :me"))
                .expression_attribute_values(":me", text(&self.worker));
            match request.send().await {
                Ok(_) => return Ok(()),
                Err(error) if condition_failed(&error) => {}
                Err(error) => return Err(port_error(WRITING, &error)),
            }
        }
        // Read again, because it may have been handed over meanwhile.
        let Some(row) = self.row(&row.key).await?.filter(|row| is(&row.owner)) else { return Ok(()) };
        match self.held(&row.key, row.counter).release(None).await {
            Ok(_) | Err(LeaseError::Lost) => Ok(()),
            Err(LeaseError::Port(error)) => Err(error),
        }
    }

    /// Deletes the row of a finished shard.
    pub(super) async fn forget(&self, key: &str) -> Result<(), PortError> {
        let request = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key(KEY, text(key))
            .condition_expression(format!("{CHECKPOINT} = :end"))
            .expression_attribute_values(":end", text(Checkpoint::ShardEnd.as_str()));
        match request.send().await {
            Err(error) if !condition_failed(&error) => Err(port_error(WRITING, &error)),
            _ => Ok(()),
        }
    }

    async fn row(&self, key: &str) -> Result<Option<Row>, PortError> {
        let request = self.client.get_item().table_name(&self.table).key(KEY, text(key)).consistent_read(true);
        let answer = request.send().await.map_err(|error| port_error(READING, &error))?;
        Ok(answer.item.as_ref().and_then(Row::read))
    }

    fn update(&self, key: &str) -> UpdateItemFluentBuilder {
        self.client.update_item().table_name(&self.table).key(KEY, text(key))
    }

    fn held(&self, key: &str, counter: u64) -> Held {
        let fence = Fence { counter, lost: false, written: Instant::now() };
        Held { leases: self.clone(), key: key.to_owned(), fence: Mutex::new(fence) }
    }
}

impl Snapshot {
    fn take(&mut self, item: &HashMap<String, AttributeValue>) {
        let Some(AttributeValue::S(key)) = item.get(KEY) else { return };
        if key == STREAMS {
            self.streams = match item.get(LABELS) {
                Some(AttributeValue::Ss(labels)) => Some(labels.clone()),
                _ => None,
            };
        } else if let Some(row) = Row::read(item) {
            self.rows.insert(key.clone(), row);
        } else {
            let broken = item.get(COUNTER).cloned().map_or(Broken::WithoutCounter, Broken::Counter);
            self.broken.insert(key.clone(), broken);
        }
    }
}

struct Fence {
    counter: u64,
    lost: bool,
    written: Instant,
}

/// A lease held by this worker. Each write is fenced by owner and counter, and is a heartbeat, too.
pub(super) struct Held {
    leases: Leases,
    key: String,
    fence: Mutex<Fence>,
}

/// A change of the lease row.
enum Change<'a> {
    Renew,
    Decline,
    Checkpoint(&'a Checkpoint),
    /// To another worker, or to any worker.
    Release(Option<&'a str>),
}

impl Held {
    /// The checkpoint in the table, read when a reader starts.
    pub(super) async fn progress(&self) -> Result<Checkpoint, LeaseError> {
        Ok(self.leases.row(&self.key).await?.ok_or(LeaseError::Lost)?.checkpoint)
    }

    /// Time of the owner's last successful write.
    pub(super) async fn written(&self) -> Instant {
        self.fence.lock().await.written
    }

    pub(super) async fn renew(&self) -> Result<(), LeaseError> {
        self.write(Change::Renew).await.map(|_| ())
    }

    pub(super) async fn decline(&self) -> Result<(), LeaseError> {
        self.write(Change::Decline).await.map(|_| ())
    }

    pub(super) async fn checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), LeaseError> {
        self.write(Change::Checkpoint(checkpoint)).await.map(|_| ())
    }

    /// Releases the lease: to the worker that asked for it, if it still does, otherwise to any worker. Returns true if
    /// it went to the intended worker.
    pub(super) async fn release(&self, to: Option<&str>) -> Result<bool, LeaseError> {
        self.write(Change::Release(to)).await
    }

    /// Prevents all further writes.
    pub(super) async fn give_up(&self) {
        self.fence.lock().await.lost = true;
    }

    /// Returns true if the change was made as intended.
    async fn write(&self, mut change: Change<'_>) -> Result<bool, LeaseError> {
        let mut fence = self.fence.lock().await;
        if fence.lost {
            self.leases.metrics.stale_write();
            return Err(LeaseError::Lost);
        }
        let mut as_intended = true;
        // A second attempt is needed if the answer to an earlier write was lost: that write has incremented the counter
        // by one, and no other worker can have. A third one is needed if the other worker has withdrawn its request.
        for _ in 0..3 {
            let sent_at = Instant::now();
            match self.request(&change, fence.counter).send().await {
                Ok(_) => {
                    fence.counter += 1;
                    fence.written = sent_at;
                    fence.lost = matches!(change, Change::Release(_));
                    return Ok(as_intended);
                }
                Err(error) if condition_failed(&error) => {}
                Err(error) => return Err(port_error(WRITING, &error).into()),
            }
            let row = self.leases.row(&self.key).await?;
            let Some(row) = row.filter(|row| row.owner.as_deref() == Some(self.leases.worker())) else { break };
            let withdrawn = matches!(change, Change::Release(Some(to)) if row.requested_by.as_deref() != Some(to));
            if withdrawn {
                (change, as_intended) = (Change::Release(None), false);
            }
            match row.counter.checked_sub(fence.counter) {
                Some(1) => fence.counter += 1,
                Some(0) if withdrawn => {}
                _ => break,
            }
        }
        fence.lost = true;
        self.leases.metrics.stale_write();
        Err(LeaseError::Lost)
    }

    fn request(&self, change: &Change<'_>, counter: u64) -> UpdateItemFluentBuilder {
        let mut set = vec![format!("{COUNTER} = :next")];
        let mut remove = Vec::new();
        let mut request = self.leases.update(&self.key);
        match change {
            Change::Renew => {}
            Change::Decline => remove.push(REQUESTED_BY),
            Change::Checkpoint(checkpoint) => {
                set.push(format!("{CHECKPOINT} = :checkpoint, ownerSwitchesSinceCheckpoint = :none"));
                request = request
                    .expression_attribute_values(":checkpoint", text(checkpoint.as_str()))
                    .expression_attribute_values(":none", number(0));
                if **checkpoint == Checkpoint::ShardEnd {
                    set.push("expiresAt = :expires".to_owned());
                    let expires = self.leases.clock.now().0 / 1000 + KEEP_FINISHED_S;
                    request = request.expression_attribute_values(":expires", AttributeValue::N(expires.to_string()));
                }
            }
            Change::Release(to) => {
                remove.push(REQUESTED_BY);
                match to {
                    Some(to) => {
                        set.push(format!("{OWNER} = :to"));
                        request = request.expression_attribute_values(":to", text(to));
                    }
                    None => remove.push(OWNER),
                }
            }
        }
        let mut expression = format!("SET {}", set.join(", "));
        if !remove.is_empty() {
            expression.push_str(" REMOVE ");
            expression.push_str(&remove.join(", "));
        }
        let mut condition = vec![format!("{OWNER} = :me AND {COUNTER} = :counter")];
        if matches!(change, Change::Release(Some(_))) {
            // A worker that shuts down withdraws its request; otherwise the shard would have no reader for the
            // fail-over time.
            condition.push(format!("{REQUESTED_BY} = :to"));
        }
        request
            .update_expression(expression)
            .condition_expression(condition.join(" AND "))
            .expression_attribute_values(":me", text(self.leases.worker()))
            .expression_attribute_values(":counter", number(counter))
            .expression_attribute_values(":next", number(counter + 1))
    }
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn condition_failed<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> bool {
    error.code() == Some("ConditionalCheckFailedException")
}
