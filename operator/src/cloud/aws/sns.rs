//! Topics with their subscriptions (`ListSubscriptionsByTopic`, `CreateTopic`, `Subscribe`), and platform applications
//! for Firebase Cloud Messaging. With token authentication (FCM HTTP v1) the platform is still
//! `GCM` and `PlatformCredential` is the whole service account JSON, without a principal (SNS developer guide, "FCM
//! token-based authentication").

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_sns::Client;
use aws_sdk_sns::types::Tag;
use secrecy::{ExposeSecret, SecretString};

use crate::cloud::aws::error::port_error;
use crate::cloud::ports::{
    NewResource, NewSubscription, PortError, PortErrorKind, PushPlatforms, PushStatus, Subscription, Topics,
};

const PLATFORM: &str = "GCM";
const CREDENTIAL: &str = "PlatformCredential";
const ENABLED: &str = "Enabled";
const CREATE: &str = "create the platform application";
const CREATE_TOPIC: &str = "create the topic";
/// Limit of pages read from a topic's subscriptions, with 100 each. The stack makes one; a person may add some.
const PAGES: usize = 10;

pub(super) struct Sns {
    client: Client,
}

impl Sns {
    pub(super) fn new(config: &SdkConfig) -> Self {
        Self { client: Client::new(config) }
    }
}

#[async_trait]
impl PushPlatforms for Sns {
    async fn status(&self, arn: &str) -> Result<Option<PushStatus>, PortError> {
        let request = self.client.get_platform_application_attributes().platform_application_arn(arn);
        match request.send().await.map_err(|error| port_error("read the platform application", error)) {
            Ok(found) => {
                // SNS may omit the attribute of an application that was never disabled.
                let enabled = found.attributes.as_ref().and_then(|all| all.get(ENABLED));
                let is_disabled = enabled.is_some_and(|enabled| enabled.eq_ignore_ascii_case("false"));
                Ok(Some(if is_disabled { PushStatus::Disabled } else { PushStatus::Enabled }))
            }
            Err(error) if error.kind == PortErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn create(&self, name: &str, credential: &SecretString) -> Result<String, PortError> {
        let request = self
            .client
            .create_platform_application()
            .name(name)
            .platform(PLATFORM)
            .attributes(CREDENTIAL, credential.expose_secret());
        let answer = request.send().await.map_err(|error| port_error(CREATE, error))?;
        let missing = || PortError::new(CREATE, PortErrorKind::Unavailable, "the response contains no ARN");
        answer.platform_application_arn.ok_or_else(missing)
    }

    async fn update(&self, arn: &str, credential: &SecretString) -> Result<(), PortError> {
        let request = self
            .client
            .set_platform_application_attributes()
            .platform_application_arn(arn)
            .attributes(CREDENTIAL, credential.expose_secret())
            .attributes(ENABLED, "true");
        request.send().await.map_err(|error| port_error("update the platform application", error))?;
        Ok(())
    }

    async fn delete(&self, arn: &str) -> Result<(), PortError> {
        let request = self.client.delete_platform_application().platform_application_arn(arn);
        match request.send().await.map_err(|error| port_error("delete the platform application", error)) {
            Ok(_) => Ok(()),
            Err(error) if error.kind == PortErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Topics for Sns {
    async fn subscriptions(&self, topic_arn: &str) -> Result<Option<Vec<Subscription>>, PortError> {
        let mut token = None;
        let mut subscriptions = Vec::new();
        for _ in 0..PAGES {
            let request = self.client.list_subscriptions_by_topic().topic_arn(topic_arn).set_next_token(token);
            let page = match request.send().await.map_err(|error| port_error("list the topic's subscriptions", error)) {
                Ok(page) => page,
                Err(error) if error.kind == PortErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            };
            subscriptions.extend(page.subscriptions().iter().filter_map(|found| {
                let (protocol, endpoint) = (found.protocol()?.to_owned(), found.endpoint()?.to_owned());
                Some(Subscription { protocol, endpoint })
            }));
            token = page.next_token;
            if token.is_none() {
                break;
            }
        }
        Ok(Some(subscriptions))
    }

    async fn create(&self, topic: &NewResource) -> Result<(), PortError> {
        let invalid = |error: aws_sdk_sns::error::BuildError| {
            PortError::new(CREATE_TOPIC, PortErrorKind::Invalid, error.to_string())
        };
        let tags = topic.tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build());
        let tags = tags.collect::<Result<Vec<_>, _>>().map_err(invalid)?;
        let attributes = topic.attributes.iter().map(|(key, value)| (key.clone(), value.clone()));
        let request = self.client.create_topic().name(&topic.name);
        let request = request.set_attributes(Some(attributes.collect())).set_tags(Some(tags));
        request.send().await.map_err(|error| port_error(CREATE_TOPIC, error))?;
        Ok(())
    }

    async fn subscribe(&self, new: &NewSubscription) -> Result<(), PortError> {
        let attributes = new.attributes.iter().map(|(key, value)| (key.clone(), value.clone()));
        let request = self.client.subscribe().topic_arn(&new.topic_arn).protocol(&new.subscription.protocol);
        let request = request.endpoint(&new.subscription.endpoint).set_attributes(Some(attributes.collect()));
        request.send().await.map_err(|error| port_error("subscribe the queue to the topic", error))?;
        Ok(())
    }
}
