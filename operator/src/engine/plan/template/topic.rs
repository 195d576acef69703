//! The SNS topic to which all notifications are published, and its subscription by the queue `notifications`.

use dispatch_api::validate::ValidatedSystem;
use serde_json::json;

use crate::engine::plan::template::fragment::{
    Resource, TemplateFragment, attribute, deny_without_tls, policy_document, reference, sub,
};
use crate::engine::plan::template::ids::TOPIC;
use crate::engine::plan::template::outputs;
use crate::engine::plan::template::queues::{NOTIFICATIONS, UNDELIVERED, policy_id, queue_arn};

pub(super) fn part(system: &ValidatedSystem) -> TemplateFragment {
    let mut part = TemplateFragment::default();
    // Without a customer managed key, SNS still encrypts its storage. The `aws/sns` key would add a KMS call to each
    // publish and exclude AWS services as publishers, without additional protection.
    part.resource(
        TOPIC,
        Resource::new(
            "AWS::SNS::Topic",
            json!({ "TopicName": system.names.topic, "KmsMasterKeyId": system.spec.aws.kms_key_arn }),
        ),
    );
    part.resource("TopicPolicy", topic_policy());
    // A message published before the queue policies exist would be lost, hence the dependency.
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

/// Identities of the account, as far as their policies allow; no access without TLS.
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
