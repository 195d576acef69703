//! The three SQS queues, their dead-letter queues, and the queue for notifications that SNS cannot deliver.

use dispatch_api::dispatch_system::QueueSpec;
use dispatch_api::validate::ValidatedSystem;
use serde_json::{Value, json};

use crate::engine::plan::template::fragment::{
    Resource, TemplateFragment, attribute, deny_without_tls, local_arn, policy_document, reference,
};
use crate::engine::plan::template::{ids, outputs};

pub const OFFERS: &str = "OffersQueue";
pub const RESPONSES: &str = "ResponsesQueue";
pub const NOTIFICATIONS: &str = "NotificationsQueue";
/// Dead-letter queue of the subscription of the topic.
pub(super) const UNDELIVERED: &str = "UndeliveredNotificationsQueue";

/// Maximum retention of SQS, 14 days, which leaves time for a person to react.
const DEAD_LETTER_RETENTION_SECONDS: u32 = 1_209_600;

/// A queue with its logical id, name and settings.
pub(super) struct Queue<'a> {
    pub(super) logical_id: &'static str,
    pub(super) name: &'a str,
    pub(super) spec: &'a QueueSpec,
}

impl Queue<'_> {
    pub(super) fn dead_letter_id(&self) -> String {
        format!("{}DeadLetters", self.logical_id)
    }

    pub(super) fn arn(&self) -> Value {
        queue_arn(self.name)
    }

    pub(super) fn dead_letter_name(&self) -> String {
        format!("{}-dlq", self.name)
    }
}

pub(super) fn queues(system: &ValidatedSystem) -> [Queue<'_>; 3] {
    let (names, specs) = (&system.names, &system.spec.queues);
    [
        Queue { logical_id: OFFERS, name: &names.offers_queue, spec: &specs.offers },
        Queue { logical_id: RESPONSES, name: &names.responses_queue, spec: &specs.responses },
        Queue { logical_id: NOTIFICATIONS, name: &names.notifications_queue, spec: &specs.notifications },
    ]
}

/// ARN of a queue with settings, as text.
///
/// It does not use `Fn::GetAtt`, because a change set marks all resources that read an attribute of a changed resource
/// as possibly replaced: a changed retention period would also show changes of alarms, policies and the subscription.
pub(super) fn queue_arn(name: &str) -> Value {
    local_arn("sqs", name)
}

/// Name of the dead-letter queue of the subscription of the topic.
pub(super) fn undelivered_name(system: &ValidatedSystem) -> String {
    format!("{}-undelivered", system.names.notifications_queue)
}

/// Logical id of the policy of a queue.
pub(super) fn policy_id(queue: &str) -> String {
    format!("{queue}Policy")
}

pub(super) fn part(system: &ValidatedSystem) -> TemplateFragment {
    let mut part = TemplateFragment::default();
    for queue in queues(system) {
        let dead_letters = queue.dead_letter_id();
        part.resource(queue.logical_id, working_queue(system, &queue));
        let sources = json!({ "redrivePermission": "byQueue", "sourceQueueArns": [queue.arn()] });
        part.resource(&dead_letters, dead_letter_queue(system, &queue.dead_letter_name(), &sources));
        part.resource(
            policy_id(queue.logical_id),
            queue_policy(queue.logical_id, queue.arn(), topic_statement(&queue)),
        );
        part.resource(policy_id(&dead_letters), queue_policy(&dead_letters, attribute(&dead_letters, "Arn"), None));
    }
    // Only SNS sends to this queue; no queue may use it as its dead-letter queue.
    let sources = json!({ "redrivePermission": "denyAll" });
    let arn = attribute(UNDELIVERED, "Arn");
    part.resource(UNDELIVERED, dead_letter_queue(system, &undelivered_name(system), &sources));
    part.resource(policy_id(UNDELIVERED), queue_policy(UNDELIVERED, arn.clone(), Some(topic_may_send(&arn))));
    part.output(outputs::OFFERS_QUEUE_URL, &reference(OFFERS));
    part.output(outputs::RESPONSES_QUEUE_URL, &reference(RESPONSES));
    part.output(outputs::NOTIFICATIONS_QUEUE_URL, &reference(NOTIFICATIONS));
    part
}

/// The delay of the queue is 0. The delay of a timer is the `DelaySeconds` of its message, because time-outs differ
/// between cities and offers.
fn working_queue(system: &ValidatedSystem, queue: &Queue<'_>) -> Resource {
    let mut properties = encrypted(
        system,
        json!({
            "QueueName": queue.name,
            "DelaySeconds": 0,
            "MessageRetentionPeriod": queue.spec.retention_seconds,
            "VisibilityTimeout": queue.spec.visibility_timeout_seconds,
            "ReceiveMessageWaitTimeSeconds": LONG_POLL_SECONDS,
        }),
    );
    properties["RedrivePolicy"] = json!({
        "deadLetterTargetArn": attribute(&queue.dead_letter_id(), "Arn"),
        "maxReceiveCount": queue.spec.max_receive_count,
    });
    Resource::new("AWS::SQS::Queue", properties)
}

/// Maximum wait time of a receive call, for readers that do not set one: an empty queue then costs each of them three
/// requests a minute. Workers use a shorter time, so that they terminate in time.
const LONG_POLL_SECONDS: u32 = 20;

fn dead_letter_queue(system: &ValidatedSystem, name: &str, redrive_allow_policy: &Value) -> Resource {
    let properties = encrypted(
        system,
        json!({
            "QueueName": name,
            "MessageRetentionPeriod": DEAD_LETTER_RETENTION_SECONDS,
            "RedriveAllowPolicy": redrive_allow_policy,
        }),
    );
    Resource::new("AWS::SQS::Queue", properties)
}

fn encrypted(system: &ValidatedSystem, mut properties: Value) -> Value {
    match &system.spec.aws.kms_key_arn {
        Some(key) => properties["KmsMasterKeyId"] = json!(key),
        None => properties["SqsManagedSseEnabled"] = json!(true),
    }
    properties
}

fn queue_policy(logical_id: &str, arn: Value, more: Option<Value>) -> Resource {
    let statements = [more, Some(deny_without_tls("sqs:*", arn))];
    Resource::new(
        "AWS::SQS::QueuePolicy",
        json!({
            "Queues": [reference(logical_id)],
            "PolicyDocument": policy_document(statements.into_iter().flatten()),
        }),
    )
}

fn topic_statement(queue: &Queue<'_>) -> Option<Value> {
    (queue.logical_id == NOTIFICATIONS).then(|| topic_may_send(&queue.arn()))
}

/// SNS may send, for the topic of this stack only. There is no `Deny` for other identities: a person who redrives dead
/// letters sends with an identity of the account, and no worker role has that permission.
fn topic_may_send(queue: &Value) -> Value {
    json!({
        "Sid": "AllowTopic",
        "Effect": "Allow",
        "Principal": { "Service": "sns.amazonaws.com" },
        "Action": "sqs:SendMessage",
        "Resource": queue,
        "Condition": { "ArnEquals": { "aws:SourceArn": reference(ids::TOPIC) } },
    })
}
