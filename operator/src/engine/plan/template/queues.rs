//! The three SQS queues, each with a dead-letter queue, and the one for notifications SNS could not hand over.

use dispatch_api::dispatch_system::QueueSpec;
use dispatch_api::validate::ValidatedSystem;
use serde_json::{Value, json};

use crate::engine::plan::template::fragment::{
    Resource, TemplateFragment, attribute, deny_without_tls, local_arn, policy_document, reference,
};
use crate::engine::plan::template::{outputs, topic};

pub(super) const OFFERS: &str = "OffersQueue";
pub(super) const RESPONSES: &str = "ResponsesQueue";
pub(super) const NOTIFICATIONS: &str = "NotificationsQueue";
/// Dead-letter queue of the topic's subscription.
pub(super) const UNDELIVERED: &str = "UndeliveredNotificationsQueue";

/// The longest SQS keeps a message, 14 days: time for a person to look.
const DEAD_LETTER_RETENTION_SECONDS: u32 = 1_209_600;

/// A queue with its logical id, its name and its settings.
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

/// ARN of a queue with settings.
///
/// It is written out where others read it: a change set marks whatever reads `Fn::GetAtt` of a changed resource as possibly replaced, so that a
/// new retention period would show its alarms, policies and subscription as changes, too.
pub(super) fn queue_arn(name: &str) -> Value {
    local_arn("sqs", name)
}

/// Name of the dead-letter queue of the topic's subscription.
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
    // Only SNS writes here; no queue may name it as its dead-letter queue.
    let sources = json!({ "redrivePermission": "denyAll" });
    let arn = attribute(UNDELIVERED, "Arn");
    part.resource(UNDELIVERED, dead_letter_queue(system, &undelivered_name(system), &sources));
    part.resource(policy_id(UNDELIVERED), queue_policy(UNDELIVERED, arn.clone(), Some(topic_may_send(&arn))));
    part.output(outputs::OFFERS_QUEUE_URL, &reference(OFFERS));
    part.output(outputs::RESPONSES_QUEUE_URL, &reference(RESPONSES));
    part.output(outputs::NOTIFICATIONS_QUEUE_URL, &reference(NOTIFICATIONS));
    part
}

/// The queue's own delay is 0: a timer's delay is the `DelaySeconds` of its message, because each city and each offer has its
/// own time-out.
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

/// The longest SQS lets a receive wait, for readers that ask for nothing else: an empty queue costs three requests a minute for each. The
/// workers ask for less, so that they end in time.
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

/// SNS may send, and only for the topic of this stack. There is no `Deny` for everybody else: a person who moves dead letters
/// back sends under an identity of the account, and no worker's role has the right.
fn topic_may_send(queue: &Value) -> Value {
    json!({
        "Sid": "AllowTopic",
        "Effect": "Allow",
        "Principal": { "Service": "sns.amazonaws.com" },
        "Action": "sqs:SendMessage",
        "Resource": queue,
        "Condition": { "ArnEquals": { "aws:SourceArn": reference(topic::TOPIC) } },
    })
}
