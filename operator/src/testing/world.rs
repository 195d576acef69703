//! AWS in memory, as far as the engine looks at it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};

use crate::ports::{
    CacheEndpoint, Caches, Call, Export, ExportRequest, Identity, PortError, PortErrorKind, Ports, PushPlatforms,
    QueueSettings, Queues, Recovery, Tables,
};
use crate::stack::fake::FakeStacks;

/// Calls that change something.
const MUTATING: [&str; 12] = [
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
];

struct Inner {
    recovery: Recovery,
    push: Option<String>,
    queue: QueueSettings,
    exports: Vec<Export>,
    account: String,
    calls: Vec<&'static str>,
}

/// One account. Clones share it.
#[derive(Clone)]
pub struct World {
    /// Its CloudFormation.
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
            queue,
            exports: Vec::new(),
            account: "000000000000".to_owned(),
            calls: Vec::new(),
        };
        Self { stacks: FakeStacks::default(), inner: Arc::new(Mutex::new(inner)) }
    }
}

impl World {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine's ports on this account. The clock stands at 2024-05-02T03:00:00Z.
    pub fn ports(&self) -> Ports {
        Ports {
            stacks: Arc::new(self.stacks.clone()),
            tables: Arc::new(self.clone()),
            push: Arc::new(self.clone()),
            caches: Arc::new(self.clone()),
            queues: Arc::new(self.clone()),
            identity: Arc::new(self.clone()),
            clock: || Timestamp::from_second(1_714_618_800).unwrap_or(Timestamp::UNIX_EPOCH),
        }
    }

    /// Somebody switches point-in-time recovery off.
    pub fn disable_recovery(&self) {
        self.lock().recovery = Recovery::Disabled;
    }

    /// Somebody changes the visibility timeout of the queues.
    pub fn change_visibility(&self, seconds: u32) {
        self.lock().queue.visibility_timeout_seconds = seconds;
    }

    /// Credential of the platform application.
    pub fn push_credential(&self) -> Option<String> {
        self.lock().push.clone()
    }

    /// Calls made since the last time this was asked: all of them, and those that change something.
    pub fn take_calls(&self) -> (Vec<&'static str>, Vec<&'static str>) {
        let mut all = self.stacks.take_calls();
        all.extend(std::mem::take(&mut self.lock().calls));
        let mutating = all.iter().copied().filter(|call| MUTATING.contains(call)).collect();
        (all, mutating)
    }

    fn answer<T: Send + 'static>(
        &self,
        call: &'static str,
        work: impl FnOnce(&mut Inner) -> Result<T, PortError>,
    ) -> Call<'static, T> {
        let mut inner = self.lock();
        inner.calls.push(call);
        let result = work(&mut inner);
        Box::pin(async move { result })
    }
}

impl Tables for World {
    fn recovery<'a>(&'a self, _table: &'a str) -> Call<'a, Option<Recovery>> {
        self.answer("recovery", |inner| Ok(Some(inner.recovery)))
    }

    fn enable_recovery<'a>(&'a self, _table: &'a str) -> Call<'a, ()> {
        self.answer("enable_recovery", |inner| {
            inner.recovery = Recovery::Enabled;
            Ok(())
        })
    }

    fn start_export<'a>(&'a self, request: &'a ExportRequest) -> Call<'a, Export> {
        self.answer("start_export", |inner| {
            let export = Export {
                arn: format!("{}/export/{}", request.table_arn, request.token),
                state: "IN_PROGRESS".to_owned(),
                time: None,
                billed_bytes: None,
                item_count: None,
                manifest: None,
                failure: None,
            };
            if !inner.exports.iter().any(|other| other.arn == export.arn) {
                inner.exports.push(export.clone());
            }
            Ok(export)
        })
    }

    fn export<'a>(&'a self, arn: &'a str) -> Call<'a, Export> {
        self.answer("export", |inner| {
            let missing = || PortError::new("describe an export", PortErrorKind::NotFound, "no such export");
            let found = inner.exports.iter_mut().find(|export| export.arn == arn).ok_or_else(missing)?;
            let seen = found.clone();
            // The first look still finds it running.
            "COMPLETED".clone_into(&mut found.state);
            found.time = Timestamp::from_second(1_714_618_800).ok();
            found.item_count = Some(3);
            Ok(seen)
        })
    }

    fn exports<'a>(&'a self, _table_arn: &'a str) -> Call<'a, Vec<String>> {
        self.answer("exports", |inner| Ok(inner.exports.iter().map(|export| export.arn.clone()).collect()))
    }
}

impl PushPlatforms for World {
    fn exists<'a>(&'a self, _arn: &'a str) -> Call<'a, bool> {
        self.answer("push_exists", |inner| Ok(inner.push.is_some()))
    }

    fn create<'a>(&'a self, name: &'a str, credential: &'a SecretString) -> Call<'a, String> {
        self.answer("create_push", |inner| {
            inner.push = Some(credential.expose_secret().to_owned());
            Ok(format!("arn:aws:sns:ap-northeast-2:000000000000:app/GCM/{name}"))
        })
    }

    fn update<'a>(&'a self, _arn: &'a str, credential: &'a SecretString) -> Call<'a, ()> {
        self.answer("update_push", |inner| {
            inner.push = Some(credential.expose_secret().to_owned());
            Ok(())
        })
    }

    fn delete<'a>(&'a self, _arn: &'a str) -> Call<'a, ()> {
        self.answer("delete_push", |inner| {
            inner.push = None;
            Ok(())
        })
    }
}

impl Caches for World {
    fn endpoint<'a>(&'a self, replication_group: &'a str) -> Call<'a, Option<CacheEndpoint>> {
        let host = format!("master.{replication_group}.cache.example");
        self.answer("cache", |_| Ok(Some(CacheEndpoint { host, port: 6379, tls: true })))
    }
}

impl Queues for World {
    /// All queues share their settings; each has the dead-letter queue the template gives it.
    fn settings<'a>(&'a self, url: &'a str) -> Call<'a, Option<QueueSettings>> {
        let name = ["Offers", "Responses", "Notifications"].into_iter().find(|name| url.contains(name));
        let name = name.unwrap_or_default().to_lowercase();
        let target = format!("arn:aws:sqs:ap-northeast-2:000000000000:coactus-default-seoul-{name}-dlq");
        self.answer("queue", |inner| Ok(Some(QueueSettings { dead_letter_arn: Some(target), ..inner.queue.clone() })))
    }

    fn correct<'a>(&'a self, _url: &'a str, settings: &'a QueueSettings) -> Call<'a, ()> {
        self.answer("correct_queue", |inner| {
            inner.queue = settings.clone();
            Ok(())
        })
    }
}

impl Identity for World {
    fn account(&self) -> Call<'_, String> {
        self.answer("account", |inner| Ok(inner.account.clone()))
    }
}
