//! Queues, topics and buckets of the account.

use async_trait::async_trait;
use std::collections::BTreeMap;

use super::{BUCKET, QUEUE, QUEUES, SUBSCRIPTION, TOPIC, World};
use crate::cloud::ports::{
    Buckets, NewResource, NewSubscription, PortError, PortErrorKind, QueueSettings, Queues, Removed, Subscription,
    Topics,
};

fn queue_of(url: &str) -> &'static str {
    let url = url.to_lowercase();
    QUEUES.into_iter().find(|name| url.ends_with(&name.to_lowercase())).unwrap_or_default()
}

#[async_trait]
impl Queues for World {
    /// Queues share their settings until one is corrected; each has the dead-letter queue of the template.
    async fn settings(&self, url: &str) -> Result<Option<QueueSettings>, PortError> {
        let queue = queue_of(url);
        let name = queue.to_lowercase();
        let stack = self.stacks.first_with_resources().unwrap_or_default();
        let target = format!("arn:aws:sqs:ap-northeast-2:000000000000:{stack}-{name}-dlq");
        self.answer("queue", |inner| {
            let there = inner.exists(QUEUE, url)?;
            let found = inner.corrected.get(queue).unwrap_or(&inner.queue);
            Ok(there.then(|| QueueSettings { dead_letter_arn: Some(target), ..found.clone() }))
        })
        .await
    }

    async fn waiting(&self, url: &str) -> Result<Option<u64>, PortError> {
        let offers = queue_of(url) == "Offers";
        self.answer("queue_depth", |inner| {
            Ok(inner.exists(QUEUE, url)?.then_some(if offers { inner.waiting } else { 0 }))
        })
        .await
    }

    async fn correct(&self, url: &str, settings: &QueueSettings) -> Result<(), PortError> {
        self.answer("correct_queue", |inner| {
            inner.did("queue corrected");
            inner.corrected.insert(queue_of(url), settings.clone());
            Ok(())
        })
        .await
    }

    async fn create(&self, queue: &NewResource) -> Result<(), PortError> {
        self.answer("create_queue", |inner| {
            // SQS demands that the dead-letter queue exists.
            let redrive = queue.attributes.get("RedrivePolicy").map_or("{}", String::as_str);
            let redrive: serde_json::Value = serde_json::from_str(redrive).unwrap_or_default();
            if let Some(target) = redrive["deadLetterTargetArn"].as_str()
                && !inner.exists(QUEUE, target)?
            {
                return Err(PortError::new("create a queue", PortErrorKind::Invalid, "no such dead-letter queue"));
            }
            if inner.gone.remove(&(QUEUE, queue.name.clone())) {
                inner.did("queue created");
            }
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl Topics for World {
    /// The subscription of the template.
    async fn subscriptions(&self, topic_arn: &str) -> Result<Option<Vec<Subscription>>, PortError> {
        self.answer("topic", |inner| {
            let queue = topic_arn.replace(":sns:", ":sqs:");
            let subscription = Subscription { protocol: "sqs".to_owned(), endpoint: queue };
            let subscribed = inner.exists(SUBSCRIPTION, topic_arn)?;
            Ok(inner.exists(TOPIC, topic_arn)?.then(|| subscribed.then_some(subscription).into_iter().collect()))
        })
        .await
    }

    async fn create(&self, topic: &NewResource) -> Result<(), PortError> {
        self.answer("create_topic", |inner| {
            if inner.gone.remove(&(TOPIC, topic.name.clone())) {
                inner.did("topic created");
            }
            Ok(())
        })
        .await
    }

    async fn subscribe(&self, new: &NewSubscription) -> Result<(), PortError> {
        self.answer("subscribe", |inner| {
            if !inner.exists(TOPIC, &new.topic_arn)? || !inner.exists(QUEUE, &new.subscription.endpoint)? {
                return Err(PortError::new("subscribe", PortErrorKind::NotFound, "no such topic or queue"));
            }
            let topic = new.topic_arn.rsplit(':').next().unwrap_or_default().to_owned();
            if inner.gone.remove(&(SUBSCRIPTION, topic)) {
                inner.did("queue subscribed");
            }
            Ok(())
        })
        .await
    }
}

/// Limit of versions that one call removes, as in S3.
const VERSIONS_PER_CALL: usize = 1000;

#[async_trait]
impl Buckets for World {
    async fn tags(&self, bucket: &str, _owner: &str) -> Result<Option<BTreeMap<String, String>>, PortError> {
        let any = self.is_there(bucket);
        self.answer("bucket_tags", |inner| {
            let there = inner.exists(BUCKET, bucket)? && (any || inner.kept.is_some());
            Ok(there.then(|| self.tags_of(inner)))
        })
        .await
    }

    async fn set_tags(&self, _bucket: &str, _owner: &str, tags: &BTreeMap<String, String>) -> Result<(), PortError> {
        self.answer("tag_bucket", |inner| {
            inner.did("bucket tagged");
            inner.kept = Some(tags.clone());
            Ok(())
        })
        .await
    }

    async fn remove_versions(&self, _bucket: &str, _owner: &str) -> Result<Removed, PortError> {
        self.answer("remove_versions", |inner| {
            let versions = inner.objects.min(VERSIONS_PER_CALL);
            inner.objects -= versions;
            if versions > 0 {
                inner.did("bucket page emptied");
            }
            Ok(Removed { versions, more: inner.objects > 0 })
        })
        .await
    }
}
