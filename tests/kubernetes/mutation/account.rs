//! An AWS account of one city whose table and queues always match the template of its stack.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use dispatch_api::dispatch_system::BillingMode;
use dispatch_api::validate::ValidatedSystem;
use dispatch_operator::cloud::ports::{
    Call, Export, ExportRequest, PortError, PortErrorKind, Ports, QueueSettings, Queues, Recovery, TableCorrection,
    TableLook, Tables,
};
use dispatch_operator::kubernetes::infra::client_pool::ClientPool;
use dispatch_operator::testing::{World, table_look};
use futures::future::BoxFuture;
use serde_json::{Value, json};

/// The account of one city.
#[derive(Clone)]
pub struct Account {
    /// CloudFormation and the services that are not derived from the template.
    pub world: World,
    system: String,
    stack: String,
}

impl Account {
    /// An empty account for the stack of a system in namespace `default`.
    pub fn of(system: &str) -> Self {
        Self { world: World::default(), system: system.to_owned(), stack: format!("coactus-default-{system}") }
    }

    /// The current template of the stack.
    pub fn template(&self) -> Value {
        self.world.stacks.template(&self.stack)
    }

    /// The state of the account, without the UID of the object.
    pub fn state(&self) -> Value {
        let mut tags = self.world.stacks.tags(&self.stack);
        tags.remove("coactus:uid");
        json!({
            "template": self.template(),
            "tags": tags,
            "state": self.world.stacks.state(&self.stack).map(|state| state.name().to_owned()),
            "push": self.world.push_credential(),
            "changeSets": self.world.stacks.open_change_sets(),
        })
    }

    fn ports(&self) -> Ports {
        Ports { tables: Arc::new(self.clone()), queues: Arc::new(self.clone()), ..self.world.ports() }
    }

    fn properties(&self, logical_id: &str) -> Value {
        self.template()["Resources"][logical_id]["Properties"].clone()
    }
}

fn answer<T: Send + 'static>(value: T) -> Call<'static, T> {
    Box::pin(async move { Ok(value) })
}

/// Nothing drifts in this account, so every correction is an error.
fn refuse<T: Send + 'static>(what: &'static str) -> Call<'static, T> {
    Box::pin(async move { Err(PortError::new(what, PortErrorKind::Denied, "nothing has drifted")) })
}

impl Tables for Account {
    fn table<'a>(&'a self, table: &'a str) -> Call<'a, Option<TableLook>> {
        let properties = self.properties("Table");
        let there = properties["TableName"] == table;
        let on_demand = properties["BillingMode"] == "PAY_PER_REQUEST";
        answer(there.then(|| TableLook {
            billing: if on_demand { BillingMode::OnDemand } else { BillingMode::Provisioned },
            deletion_protection: properties["DeletionProtectionEnabled"] == true,
            ..table_look(table)
        }))
    }

    fn tags<'a>(&'a self, _table_arn: &'a str) -> Call<'a, BTreeMap<String, String>> {
        answer(BTreeMap::from([("coactus:system".to_owned(), format!("default/{}", self.system))]))
    }

    fn tag<'a>(&'a self, _table_arn: &'a str, _key: &'a str, _value: &'a str) -> Call<'a, ()> {
        refuse("tag a table")
    }

    fn expiry<'a>(&'a self, _table: &'a str) -> Call<'a, Option<String>> {
        let expiry = self.properties("Table")["TimeToLiveSpecification"]["AttributeName"].as_str().map(str::to_owned);
        answer(expiry)
    }

    fn correct<'a>(&'a self, _table: &'a str, _correction: &'a TableCorrection) -> Call<'a, ()> {
        refuse("correct a table")
    }

    fn recovery<'a>(&'a self, _table: &'a str) -> Call<'a, Option<Recovery>> {
        let on = self.properties("Table")["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] == true;
        answer(Some(if on { Recovery::Enabled } else { Recovery::Disabled }))
    }

    fn enable_recovery<'a>(&'a self, _table: &'a str) -> Call<'a, ()> {
        refuse("switch point-in-time recovery on")
    }

    fn start_export<'a>(&'a self, request: &'a ExportRequest) -> Call<'a, Export> {
        let world = self.world.clone();
        Box::pin(async move { Tables::start_export(&world, request).await })
    }

    fn export<'a>(&'a self, arn: &'a str) -> Call<'a, Export> {
        let world = self.world.clone();
        Box::pin(async move { Tables::export(&world, arn).await })
    }

    fn exports<'a>(&'a self, _table_arn: &'a str) -> Call<'a, Vec<String>> {
        answer(Vec::new())
    }
}

impl Queues for Account {
    /// The fake uses a queue's reference in the template as its URL.
    fn settings<'a>(&'a self, url: &'a str) -> Call<'a, Option<QueueSettings>> {
        let queues = ["OffersQueue", "ResponsesQueue", "NotificationsQueue"];
        let Some(queue) = queues.into_iter().find(|queue| url.contains(queue)) else { return answer(None) };
        let properties = self.properties(queue);
        let number = |value: &Value| value.as_u64().and_then(|value| u32::try_from(value).ok());
        let name = properties["QueueName"].as_str().unwrap_or_default();
        let settings = QueueSettings {
            retention_seconds: number(&properties["MessageRetentionPeriod"]).unwrap_or_default(),
            visibility_timeout_seconds: number(&properties["VisibilityTimeout"]).unwrap_or_default(),
            max_receive_count: number(&properties["RedrivePolicy"]["maxReceiveCount"]),
            dead_letter_arn: Some(format!("arn:aws:sqs:ap-northeast-2:000000000000:{name}-dlq")),
        };
        answer(properties.is_object().then_some(settings))
    }

    fn waiting<'a>(&'a self, _url: &'a str) -> Call<'a, Option<u64>> {
        answer(Some(0))
    }

    fn correct<'a>(&'a self, _url: &'a str, _settings: &'a QueueSettings) -> Call<'a, ()> {
        refuse("correct a queue")
    }
}

/// Region, role and external id that the operator used.
pub type Asked = (String, Option<String>, Option<String>);

/// One account per city, and the region and identity with which the operator last used it.
#[derive(Default)]
pub struct Accounts {
    all: Mutex<HashMap<String, Account>>,
    asked: Mutex<HashMap<String, Asked>>,
}

impl Accounts {
    /// Sets the account of a city.
    pub fn give(&self, system: &str, account: Account) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).insert(system.to_owned(), account);
    }

    /// Region, role and external id with which the operator last used a city's account.
    pub fn asked(&self, system: &str) -> Asked {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).get(system).cloned().unwrap_or_default()
    }
}

impl ClientPool for Accounts {
    fn ports<'a>(&'a self, system: &'a ValidatedSystem) -> BoxFuture<'a, Ports> {
        let aws = &system.spec.aws;
        let place = (system.spec.region.clone(), aws.role_arn.clone(), aws.external_id.clone());
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(system.name.clone(), place);
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let ports = all.get(&system.name).cloned().unwrap_or_else(|| Account::of(&system.name)).ports();
        Box::pin(async move { ports })
    }
}
