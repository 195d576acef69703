//! Queues (`CreateQueue`) and their attributes (`GetQueueAttributes`, `SetQueueAttributes`). A change takes up to 60 s
//! to propagate, of the retention period up to 15 minutes.

use async_trait::async_trait;
use std::collections::HashMap;

use aws_config::SdkConfig;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName as Name;
use serde_json::Value;

use crate::cloud::aws::error::port_error;
use crate::cloud::ports::{NewResource, PortError, PortErrorKind, QueueSettings, Queues};

const READ: &str = "read the attributes of a queue";

pub(super) struct Sqs {
    client: Client,
}

impl Sqs {
    pub(super) fn new(config: &SdkConfig) -> Self {
        Self { client: Client::new(config) }
    }
}

#[async_trait]
impl Queues for Sqs {
    async fn settings(&self, url: &str) -> Result<Option<QueueSettings>, PortError> {
        let request = self.client.get_queue_attributes().queue_url(url).set_attribute_names(Some(vec![
            Name::MessageRetentionPeriod,
            Name::VisibilityTimeout,
            Name::RedrivePolicy,
        ]));
        match request.send().await.map_err(|error| port_error(READ, error)) {
            Ok(answer) => read(&answer.attributes.unwrap_or_default()).map(Some),
            Err(error) if error.kind == PortErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn waiting(&self, url: &str) -> Result<Option<u64>, PortError> {
        let counts = [
            Name::ApproximateNumberOfMessages,
            Name::ApproximateNumberOfMessagesNotVisible,
            Name::ApproximateNumberOfMessagesDelayed,
        ];
        let request = self.client.get_queue_attributes().queue_url(url);
        let request = request.set_attribute_names(Some(counts.to_vec()));
        match request.send().await.map_err(|error| port_error(READ, error)) {
            Ok(answer) => {
                let found = answer.attributes.unwrap_or_default();
                let count = |name: &Name| found.get(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
                Ok(Some(counts.iter().map(count).sum()))
            }
            Err(error) if error.kind == PortErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn correct(&self, url: &str, settings: &QueueSettings) -> Result<(), PortError> {
        let mut request = self
            .client
            .set_queue_attributes()
            .queue_url(url)
            .attributes(Name::MessageRetentionPeriod, settings.retention_seconds.to_string())
            .attributes(Name::VisibilityTimeout, settings.visibility_timeout_seconds.to_string());
        if let (Some(target), Some(count)) = (&settings.dead_letter_arn, settings.max_receive_count) {
            let policy = serde_json::json!({ "deadLetterTargetArn": target, "maxReceiveCount": count });
            request = request.attributes(Name::RedrivePolicy, policy.to_string());
        }
        request.send().await.map_err(|error| port_error("set the attributes of a queue", error))?;
        Ok(())
    }

    async fn create(&self, queue: &NewResource) -> Result<(), PortError> {
        let attributes = queue.attributes.iter().map(|(key, value)| (Name::from(key.as_str()), value.clone()));
        let tags = queue.tags.iter().map(|(key, value)| (key.clone(), value.clone()));
        let request = self.client.create_queue().queue_name(&queue.name);
        let request = request.set_attributes(Some(attributes.collect())).set_tags(Some(tags.collect()));
        request.send().await.map_err(|error| port_error("create a queue", error))?;
        Ok(())
    }
}

fn read(attributes: &HashMap<Name, String>) -> Result<QueueSettings, PortError> {
    let seconds = |name: Name| {
        attributes.get(&name).and_then(|text| text.parse().ok()).ok_or_else(|| {
            PortError::new(READ, PortErrorKind::Unavailable, format!("the response contains no {}", name.as_str()))
        })
    };
    let redrive: Option<Value> = attributes.get(&Name::RedrivePolicy).and_then(|text| serde_json::from_str(text).ok());
    // SQS returns the count as a number or as a string, depending on how it was set.
    let count = redrive.as_ref().and_then(|policy| policy.get("maxReceiveCount")).and_then(|count| match count {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64().and_then(|number| u32::try_from(number).ok()),
    });
    let target = redrive.as_ref().and_then(|policy| policy.get("deadLetterTargetArn")).and_then(Value::as_str);
    Ok(QueueSettings {
        retention_seconds: seconds(Name::MessageRetentionPeriod)?,
        visibility_timeout_seconds: seconds(Name::VisibilityTimeout)?,
        max_receive_count: count,
        dead_letter_arn: target.map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receive_count_is_read_as_number_and_as_text() {
        for count in ["5", "\"5\""] {
            let policy = format!(r#"{{"deadLetterTargetArn":"arn:dlq","maxReceiveCount":{count}}}"#);
            let attributes = HashMap::from([
                (Name::MessageRetentionPeriod, "345600".to_owned()),
                (Name::VisibilityTimeout, "30".to_owned()),
                (Name::RedrivePolicy, policy),
            ]);
            let settings = read(&attributes).expect("complete attributes");
            assert_eq!(settings.max_receive_count, Some(5));
            assert_eq!(settings.dead_letter_arn.as_deref(), Some("arn:dlq"));
        }
        assert!(read(&HashMap::new()).is_err());
    }
}
