//! Platform applications for Firebase Cloud Messaging. With token authentication (FCM HTTP v1) the platform is still
//! `GCM` and `PlatformCredential` is the whole service account JSON, without a principal (SNS developer guide, "FCM
//! token-based authentication").

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_sns::Client;
use secrecy::{ExposeSecret, SecretString};

use crate::cloud::aws::error::port_error;
use crate::cloud::ports::{PortError, PortErrorKind, PushPlatforms, PushStatus};

const PLATFORM: &str = "GCM";
const CREDENTIAL: &str = "PlatformCredential";
const ENABLED: &str = "Enabled";
const CREATE: &str = "create the platform application";

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
