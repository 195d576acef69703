//! Creates the adapters from the configuration.

use std::sync::Arc;

use aws_sdk_sqs::Client as Sqs;
use dispatch_api::worker_config::{IMAGE_ENV, WorkerConfig};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Notify, watch};

use crate::adapters::aws::sdk_config;
use crate::adapters::clock::{ComparedClock, DateHeaders};
use crate::adapters::eta::Routers;
use crate::adapters::fleet::{CacheProbe, IndexSync, RedisConnector, indexed_fleet};
use crate::adapters::messaging::{
    Consumer, LocalFirst, LocalTimers, RedisEvents, SnsDevicePush, SnsNotifier, SqsDeadLetters, SqsResponses, SqsTimers,
};
use crate::adapters::store::DynamoStore;
use crate::city::City;
use crate::http::Access;
use crate::ports::clock::SystemClock;
use crate::ports::{Clock, Ports};
use crate::roles::Roles;
use crate::run::RunError;
use crate::run::checks::{self, Clients, TableProofs};
use crate::run::gate::Gate;
use crate::stream::{Leases, Pace, StreamSource};
use crate::telemetry::metrics::Metrics;

/// The connections of a process. No call is made before the first use.
pub(super) struct Connections {
    pub ports: Ports,
    pub events: Arc<RedisEvents>,
    pub answers: Arc<DynamoStore>,
    pub stream: StreamSource,
    /// The local offer timers, until they are started.
    pub local_timers: Option<LocalTimers>,
    pub has_platform: bool,
    /// Keeps the driver index up to date. It must run in processes that search drivers; otherwise every search uses
    /// Redis.
    pub follower: Arc<IndexSync>,
    /// Finds out whether the cache accepts writes. It must run in every process.
    pub probe: Arc<CacheProbe>,
    /// The clock. It must be watched in every process, for its metrics.
    pub clock: Arc<ComparedClock>,
    clients: Clients,
    config: WorkerConfig,
    metrics: Arc<Metrics>,
}

impl Connections {
    /// `stream_arn` follows changes of the configuration.
    pub(super) async fn open(
        config: &WorkerConfig,
        city: &City,
        metrics: &Arc<Metrics>,
        stream_arn: watch::Receiver<String>,
    ) -> Result<Self, RunError> {
        let compared = Arc::new(ComparedClock::new(Arc::new(SystemClock)));
        let clock: Arc<dyn Clock> = Arc::clone(&compared) as Arc<dyn Clock>;
        let sdk = sdk_config(&config.aws).await;
        let dates = DateHeaders(Arc::clone(&compared));
        let dynamo = crate::adapters::store::client_with_dates(&config.aws, dates).await;
        let store = DynamoStore::new(dynamo.clone(), &config.table.name, config.table.gsi1_shards, city.clone())
            .counting(Arc::clone(metrics));
        let (sqs, sns) = (Sqs::new(&sdk), aws_sdk_sns::Client::new(&sdk));
        let redis = RedisConnector::new(&config.cache)?.counting(Arc::clone(metrics));
        let probe = Arc::new(CacheProbe::new(redis.clone(), &config.city, Arc::clone(&clock), Arc::clone(metrics)));
        let events = Arc::new(RedisEvents::new(redis.clone(), &config.city, Arc::clone(metrics)));
        let platform = config.notifications.platform_application_arn.as_deref();
        // Unique to the process: a restarted worker is another owner. In a cluster the host name is the Pod's name,
        // which helps operators.
        let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "worker".to_owned());
        let owner = format!("{host}/{}", ulid::Ulid::generate());
        let leased = dynamo.clone();
        let stream = StreamSource {
            client: aws_sdk_dynamodbstreams::Client::new(&sdk),
            stream_arn,
            leases: Leases::new(dynamo, &config.lease_table, &owner, Arc::clone(&clock)).counting(Arc::clone(metrics)),
            codec: store.codec().clone(),
            dead_letters: Arc::new(SqsDeadLetters::new(sqs.clone(), &config.queues.offers_dead_letters_url)),
            gap: Arc::new(Notify::new()),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(metrics),
            pace: Pace::default(),
        };
        let (fleet, follower) = indexed_fleet(&redis, city.clone(), Arc::clone(&clock), Arc::clone(metrics));
        let answers = Arc::new(store.clone());
        let clients = Clients {
            sdk,
            store: store.clone(),
            dynamo: leased,
            streams: stream.client.clone(),
            sqs: sqs.clone(),
            sns: sns.clone(),
            cache: Arc::clone(&probe),
            stream_arn: stream.stream_arn.clone(),
        };
        let (timers, local) = LocalFirst::new(Arc::new(SqsTimers::new(sqs.clone(), &config.queues.offers_url)));
        let ports = Ports {
            dispatches: Arc::new(store.clone()),
            profiles: Arc::new(store),
            fleet,
            timers: Arc::new(timers),
            responses: Arc::new(SqsResponses::new(sqs.clone(), &config.queues.responses_url)),
            notifier: Arc::new(SnsNotifier::new(sns.clone(), &config.notifications.topic_arn)),
            devices: Arc::new(SnsDevicePush::new(sns, platform)),
            streams: Arc::clone(&events) as Arc<dyn crate::ports::EventStreams>,
            eta: Arc::new(Routers::new(city.clone(), Arc::clone(metrics))),
            clock,
        };
        let has_platform = platform.is_some();
        Ok(Self {
            ports,
            events,
            answers,
            stream,
            local_timers: Some(local),
            has_platform,
            follower: Arc::new(follower),
            probe,
            clock: compared,
            clients,
            config: config.clone(),
            metrics: Arc::clone(metrics),
        })
    }

    /// The gate of these roles.
    pub(super) fn gate(&self, roles: &Roles, access: Option<&Access>) -> Gate {
        let issuer = access.map(|access| &access.authenticator);
        let (store, clock) = (self.clients.store.clone(), Arc::clone(&self.ports.clock));
        Gate {
            checks: checks::checks(roles, &self.config, &self.clients, issuer),
            proofs: Arc::new(TableProofs { store, revision: revision(&self.config, roles), clock }),
            metrics: Arc::clone(&self.metrics),
        }
    }

    pub(super) fn offers(&self) -> Consumer {
        self.consumer(&self.config.queues.offers_url, "offers")
    }

    pub(super) fn responses(&self) -> Consumer {
        self.consumer(&self.config.queues.responses_url, "responses")
    }

    pub(super) fn notifications(&self) -> Consumer {
        self.consumer(&self.config.queues.notifications_url, "notifications")
    }

    fn consumer(&self, url: &str, queue: &'static str) -> Consumer {
        Consumer::new(self.clients.sqs.clone(), url, queue, Arc::clone(&self.metrics))
    }
}

/// Names what a worker runs with: its image, the configuration that it reads at its start, and its roles. Without a
/// named image, the version of the program counts.
fn revision(config: &WorkerConfig, roles: &Roles) -> String {
    let image = std::env::var(IMAGE_ENV).unwrap_or_else(|_| env!("CARGO_PKG_VERSION").to_owned());
    let config = config.read_at_start().to_json_pretty().unwrap_or_default();
    let digest = Sha256::digest(format!("{image}\n{:?}\n{config}", roles.0));
    digest.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}
