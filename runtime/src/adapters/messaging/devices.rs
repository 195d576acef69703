//! Push notifications to devices: FCM through SNS platform endpoints.

use async_trait::async_trait;
use aws_sdk_sns::Client;
use aws_sdk_sns::error::ProvideErrorMetadata;
use dispatch_core::time::EpochMs;
use dispatch_http_types::Notification;
use serde_json::{Map, Value, json};

use crate::adapters::aws::port_error;
use crate::adapters::messaging::topic::kind_text;
use crate::ports::clock::SystemClock;
use crate::ports::{Clock as _, Device, DevicePush, Person, PortError, PushOutcome};

/// [`DevicePush`] over SNS mobile push.
pub struct SnsDevicePush {
    client: Client,
    application_arn: Option<String>,
}

impl SnsDevicePush {
    /// Devices of the platform application; without one, nothing is registered or pushed.
    pub fn new(client: Client, application_arn: Option<&str>) -> Self {
        Self { client, application_arn: application_arn.map(str::to_owned) }
    }

    /// Follows AWS' pattern ("Create a platform endpoint and manage device tokens"): creation is idempotent for equal
    /// attributes; if the endpoint exists with other attributes, the error message names it. An endpoint's user data is
    /// the id of its person.
    async fn endpoint_of(&self, application_arn: &str, person: &Person, token: &str) -> Result<String, PortError> {
        const ACTION: &str = "registering a device";
        let request = self.client.create_platform_endpoint().platform_application_arn(application_arn).token(token);
        match request.custom_user_data(person.as_str()).send().await {
            Ok(created) => created
                .endpoint_arn
                .ok_or_else(|| PortError::Failed { action: ACTION, source: "the answer names no endpoint".into() }),
            // The operator or a person can repair it, and then the app's next attempt succeeds.
            Err(error) if error.code().is_some_and(is_disabled) => {
                Err(PortError::Unavailable { action: ACTION, source: "the platform application is disabled".into() })
            }
            Err(error) => error.message().and_then(existing_endpoint).ok_or_else(|| port_error(ACTION, &error)),
        }
    }

    /// The person that an endpoint belongs to. `None` if there is no such endpoint, or it names no person.
    async fn owner_of(&self, endpoint_arn: &str) -> Result<Option<Person>, PortError> {
        let request = self.client.get_endpoint_attributes().endpoint_arn(endpoint_arn);
        match request.send().await {
            Ok(found) => {
                let owner = found.attributes.and_then(|mut all| all.remove("CustomUserData"));
                Ok(owner.and_then(|id| Person::parse(&id)))
            }
            Err(error) if error.code().is_some_and(is_missing) => Ok(None),
            Err(error) => Err(port_error("reading a device", &error)),
        }
    }
}

/// Whether an error code means that there is no such endpoint or application.
fn is_missing(code: &str) -> bool {
    matches!(code, "NotFound" | "NotFoundException")
}

/// Whether an error code means that a device no longer receives notifications.
fn is_gone(code: &str) -> bool {
    matches!(code, "EndpointDisabled" | "EndpointDisabledException") || is_missing(code)
}

/// Whether an error code means that SNS has disabled the platform application.
fn is_disabled(code: &str) -> bool {
    matches!(code, "PlatformApplicationDisabled" | "PlatformApplicationDisabledException")
}

/// Time that a device which is off may still receive a notification without a time of its own, ms. After that the app
/// reads the dispatch when it starts.
pub const NOTIFICATION_LIVES_MS: u64 = 60 * 60 * 1000;

/// Extracts the endpoint from `Invalid parameter: Token Reason: Endpoint arn:… already exists with the same Token, but
/// different attributes.`
fn existing_endpoint(message: &str) -> Option<String> {
    let (_, behind) = message.split_once("Endpoint ")?;
    let (arn, rest) = behind.split_once(' ')?;
    (arn.starts_with("arn:") && rest.starts_with("already exists")).then(|| arn.to_owned())
}

/// SNS' message for FCM HTTP v1 ("Sending mobile push notifications with FCM v1"): a JSON string inside JSON; values of
/// `data` are strings. A device that is off keeps the last notification about a dispatch, until it expires: Android by
/// a time to live, Apple devices by a time.
fn fcm_message(notification: &Notification, now: EpochMs, expires_at: EpochMs) -> Result<String, serde_json::Error> {
    let text = &notification.body.message;
    let mut data = Map::new();
    if let Value::Object(fields) = serde_json::to_value(&notification.body)? {
        for (name, value) in fields {
            let as_text = match value {
                Value::String(text) => text,
                other => other.to_string(),
            };
            data.insert(name, Value::String(as_text));
        }
    }
    data.insert("id".to_owned(), Value::String(notification.id.clone()));
    data.insert("kind".to_owned(), Value::String(kind_text(notification.kind).to_owned()));
    let lives_s = expires_at.since_ms(now).div_ceil(1000);
    let topic = match &notification.body.dispatch_id {
        Some(dispatch) => dispatch.trim_start_matches("dispatch#"),
        None => kind_text(notification.kind),
    };
    let expires = expires_at.0.div_euclid(1000).to_string();
    let message = json!({ "fcmV1Message": { "message": {
        "notification": { "body": text },
        "data": data,
        "android": { "ttl": format!("{lives_s}s"), "collapse_key": topic, "notification": { "tag": topic } },
        "apns": { "headers": { "apns-expiration": expires, "apns-collapse-id": topic } },
    } } });
    serde_json::to_string(&json!({ "default": text, "GCM": message.to_string() }))
}

#[async_trait]
impl DevicePush for SnsDevicePush {
    async fn register(&self, person: &Person, token: &str) -> Result<Option<Device>, PortError> {
        let Some(application_arn) = &self.application_arn else { return Ok(None) };
        let endpoint = self.endpoint_of(application_arn, person, token).await?;
        let former_owner = self.owner_of(&endpoint).await?.filter(|owner| owner != person);
        Ok(Some(Device { endpoint_arn: endpoint, former_owner }))
    }

    /// FCM may have disabled the endpoint; an app that sends its token is installed.
    async fn assign(&self, endpoint_arn: &str, person: &Person, token: &str) -> Result<(), PortError> {
        let request = self.client.set_endpoint_attributes().endpoint_arn(endpoint_arn).attributes("Token", token);
        let request = request.attributes("Enabled", "true").attributes("CustomUserData", person.as_str());
        request.send().await.map_err(|error| port_error("enabling a device", &error))?;
        Ok(())
    }

    async fn unregister(&self, endpoint_arn: &str, person: &Person) -> Result<(), PortError> {
        // Endpoints are deleted with their application.
        if self.application_arn.is_none() {
            return Ok(());
        }
        if self.owner_of(endpoint_arn).await?.is_some_and(|owner| owner != *person) {
            return Ok(());
        }
        match self.client.delete_endpoint().endpoint_arn(endpoint_arn).send().await {
            Ok(_) => Ok(()),
            Err(error) if error.code().is_some_and(is_missing) => Ok(()),
            Err(error) => Err(port_error("deleting a device", &error)),
        }
    }

    async fn push(
        &self,
        endpoint_arn: &str,
        notification: &Notification,
        expires_at: EpochMs,
    ) -> Result<PushOutcome, PortError> {
        const ACTION: &str = "pushing to a device";
        let message = fcm_message(notification, SystemClock.now(), expires_at);
        let message = message.map_err(|error| PortError::Failed { action: ACTION, source: Box::new(error) })?;
        let request = self.client.publish().target_arn(endpoint_arn).message_structure("json").message(message);
        match request.send().await {
            Ok(_) => Ok(PushOutcome::Sent),
            Err(error) if error.code().is_some_and(is_gone) => Ok(PushOutcome::Gone),
            Err(error) if error.code().is_some_and(is_disabled) => Ok(PushOutcome::Disabled),
            Err(error) => Err(port_error(ACTION, &error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use dispatch_http_types::{NotificationBody, NotificationKind};

    use super::*;

    #[test]
    fn the_endpoint_is_extracted_from_the_error_message() {
        let text = "Invalid parameter: Token Reason: Endpoint arn:aws:sns:ap-northeast-2:1:endpoint/GCM/app/uuid already \
                    exists with the same Token, but different attributes.";
        assert_eq!(existing_endpoint(text).as_deref(), Some("arn:aws:sns:ap-northeast-2:1:endpoint/GCM/app/uuid"));
        assert_eq!(existing_endpoint("Invalid parameter: Token"), None);
    }

    #[test]
    fn the_fcm_message_is_json_in_json_with_string_values() {
        let notification = Notification {
            id: "1".to_owned(),
            recipient: "driver#1".to_owned(),
            kind: NotificationKind::Offer,
            body: NotificationBody {
                message: "새로운 배차 요청이 있습니다".to_owned(),
                dispatch_id: Some("dispatch#1".to_owned()),
                pickup_address: None,
                destination_address: None,
                estimated_fare: Some(12000),
                metered_fare: None,
                actual_fare: None,
                estimated_distance: None,
                offer_seq: Some(1),
                timeout_at: None,
                status: None,
            },
        };
        let outer: Value =
            serde_json::from_str(&fcm_message(&notification, EpochMs(1_000_500), EpochMs(1_013_000)).unwrap()).unwrap();
        assert_eq!(outer["default"], "새로운 배차 요청이 있습니다");
        let inner: Value = serde_json::from_str(outer["GCM"].as_str().unwrap()).unwrap();
        let data = &inner["fcmV1Message"]["message"]["data"];
        assert_eq!(data["estimatedFare"], "12000");
        assert_eq!(data["kind"], "OFFER");
        let message = &inner["fcmV1Message"]["message"];
        assert_eq!((&message["android"]["ttl"], &message["android"]["collapse_key"]), (&json!("13s"), &json!("1")));
        let headers = &message["apns"]["headers"];
        assert_eq!((&headers["apns-expiration"], &headers["apns-collapse-id"]), (&json!("1013"), &json!("1")));
    }
}
