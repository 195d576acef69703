//! What the roles of a process must have reached before they start: each by a call that the policy of the role allows,
//! and that changes nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sns::config::http::HttpResponse;
use aws_sdk_sns::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::QueueAttributeName;
use dispatch_api::worker_config::WorkerConfig;
use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::adapters::aws::port_error;
use crate::adapters::fleet::CacheProbe;
use crate::adapters::store::DynamoStore;
use crate::auth::{Authenticator, KeysError};
use crate::ports::{Clock, PortError};
use crate::roles::{Role, Roles};
use crate::run::gate::{Answer, Check, Proofs};

const ASK: &str = "asking a dependency before the start";

/// The clients that the checks use.
pub(super) struct Clients {
    pub sdk: SdkConfig,
    pub store: DynamoStore,
    pub dynamo: aws_sdk_dynamodb::Client,
    pub streams: aws_sdk_dynamodbstreams::Client,
    pub sqs: aws_sdk_sqs::Client,
    pub sns: aws_sdk_sns::Client,
    pub cache: Arc<CacheProbe>,
    /// The stream of the table, which follows changes of the configuration.
    pub stream_arn: watch::Receiver<String>,
}

/// The checks of these roles.
pub(super) fn checks(
    roles: &Roles,
    config: &WorkerConfig,
    clients: &Clients,
    issuer: Option<&Arc<Authenticator>>,
) -> Vec<Check> {
    let has = |role: Role| roles.0.contains(&role);
    let mut all = vec![credentials(clients), table(clients), cache(clients)];
    let mut queues = BTreeSet::new();
    if has(Role::DispatchAlgorithm) {
        all.push(stream(clients));
        all.push(leases(clients, &config.lease_table));
        queues.insert(("the offers queue", &config.queues.offers_url));
    }
    if has(Role::DriverResponse) {
        queues.insert(("the responses queue", &config.queues.responses_url));
        queues.insert(("the notifications queue", &config.queues.notifications_url));
    }
    all.extend(queues.into_iter().map(|(name, url)| queue(clients, name, url)));
    if has(Role::DispatchAlgorithm) || has(Role::DriverResponse) || has(Role::StatusUpdate) {
        all.push(topic(clients, &config.notifications.topic_arn));
    }
    if roles.0.iter().any(|role| role.http().is_some()) {
        all.extend(issuer.map(keys));
    }
    all
}

fn check(name: &'static str, ask: impl Fn() -> BoxFuture<'static, Answer> + Send + Sync + 'static) -> Check {
    Check { name, ask: Box::new(ask) }
}

/// What the result of an AWS call shows.
fn answer<T, E: ProvideErrorMetadata>(result: Result<T, SdkError<E, HttpResponse>>) -> Answer {
    Answer::from(result.map(drop).map_err(|error| port_error(ASK, &error)))
}

fn credentials(clients: &Clients) -> Check {
    let provider = clients.sdk.credentials_provider();
    check("AWS credentials", move || {
        let provider = provider.clone();
        Box::pin(async move {
            let Some(provider) = provider else { return Answer::Refused("no source of credentials".to_owned()) };
            match provider.provide_credentials().await {
                Ok(_) => Answer::Reached,
                // Their texts name files and addresses of the Pod, so the kind of the error has to do.
                Err(CredentialsError::ProviderTimedOut(..)) => Answer::Silent("no answer in time".to_owned()),
                Err(CredentialsError::CredentialsNotLoaded(..)) => Answer::Refused(
                    "the Pod has none: associate a role with its ServiceAccount, or set them in its environment"
                        .to_owned(),
                ),
                Err(_) => Answer::Refused("their source rejects the Pod".to_owned()),
            }
        })
    })
}

fn table(clients: &Clients) -> Check {
    let store = clients.store.clone();
    check("the table", move || {
        let store = store.clone();
        Box::pin(async move { Answer::from(store.reach().await) })
    })
}

fn leases(clients: &Clients, table: &str) -> Check {
    let (client, table) = (clients.dynamo.clone(), table.to_owned());
    check("the lease table", move || {
        let request = client.get_item().table_name(&table).key(
            crate::stream::LEASE_KEY,
            aws_sdk_dynamodb::types::AttributeValue::S("a lease that does not exist".to_owned()),
        );
        Box::pin(async move { answer(request.send().await) })
    })
}

fn stream(clients: &Clients) -> Check {
    let (client, arn) = (clients.streams.clone(), clients.stream_arn.clone());
    check("the table's stream", move || {
        let request = client.describe_stream().stream_arn(arn.borrow().as_str()).limit(1);
        Box::pin(async move { answer(request.send().await) })
    })
}

fn queue(clients: &Clients, name: &'static str, url: &str) -> Check {
    let (client, url) = (clients.sqs.clone(), url.to_owned());
    check(name, move || {
        let request = client.get_queue_attributes().queue_url(&url).attribute_names(QueueAttributeName::QueueArn);
        Box::pin(async move { answer(request.send().await) })
    })
}

/// A role without the right to read the topic may still have the right to publish to it: that cannot be tried without a
/// message. So a missing right to read counts as an answer; a missing topic does not.
fn topic(clients: &Clients, arn: &str) -> Check {
    let (client, arn) = (clients.sns.clone(), arn.to_owned());
    check("the topic", move || {
        let request = client.get_topic_attributes().topic_arn(&arn);
        Box::pin(async move {
            match request.send().await {
                Ok(_) => Answer::Reached,
                Err(error) if error.code().is_some_and(is_denied) => Answer::Reached,
                failed => answer(failed),
            }
        })
    })
}

/// The codes of the SNS API reference, "Common Errors" and `GetTopicAttributes`.
fn is_denied(code: &str) -> bool {
    ["AuthorizationError", "AuthorizationErrorException", "AccessDenied", "AccessDeniedException"].contains(&code)
}

fn cache(clients: &Clients) -> Check {
    let probe = Arc::clone(&clients.cache);
    check("the cache", move || {
        let probe = Arc::clone(&probe);
        Box::pin(async move { Answer::from(probe.reach().await) })
    })
}

fn keys(issuer: &Arc<Authenticator>) -> Check {
    let issuer = Arc::clone(issuer);
    check("the issuer's keys", move || {
        let issuer = Arc::clone(&issuer);
        Box::pin(async move {
            match issuer.reach_keys().await {
                Ok(()) => Answer::Reached,
                Err(error @ (KeysError::Fetch(_) | KeysError::Status(500..))) => Answer::Silent(error.to_string()),
                Err(error) => Answer::Refused(error.to_string()),
            }
        })
    })
}

/// Proofs in the city's table, which every role reads and writes anyway.
pub(super) struct TableProofs {
    pub store: DynamoStore,
    pub revision: String,
    pub clock: Arc<dyn Clock>,
}

impl Proofs for TableProofs {
    fn is_proven(&self) -> BoxFuture<'_, Result<bool, PortError>> {
        Box::pin(self.store.is_proven(&self.revision))
    }

    fn prove(&self) -> BoxFuture<'_, Result<(), PortError>> {
        Box::pin(self.store.prove(&self.revision, self.clock.now()))
    }
}
