//! CloudWatch alarms for conditions that require attention. They have no actions: the account decides whom to notify,
//! and EventBridge delivers every state change of an alarm.

use dispatch_api::validate::ValidatedSystem;
use serde_json::{Value, json};

use crate::engine::plan::template::fragment::{Resource, TemplateFragment, reference};
use crate::engine::plan::template::table::{GSI1, GSI2, TABLE_NAME};
use crate::engine::plan::template::{cache, queues};

/// Period of a metric value, s: the shortest that SQS and DynamoDB publish.
const PERIOD_SECONDS: u32 = 60;
/// Number of periods above the threshold, for metrics with normal single peaks.
const LASTING_PERIODS: u32 = 5;
/// Age of the oldest message in a queue that should be empty, s.
const OLDEST_MESSAGE_SECONDS: u32 = 60;
/// CPU threshold, percent. Redis runs commands in one thread, so this is close to the capacity of a node.
const CACHE_CPU_PERCENT: u32 = 80;
/// Memory threshold, percent of `maxmemory`.
const CACHE_MEMORY_PERCENT: u32 = 80;
/// Operations of every dispatch. DynamoDB counts system errors by operation, and a failing table fails all of them.
const TABLE_OPERATIONS: [&str; 4] = ["GetItem", "Query", "TransactWriteItems", "UpdateItem"];

/// An alarm, which fires if the value exceeds the threshold in each of the periods.
struct Alarm {
    description: String,
    namespace: &'static str,
    metric: String,
    dimensions: Vec<(&'static str, Value)>,
    statistic: &'static str,
    threshold: u32,
    periods: u32,
    missing: Missing,
}

/// Meaning of a metric without a value.
#[derive(Clone, Copy)]
enum Missing {
    /// No problem: the service publishes nothing while there is nothing to count.
    Fine,
    /// Unknown: the alarm state is `INSUFFICIENT_DATA`.
    Unknown,
}

impl Alarm {
    fn into_resource(self) -> Resource {
        let dimensions = shown(&self.dimensions);
        let metric = json!({
            "Namespace": self.namespace,
            "MetricName": self.metric,
            "Dimensions": (!dimensions.is_empty()).then_some(dimensions),
            "Statistic": self.statistic,
            "Period": PERIOD_SECONDS,
        });
        self.judging(metric)
    }

    /// The same, for the highest value among several metrics that differ in one dimension. CloudWatch charges each of
    /// them, as it would several alarms.
    fn into_resource_over(self, dimension: &'static str, values: &[String]) -> Resource {
        let metrics = values.iter().zip(1..).map(|(value, number)| {
            json!({
                "Id": format!("m{number}"),
                "ReturnData": false,
                "MetricStat": {
                    "Metric": {
                        "Namespace": self.namespace,
                        "MetricName": self.metric,
                        "Dimensions": shown(&[(dimension, json!(value))]),
                    },
                    "Period": PERIOD_SECONDS,
                    "Stat": self.statistic,
                },
            })
        });
        let highest = json!({ "Id": "highest", "Expression": "MAX(METRICS())" });
        let metrics: Vec<Value> = metrics.chain([highest]).collect();
        self.judging(json!({ "Metrics": metrics }))
    }

    /// An alarm with these properties of its metric.
    fn judging(self, mut properties: Value) -> Resource {
        properties["AlarmDescription"] = json!(self.description);
        properties["EvaluationPeriods"] = json!(self.periods);
        properties["ComparisonOperator"] = json!("GreaterThanThreshold");
        properties["Threshold"] = json!(self.threshold);
        // By default, a missing value is inconclusive.
        if matches!(self.missing, Missing::Fine) {
            properties["TreatMissingData"] = json!("notBreaching");
        }
        Resource::new("AWS::CloudWatch::Alarm", properties)
    }
}

fn shown(dimensions: &[(&'static str, Value)]) -> Vec<Value> {
    dimensions.iter().map(|(name, value)| json!({ "Name": name, "Value": value })).collect()
}

pub(super) fn part(system: &ValidatedSystem) -> TemplateFragment {
    let mut part = TemplateFragment::default();
    queue_alarms(system, &mut part);
    table_alarms(&mut part);
    cache_alarms(system, &mut part);
    topic_alarms(&system.names.topic, &mut part);
    part
}

fn queue_alarms(system: &ValidatedSystem, part: &mut TemplateFragment) {
    let of_queue = |name: &str, metric: &str, threshold: u32, description: String| Alarm {
        description,
        namespace: "AWS/SQS",
        metric: metric.to_owned(),
        dimensions: vec![("QueueName", json!(name))],
        statistic: "Maximum",
        threshold,
        periods: 1,
        missing: Missing::Fine,
    };
    let depth = "ApproximateNumberOfMessagesVisible";
    for queue in queues::queues(system) {
        let dead_letters = queue.dead_letter_id();
        let description = "The queue has dead letters".to_owned();
        part.resource(
            format!("{dead_letters}Alarm"),
            of_queue(&queue.dead_letter_name(), depth, 0, description).into_resource(),
        );
        // An offer timer is in the queue until the offer times out; it is late only after that.
        let waits = if queue.logical_id == queues::OFFERS { system.spec.dispatch.offer_timeout_seconds } else { 0 };
        let age = Alarm {
            periods: LASTING_PERIODS,
            ..of_queue(
                queue.name,
                "ApproximateAgeOfOldestMessage",
                waits + OLDEST_MESSAGE_SECONDS,
                "Messages wait too long".to_owned(),
            )
        };
        part.resource(format!("{}AgeAlarm", queue.logical_id), age.into_resource());
    }
    let description = "SNS cannot deliver notifications".to_owned();
    let undelivered = of_queue(&queues::undelivered_name(system), depth, 0, description);
    part.resource(format!("{}Alarm", queues::UNDELIVERED), undelivered.into_resource());
}

/// The name of the table is a parameter, so that the alarms are created before the table.
fn table_alarms(part: &mut TemplateFragment) {
    let of_table = |metric: String, more: Option<(&'static str, &str)>, description: String| {
        let mut dimensions = vec![("TableName", reference(TABLE_NAME))];
        dimensions.extend(more.map(|(name, value)| (name, json!(value))));
        Alarm {
            description,
            namespace: "AWS/DynamoDB",
            metric,
            dimensions,
            statistic: "Sum",
            threshold: 0,
            periods: LASTING_PERIODS,
            missing: Missing::Fine,
        }
    };
    for direction in ["Read", "Write"] {
        for index in [None, Some(GSI1), Some(GSI2)] {
            let dimension = index.map(|index| ("GlobalSecondaryIndexName", index));
            let description = format!("{direction}s of {} are throttled", index.unwrap_or("the table"));
            let alarm = of_table(format!("{direction}ThrottleEvents"), dimension, description);
            part.resource(format!("{direction}Throttle{}Alarm", index.unwrap_or("Table")), alarm.into_resource());
        }
    }
    for operation in TABLE_OPERATIONS {
        let description = format!("{operation} calls fail");
        let alarm = of_table("SystemErrors".to_owned(), Some(("Operation", operation)), description);
        part.resource(format!("{operation}ErrorsAlarm"), alarm.into_resource());
    }
}

/// Deliveries that fail for good. A message that SNS cannot write to the dead-letter queue either is lost, for example
/// if the policy of the KMS key does not allow SNS to use it.
fn topic_alarms(topic: &str, part: &mut TemplateFragment) {
    for (id, metric, description) in [
        ("TopicDeliveryAlarm", "NumberOfNotificationsFailed", "SNS cannot deliver notifications to the queue"),
        ("TopicLossAlarm", "NumberOfNotificationsFailedToRedriveToDlq", "SNS loses notifications"),
    ] {
        let alarm = Alarm {
            description: description.to_owned(),
            namespace: "AWS/SNS",
            metric: metric.to_owned(),
            dimensions: vec![("TopicName", json!(topic))],
            statistic: "Sum",
            threshold: 0,
            periods: 1,
            missing: Missing::Fine,
        };
        part.resource(id, alarm.into_resource());
    }
}

/// Alarms over all members of the group, because any of them can become the primary. A member publishes continuously,
/// so missing values mean that its state is unknown.
fn cache_alarms(system: &ValidatedSystem, part: &mut TemplateFragment) {
    let members = cache::member_ids(system);
    if members.is_empty() {
        return;
    }
    for (name, metric, threshold, description) in [
        ("Cpu", "EngineCPUUtilization", CACHE_CPU_PERCENT, "Redis CPU is high"),
        ("Memory", "DatabaseMemoryUsagePercentage", CACHE_MEMORY_PERCENT, "Redis memory is high"),
        ("Evictions", "Evictions", 0, "Redis evicts positions"),
    ] {
        let alarm = Alarm {
            description: description.to_owned(),
            namespace: "AWS/ElastiCache",
            metric: metric.to_owned(),
            dimensions: Vec::new(),
            statistic: if name == "Evictions" { "Sum" } else { "Maximum" },
            threshold,
            periods: LASTING_PERIODS,
            missing: Missing::Unknown,
        };
        part.resource(format!("Cache{name}Alarm"), alarm.into_resource_over("CacheClusterId", &members));
    }
}
