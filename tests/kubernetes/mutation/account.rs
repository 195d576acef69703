//! An AWS account of one city whose table and queues always match the template of its stack.

use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use dispatch_api::dispatch_system::BillingMode;
use dispatch_api::names::ResourceNames;
use dispatch_api::validate::ValidatedSystem;
use dispatch_operator::cloud::ports::{
    Export, ExportRequest, Exports, NewResource, ObservedTable, PortError, PortErrorKind, Ports, QueueSettings, Queues,
    Recovery, TableCorrection, Tables,
};
use dispatch_operator::kubernetes::infra::client_pool::ClientPool;
use dispatch_operator::testing::{World, table_look};
use futures::future::BoxFuture;
use serde_json::{Value, json};

/// The account of one city.
#[derive(Clone)]
pub(super) struct Account {
    /// CloudFormation and the services that are not derived from the template.
    pub world: World,
    system: String,
    stack: String,
}

impl Account {
    /// An empty account for the stack of a system in namespace `default`.
    pub(super) fn of(system: &str) -> Self {
        let stack = ResourceNames::prefix("default", system);
        Self { world: World::default(), system: system.to_owned(), stack }
    }

    /// The current template of the stack.
    pub(super) fn template(&self) -> Value {
        self.world.stacks.template(&self.stack)
    }

    /// The state of the account, without the UID of the object.
    pub(super) fn state(&self) -> Value {
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
        Ports {
            tables: Arc::new(self.clone()),
            exports: Arc::new(self.clone()),
            queues: Arc::new(self.clone()),
            ..self.world.ports()
        }
    }

    fn properties(&self, logical_id: &str) -> Value {
        self.template()["Resources"][logical_id]["Properties"].clone()
    }
}

/// Nothing drifts in this account, so every correction is an error.
fn refuse<T>(what: &'static str) -> Result<T, PortError> {
    Err(PortError::new(what, PortErrorKind::Denied, "nothing has drifted"))
}

#[async_trait]
impl Exports for Account {
    async fn start(&self, request: &ExportRequest) -> Result<Export, PortError> {
        Exports::start(&self.world, request).await
    }

    async fn describe(&self, arn: &str) -> Result<Export, PortError> {
        Exports::describe(&self.world, arn).await
    }

    async fn list(&self, _table_arn: &str) -> Result<Vec<String>, PortError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl Tables for Account {
    async fn table(&self, table: &str) -> Result<Option<ObservedTable>, PortError> {
        let properties = self.properties("Table");
        if self.properties("LeaseTable")["TableName"] == table {
            return Ok(Some(table_look(table)));
        }
        let there = properties["TableName"] == table;
        let on_demand = properties["BillingMode"] == "PAY_PER_REQUEST";
        Ok(there.then(|| ObservedTable {
            billing: if on_demand { BillingMode::OnDemand } else { BillingMode::Provisioned },
            deletion_protection: properties["DeletionProtectionEnabled"] == true,
            ..table_look(table)
        }))
    }

    async fn tags(&self, _table_arn: &str) -> Result<BTreeMap<String, String>, PortError> {
        Ok(BTreeMap::from([("coactus:system".to_owned(), format!("default/{}", self.system))]))
    }

    async fn tag(&self, _table_arn: &str, _key: &str, _value: &str) -> Result<(), PortError> {
        refuse("tag a table")
    }

    async fn expiry(&self, _table: &str) -> Result<Option<String>, PortError> {
        let expiry = self.properties("Table")["TimeToLiveSpecification"]["AttributeName"].as_str().map(str::to_owned);
        Ok(expiry)
    }

    async fn correct(&self, _table: &str, _correction: &TableCorrection) -> Result<(), PortError> {
        refuse("correct a table")
    }

    async fn recovery(&self, _table: &str) -> Result<Option<Recovery>, PortError> {
        let on = self.properties("Table")["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] == true;
        Ok(Some(if on { Recovery::Enabled } else { Recovery::Disabled }))
    }

    async fn enable_recovery(&self, _table: &str) -> Result<(), PortError> {
        refuse("switch point-in-time recovery on")
    }
}

#[async_trait]
impl Queues for Account {
    /// A URL ends with the name of the queue.
    async fn settings(&self, url: &str) -> Result<Option<QueueSettings>, PortError> {
        let queue = url.rsplit('/').next().unwrap_or(url);
        let template = self.template();
        let mut resources = template["Resources"].as_object().into_iter().flatten();
        let Some((_, resource)) = resources.find(|(_, resource)| resource["Properties"]["QueueName"] == queue) else {
            return Ok(None);
        };
        let properties = &resource["Properties"];
        let number = |value: &Value| value.as_u64().and_then(|value| u32::try_from(value).ok());
        let name = properties["QueueName"].as_str().unwrap_or_default();
        let settings = QueueSettings {
            retention_seconds: number(&properties["MessageRetentionPeriod"]).unwrap_or_default(),
            visibility_timeout_seconds: number(&properties["VisibilityTimeout"]).unwrap_or_default(),
            max_receive_count: number(&properties["RedrivePolicy"]["maxReceiveCount"]),
            dead_letter_arn: Some(format!("arn:aws:sqs:ap-northeast-2:000000000000:{name}-dlq")),
        };
        Ok(properties.is_object().then_some(settings))
    }

    async fn waiting(&self, _url: &str) -> Result<Option<u64>, PortError> {
        Ok(Some(0))
    }

    async fn correct(&self, _url: &str, _settings: &QueueSettings) -> Result<(), PortError> {
        refuse("correct a queue")
    }

    async fn create(&self, _queue: &NewResource) -> Result<(), PortError> {
        refuse("create a queue")
    }
}

/// Region, role and external id that the operator used.
pub(super) type Asked = (String, Option<String>, Option<String>);

/// One account per city, and the region and identity with which the operator last used it.
#[derive(Default)]
pub(super) struct Accounts {
    all: Mutex<HashMap<String, Account>>,
    asked: Mutex<HashMap<String, Asked>>,
}

impl Accounts {
    /// Sets the account of a city.
    pub(super) fn give(&self, system: &str, account: Account) {
        self.all.lock().insert(system.to_owned(), account);
    }

    /// Region, role and external id with which the operator last used a city's account.
    pub(super) fn asked(&self, system: &str) -> Asked {
        self.asked.lock().get(system).cloned().unwrap_or_default()
    }
}

impl ClientPool for Accounts {
    fn ports<'a>(&'a self, system: &'a ValidatedSystem) -> BoxFuture<'a, Ports> {
        let aws = &system.spec.aws;
        let place = (system.spec.region.clone(), aws.role_arn.clone(), aws.external_id.clone());
        self.asked.lock().insert(system.name.clone(), place);
        let all = self.all.lock();
        let ports = all.get(&system.name).cloned().unwrap_or_else(|| Account::of(&system.name)).ports();
        Box::pin(async move { ports })
    }
}
