//! An AWS account in memory, as far as the engine uses it.

mod services;

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dispatch_api::dispatch_system::BillingMode;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};

use crate::cloud::ports::{
    CacheEndpoint, CacheGroup, Caches, Export, ExportRequest, Exports, Identity, ObservedTable, PortError,
    PortErrorKind, Ports, PushPlatforms, PushStatus, QueueSettings, Recovery, TableCorrection, Tables,
};
use crate::cloud::stack::fake::FakeStacks;
use crate::engine::plan::ownership::SYSTEM_TAG;
use crate::engine::plan::template::{STREAM_VIEW, TTL_ATTRIBUTE};
use crate::testing::exports::FakeExports;
use crate::testing::{Judge, Ledger, carry_out, table_look};

/// Calls that change state.
const MUTATING: [&str; 19] = [
    "create_change_set",
    "execute",
    "discard",
    "continue_rollback",
    "roll_back",
    "delete",
    "enable_recovery",
    "start_export",
    "create_push",
    "update_push",
    "delete_push",
    "correct_queue",
    "create_queue",
    "create_topic",
    "subscribe",
    "correct_table",
    "remove_versions",
    "tag_table",
    "tag_bucket",
];

struct Inner {
    recovery: Recovery,
    push: Option<String>,
    push_status: PushStatus,
    queue: QueueSettings,
    /// Settings of queues that were corrected since the last [`World::change_visibility`].
    corrected: BTreeMap<&'static str, QueueSettings>,
    /// Resources that were deleted, and those to which access is denied: kind and name.
    gone: BTreeSet<(&'static str, String)>,
    denied: BTreeSet<(&'static str, String)>,
    waiting: u64,
    table: ObservedTable,
    table_gone: bool,
    expiry: Option<String>,
    /// Tags of the table and bucket that an earlier stack retained.
    kept: Option<BTreeMap<String, String>>,
    objects: usize,
    refuse_push: bool,
    exports: FakeExports,
    account: String,
    calls: Vec<&'static str>,
    done: Ledger,
    judge: Option<Judge>,
}

/// One account. Clones share its state.
#[derive(Clone)]
pub struct World {
    pub stacks: FakeStacks,
    inner: Arc<Mutex<Inner>>,
}

impl Default for World {
    fn default() -> Self {
        let queue = QueueSettings {
            retention_seconds: 345_600,
            visibility_timeout_seconds: 30,
            max_receive_count: Some(5),
            dead_letter_arn: None,
        };
        let inner = Inner {
            recovery: Recovery::Enabled,
            push: None,
            push_status: PushStatus::Enabled,
            queue,
            corrected: BTreeMap::new(),
            gone: BTreeSet::new(),
            denied: BTreeSet::new(),
            waiting: 0,
            table: table_look("coactus-default-seoul"),
            table_gone: false,
            expiry: Some(TTL_ATTRIBUTE.to_owned()),
            kept: None,
            objects: 0,
            refuse_push: false,
            exports: FakeExports::default(),
            account: "000000000000".to_owned(),
            calls: Vec::new(),
            done: Ledger::new(),
            judge: None,
        };
        Self { stacks: FakeStacks::default(), inner: Arc::new(Mutex::new(inner)) }
    }
}

impl World {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// The engine's ports, with the clock fixed at 2024-05-02T03:00:00Z.
    pub fn ports(&self) -> Ports {
        Ports {
            stacks: Arc::new(self.stacks.clone()),
            tables: Arc::new(self.clone()),
            exports: Arc::new(self.clone()),
            push: Arc::new(self.clone()),
            caches: Arc::new(self.clone()),
            queues: Arc::new(self.clone()),
            topics: Arc::new(self.clone()),
            buckets: Arc::new(self.clone()),
            identity: Arc::new(self.clone()),
            clock: || Timestamp::from_second(1_714_618_800).unwrap_or(Timestamp::UNIX_EPOCH),
        }
    }

    /// From now on, `judge` decides the outcome of each call.
    pub fn judge(&self, judge: Judge) {
        self.stacks.judge(Arc::clone(&judge));
        self.lock().judge = Some(judge);
    }

    /// Effects of all calls so far.
    pub fn ledger(&self) -> Ledger {
        let mut ledger = self.stacks.ledger();
        ledger.extend(self.lock().done.clone());
        ledger
    }

    /// The state outside the stacks, as text without secrets.
    pub fn data(&self) -> String {
        let (stacks, inner) = (&self.stacks, self.lock());
        let there = stacks.any() || stacks.left().is_some() || inner.kept.is_some();
        let table = (there && !inner.table_gone).then_some((&inner.table, inner.recovery, &inner.expiry));
        let queues = QUEUES.map(|name| inner.corrected.get(name).unwrap_or(&inner.queue).visibility_timeout_seconds);
        let complete = !inner.gone.iter().any(|(kind, _)| *kind == QUEUE);
        let queues = (stacks.any() && complete).then_some(queues);
        let application = inner.push.is_some();
        let (objects, tags) = (inner.objects, there.then(|| self.tags_of(&inner)));
        format!(
            "{table:?} visible after {queues:?} s, application: {application} bucket: {objects} objects, tags: {tags:?}"
        )
    }

    /// Disables point-in-time recovery.
    pub fn disable_recovery(&self) {
        self.lock().recovery = Recovery::Disabled;
    }

    /// Changes the visibility timeout of all queues.
    pub fn change_visibility(&self, seconds: u32) {
        let mut inner = self.lock();
        inner.queue.visibility_timeout_seconds = seconds;
        inner.corrected.clear();
    }

    /// Sets the number of messages in the `offers` queue.
    pub fn put_messages(&self, messages: u64) {
        self.lock().waiting = messages;
    }

    /// Deletes the three queues that workers use.
    pub fn delete_queues(&self) {
        let stack = self.stacks.first_with_resources().unwrap_or_default();
        for queue in QUEUES {
            self.delete(QUEUE, &format!("{stack}-{}", queue.to_lowercase()));
        }
    }

    /// Deletes a resource outside the engine: a [`QUEUE`], [`TABLE`], [`BUCKET`] or [`CACHE`] by its name.
    pub fn delete(&self, kind: &'static str, name: &str) {
        self.lock().gone.insert((kind, name.to_owned()));
    }

    /// From now on, reads of this resource are denied.
    pub fn deny(&self, kind: &'static str, name: &str) {
        self.lock().denied.insert((kind, name.to_owned()));
    }

    /// Deletes a topic with its subscriptions.
    pub fn delete_topic(&self, name: &str) {
        self.delete(TOPIC, name);
        self.delete(SUBSCRIPTION, name);
    }

    /// Deletes the subscriptions of a topic.
    pub fn unsubscribe(&self, topic: &str) {
        self.delete(SUBSCRIPTION, topic);
    }

    /// The queues, topics and subscriptions that are gone.
    pub fn deleted(&self) -> Vec<String> {
        self.lock().gone.iter().map(|(kind, name)| format!("{kind} {name}")).collect()
    }

    pub fn delete_table(&self) {
        self.lock().table_gone = true;
    }

    pub fn change_table(&self, change: impl FnOnce(&mut ObservedTable)) {
        change(&mut self.lock().table);
    }

    /// Disables the table's time to live.
    pub fn disable_expiry(&self) {
        self.lock().expiry = None;
    }

    /// Adds a table and bucket that an earlier stack of `owner` retained.
    pub fn keep_data(&self, owner: &str) {
        self.lock().kept = Some(BTreeMap::from([(SYSTEM_TAG.to_owned(), owner.to_owned())]));
    }

    /// Removes the tags of table and bucket.
    pub fn untag_data(&self) {
        self.lock().kept = Some(BTreeMap::new());
    }

    /// Sets the number of object versions in the bucket.
    pub fn put_objects(&self, versions: usize) {
        self.lock().objects = versions;
    }

    /// Whether SNS rejects credentials from now on.
    pub fn refuse_push(&self, refuse: bool) {
        self.lock().refuse_push = refuse;
    }

    /// Disables the platform application, as SNS does when FCM rejects its credential.
    pub fn disable_push(&self) {
        self.lock().push_status = PushStatus::Disabled;
    }

    /// The credential of the platform application.
    pub fn push_credential(&self) -> Option<String> {
        self.lock().push.clone()
    }

    pub fn change_exports(&self, change: impl FnOnce(&mut FakeExports)) {
        change(&mut self.lock().exports);
    }

    /// Calls since the last use of this method: all of them, and the mutating ones.
    pub fn take_calls(&self) -> (Vec<&'static str>, Vec<&'static str>) {
        let mut all = self.stacks.take_calls();
        all.extend(std::mem::take(&mut self.lock().calls));
        let mutating = all.iter().copied().filter(|call| MUTATING.contains(call)).collect();
        (all, mutating)
    }

    async fn answer<T>(
        &self,
        call: &'static str,
        work: impl FnOnce(&mut Inner) -> Result<T, PortError> + Send,
    ) -> Result<T, PortError> {
        let judge = self.lock().judge.clone();
        carry_out(judge, call, || {
            let mut inner = self.lock();
            inner.calls.push(call);
            work(&mut inner)
        })
        .await
    }

    /// Tags of table and bucket: those of their stack, or of the retained data.
    fn tags_of(&self, inner: &Inner) -> BTreeMap<String, String> {
        let own = || BTreeMap::from([(SYSTEM_TAG.to_owned(), "default/seoul".to_owned())]);
        inner.kept.clone().or_else(|| self.stacks.data_tags()).unwrap_or_else(own)
    }

    /// Whether a table or bucket exists: in a stack, whose names are not distinguished, or retained under this name.
    fn is_there(&self, name: &str) -> bool {
        self.stacks.any() || self.stacks.has_left(name)
    }
}

/// Kinds of resources for [`World::delete`] and [`World::deny`].
pub const QUEUE: &str = "queue";
pub const TABLE: &str = "table";
pub const BUCKET: &str = "bucket";
pub const CACHE: &str = "cache";
pub const TOPIC: &str = "topic";
const SUBSCRIPTION: &str = "subscription";

impl Inner {
    /// Whether a resource exists, by its name, the URL of a queue or the ARN of a topic.
    fn exists(&self, kind: &'static str, id: &str) -> Result<bool, PortError> {
        let name = id.rsplit(['/', ':']).next().unwrap_or(id);
        let key = (kind, name.to_owned());
        if self.denied.contains(&key) {
            return Err(PortError::new("read the resource", PortErrorKind::Denied, "AccessDenied: no"));
        }
        Ok(!self.gone.contains(&key))
    }

    fn did(&mut self, what: &'static str) {
        *self.done.entry(what).or_default() += 1;
    }

    fn take_credential(&mut self, credential: &SecretString) -> Result<(), PortError> {
        if self.refuse_push {
            let text = "InvalidParameter: Invalid parameter: Attributes Reason: Platform credentials are invalid";
            return Err(PortError::new("give SNS a credential", PortErrorKind::Invalid, text));
        }
        self.push = Some(credential.expose_secret().to_owned());
        self.push_status = PushStatus::Enabled;
        Ok(())
    }
}

#[async_trait]
impl Exports for World {
    async fn start(&self, request: &ExportRequest) -> Result<Export, PortError> {
        self.answer("start_export", |inner| {
            let before = inner.exports.started.len();
            let export = inner.exports.start(request)?;
            if inner.exports.started.len() > before {
                inner.did("export started");
            }
            Ok(export)
        })
        .await
    }

    async fn describe(&self, arn: &str) -> Result<Export, PortError> {
        self.answer("export", |inner| inner.exports.read(arn)).await
    }

    async fn list(&self, _table_arn: &str) -> Result<Vec<String>, PortError> {
        self.answer("exports", |inner| Ok(inner.exports.arns())).await
    }
}

#[async_trait]
impl Tables for World {
    async fn table(&self, table: &str) -> Result<Option<ObservedTable>, PortError> {
        let any = self.is_there(table);
        self.answer("table", |inner| {
            let there = inner.exists(TABLE, table)? && !inner.table_gone && (any || inner.kept.is_some());
            Ok(there.then(|| ObservedTable { name: table.to_owned(), ..inner.table.clone() }))
        })
        .await
    }

    async fn tags(&self, _table_arn: &str) -> Result<BTreeMap<String, String>, PortError> {
        self.answer("table_tags", |inner| Ok(self.tags_of(inner))).await
    }

    async fn tag(&self, _table_arn: &str, key: &str, value: &str) -> Result<(), PortError> {
        let tag = (key.to_owned(), value.to_owned());
        self.answer("tag_table", |inner| {
            inner.did("table tagged");
            inner.kept.get_or_insert_default().extend([tag]);
            Ok(())
        })
        .await
    }

    async fn expiry(&self, _table: &str) -> Result<Option<String>, PortError> {
        self.answer("expiry", |inner| Ok(inner.expiry.clone())).await
    }

    async fn correct(&self, _table: &str, correction: &TableCorrection) -> Result<(), PortError> {
        self.answer("correct_table", |inner| {
            inner.did("table corrected");
            let table = &mut inner.table;
            if let Some(protected) = correction.deletion_protection {
                table.deletion_protection = protected;
            }
            if correction.stream.is_some() {
                table.stream_arn = Some(format!("{}/stream/2", table.arn));
                table.stream_view = Some(STREAM_VIEW.to_owned());
            }
            if let Some((capacity, _)) = &correction.billing {
                table.billing = if capacity.is_some() { BillingMode::Provisioned } else { BillingMode::OnDemand };
            }
            if correction.expiry.is_some() {
                inner.expiry.clone_from(&correction.expiry);
            }
            Ok(())
        })
        .await
    }

    async fn recovery(&self, _table: &str) -> Result<Option<Recovery>, PortError> {
        self.answer("recovery", |inner| Ok(Some(inner.recovery))).await
    }

    async fn enable_recovery(&self, _table: &str) -> Result<(), PortError> {
        self.answer("enable_recovery", |inner| {
            inner.did("backups enabled");
            inner.recovery = Recovery::Enabled;
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl PushPlatforms for World {
    async fn status(&self, _arn: &str) -> Result<Option<PushStatus>, PortError> {
        self.answer("push_exists", |inner| Ok(inner.push.as_ref().map(|_| inner.push_status))).await
    }

    async fn create(&self, name: &str, credential: &SecretString) -> Result<String, PortError> {
        self.answer("create_push", |inner| {
            let new = inner.push.is_none();
            inner.take_credential(credential)?;
            if new {
                inner.did("application created");
            }
            Ok(format!("arn:aws:sns:ap-northeast-2:000000000000:app/GCM/{name}"))
        })
        .await
    }

    async fn update(&self, _arn: &str, credential: &SecretString) -> Result<(), PortError> {
        self.answer("update_push", |inner| {
            inner.did("application updated");
            inner.take_credential(credential)
        })
        .await
    }

    async fn delete(&self, _arn: &str) -> Result<(), PortError> {
        self.answer("delete_push", |inner| {
            if inner.push.take().is_some() {
                inner.did("application deleted");
            }
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl Caches for World {
    async fn group(&self, replication_group: &str) -> Result<Option<CacheGroup>, PortError> {
        let host = format!("master.{replication_group}.cache.example");
        self.answer("cache", |inner| {
            let endpoint = Some(CacheEndpoint { host, port: 6379, tls: true });
            Ok(inner.exists(CACHE, replication_group)?.then_some(CacheGroup { endpoint }))
        })
        .await
    }
}

const QUEUES: [&str; 3] = ["Offers", "Responses", "Notifications"];

#[async_trait]
impl Identity for World {
    async fn account(&self) -> Result<String, PortError> {
        self.answer("account", |inner| Ok(inner.account.clone())).await
    }
}
