//! Push notifications to devices: FCM through SNS platform endpoints.

use async_trait::async_trait;
use aws_sdk_sns::Client;
use aws_sdk_sns::error::ProvideErrorMetadata;
use dispatch_http_types::Notification;
use serde_json::{Map, Value, json};

use super::topic::kind_text;
use crate::aws::port_error;
use crate::ports::{DevicePush, Person, PortError};

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
    /// attributes; if the endpoint exists with other attributes, the error message names it.
    async fn endpoint_of(&self, application_arn: &str, token: &str) -> Result<String, PortError> {
        const ACTION: &str = "registering a device";
        let request = self.client.create_platform_endpoint().platform_application_arn(application_arn).token(token);
        match request.send().await {
            Ok(created) => created
                .endpoint_arn
                .ok_or_else(|| PortError::Failed { action: ACTION, source: "the answer names no endpoint".into() }),
            Err(error) => error.message().and_then(existing_endpoint).ok_or_else(|| port_error(ACTION, &error)),
        }
    }
}

/// Extracts the endpoint from `Invalid parameter: Token Reason: Endpoint arn:… already exists with the same Token, but
/// different attributes.`
fn existing_endpoint(message: &str) -> Option<String> {
    let (_, behind) = message.split_once("Endpoint ")?;
    let (arn, rest) = behind.split_once(' ')?;
    (arn.starts_with("arn:") && rest.starts_with("already exists")).then(|| arn.to_owned())
}

/// SNS' message for FCM HTTP v1 ("Sending mobile push notifications with FCM v1"): a JSON string inside JSON; values of
/// `data` are strings.
fn fcm_message(notification: &Notification) -> Result<String, serde_json::Error> {
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
    let message = json!({ "fcmV1Message": { "message": { "notification": { "body": text }, "data": data } } });
    serde_json::to_string(&json!({ "default": text, "GCM": message.to_string() }))
}

#[async_trait]
impl DevicePush for SnsDevicePush {
    async fn register(&self, _person: &Person, token: &str) -> Result<Option<String>, PortError> {
        let Some(application_arn) = &self.application_arn else { return Ok(None) };
        let endpoint = self.endpoint_of(application_arn, token).await?;
        // FCM may have disabled the endpoint; an app that sends its token is installed.
        let request = self.client.set_endpoint_attributes().endpoint_arn(&endpoint);
        let enabled = request.attributes("Token", token).attributes("Enabled", "true").send().await;
        enabled.map_err(|error| port_error("enabling a device", &error))?;
        Ok(Some(endpoint))
    }

    async fn push(&self, endpoint_arn: &str, notification: &Notification) -> Result<(), PortError> {
        const ACTION: &str = "pushing to a device";
        let message =
            fcm_message(notification).map_err(|error| PortError::Failed { action: ACTION, source: Box::new(error) })?;
        let request = self.client.publish().target_arn(endpoint_arn).message_structure("json").message(message);
        match request.send().await {
            Ok(_) => Ok(()),
            // The app was removed, or the endpoint was deleted: there is no recipient.
            Err(error)
                if matches!(error.code(), Some("EndpointDisabled" | "EndpointDisabledException" | "NotFound")) =>
            {
                Ok(())
            }
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
                dispatch_id: "dispatch#1".to_owned(),
                pickup_address: None,
                destination_address: None,
                estimated_fare: Some(12000),
                estimated_distance: None,
                offer_seq: Some(1),
                timeout_at: None,
                status: None,
            },
        };
        let outer: Value = serde_json::from_str(&fcm_message(&notification).unwrap()).unwrap();
        assert_eq!(outer["default"], "새로운 배차 요청이 있습니다");
        let inner: Value = serde_json::from_str(outer["GCM"].as_str().unwrap()).unwrap();
        let data = &inner["fcmV1Message"]["message"]["data"];
        assert_eq!(data["estimatedFare"], "12000");
        assert_eq!(data["kind"], "OFFER");
    }
}
