//! The SNS topic every notification is published to, and its subscription by the `notifications` queue.

use dispatch_api::validate::ValidatedSystem;
use serde_json::json;

use crate::engine::plan::template::fragment::{
    Resource, TemplateFragment, attribute, deny_without_tls, policy_document, reference, sub,
};
use crate::engine::plan::template::outputs;
use crate::engine::plan::template::queues::{NOTIFICATIONS, UNDELIVERED, policy_id, queue_arn};

pub(super) const TOPIC: &str = "Topic";

pub(super) fn part(system: &ValidatedSystem) -> TemplateFragment {
    let mut part = TemplateFragment::default();
    // Without a key of the customer's, SNS encrypts its disks anyway; the `aws/sns` key would add a KMS call to each publish
    // and shut out services that publish, and protect from nobody else.
    part.resource(
        TOPIC,
        Resource::new(
            "AWS::SNS::Topic",
            json!({ "TopicName": system.names.topic, "KmsMasterKeyId": system.spec.aws.kms_key_arn }),
        ),
    );
    part.resource("TopicPolicy", topic_policy());
    // A message sent before the queues let the topic in would be lost, hence the order.
    let (delivered, undelivered) = (policy_id(NOTIFICATIONS), policy_id(UNDELIVERED));
    part.resource(
        "TopicSubscription",
        Resource::new(
            "AWS::SNS::Subscription",
            json!({
                "TopicArn": reference(TOPIC),
                "Protocol": "sqs",
                "Endpoint": queue_arn(&system.names.notifications_queue),
                "RawMessageDelivery": true,
                "RedrivePolicy": { "deadLetterTargetArn": attribute(UNDELIVERED, "Arn") },
            }),
        )
        .depends_on(vec![&delivered, &undelivered]),
    );
    part.output(outputs::TOPIC_ARN, &reference(TOPIC));
    part
}

/// The account's own identities, as far as their policies let them; nobody without TLS.
fn topic_policy() -> Resource {
    let owner = json!({
        "Sid": "AllowOwner",
        "Effect": "Allow",
        "Principal": { "AWS": sub("arn:${AWS::Partition}:iam::${AWS::AccountId}:root") },
        "Action": ["sns:GetTopicAttributes", "sns:ListSubscriptionsByTopic", "sns:Publish", "sns:Subscribe"],
        "Resource": reference(TOPIC),
    });
    Resource::new(
        "AWS::SNS::TopicPolicy",
        json!({
            "Topics": [reference(TOPIC)],
            "PolicyDocument": policy_document([owner, deny_without_tls("sns:Publish", reference(TOPIC))]),
        }),
    )
}
