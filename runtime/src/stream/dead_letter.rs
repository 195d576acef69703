//! Dead letters: records that cannot be read, or whose handling failed repeatedly.
//!
//! A dead letter is a message in the dead-letter queue of `offers`. It has the form of a wake-up timer and contains the
//! whole record. After the cause is fixed, redriving the queue ("dead-letter queue redrive") therefore retries the
//! dispatch in its current state. A dead letter whose record names no dispatch returns to the dead-letter queue.

use std::collections::HashMap;

use async_trait::async_trait;
use aws_sdk_dynamodbstreams::types::{AttributeValue, OperationType, Record};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::ports::PortError;

/// Longest dead letter, bytes: the limit of every SQS queue, minus room for SQS' own attributes. Items of this table
/// are far smaller, because routes are stored in chunks. A longer dead letter omits the images, the old one first. Keys
/// and sequence number always remain, and the item itself is in the table.
const LETTER_MAX: usize = 250_000;

/// The destination of dead letters.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Stores a dead letter (JSON) for inspection and redrive.
    async fn set_aside(&self, letter: &str) -> Result<(), PortError>;
}

/// Why a record becomes a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// Its image is not a valid dispatch.
    Unreadable,
    /// The algorithm failed at every attempt.
    Failed,
}

impl Reason {
    fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Failed => "failed",
        }
    }
}

/// The item of a record; records of one item are handled in order.
pub(super) fn item_of(record: &Record) -> &str {
    let key = record.dynamodb().and_then(|change| change.keys()).and_then(|keys| keys.get("PK"));
    match key {
        Some(AttributeValue::S(pk)) => pk,
        _ => "",
    }
}

/// The dead letter of a record of the shard with this lease key, written at `now` (ISO 8601).
pub(super) fn letter(record: &Record, shard: &str, reason: Reason, now: &str) -> String {
    let mut change = change(record);
    let left_out = [&["OldImage"][..], &["OldImage", "NewImage"]];
    let mut text = whole(record, &change, (shard, reason, now));
    for names in left_out {
        if text.len() <= LETTER_MAX {
            break;
        }
        for name in names {
            change.remove(*name);
        }
        change.insert("leftOut".to_owned(), json!(names));
        text = whole(record, &change, (shard, reason, now));
    }
    text
}

fn whole(record: &Record, change: &Map<String, Value>, (shard, reason, now): (&str, Reason, &str)) -> String {
    let record_id = record.event_id();
    json!({
        "dispatchId": item_of(record),
        "requestTime": now,
        "timeoutAt": now,
        "reason": reason.as_str(),
        "shard": shard,
        "record": {
            "eventID": record_id,
            "eventName": record.event_name().map(OperationType::as_str),
            "eventVersion": record.event_version(),
            "eventSource": record.event_source(),
            "awsRegion": record.aws_region(),
            "dynamodb": change,
        },
    })
    .to_string()
}

/// The record's change in DynamoDB JSON.
fn change(record: &Record) -> Map<String, Value> {
    let mut fields = Map::new();
    let Some(change) = record.dynamodb() else { return fields };
    let images = [("Keys", change.keys()), ("NewImage", change.new_image()), ("OldImage", change.old_image())];
    for (name, image) in images {
        fields.extend(image.map(|image| (name.to_owned(), json_of_map(image))));
    }
    let created =
        change.approximate_creation_date_time().map(aws_sdk_dynamodbstreams::primitives::DateTime::as_secs_f64);
    fields.insert("SequenceNumber".to_owned(), json!(change.sequence_number()));
    fields.insert("ApproximateCreationDateTime".to_owned(), json!(created));
    fields.insert("SizeBytes".to_owned(), json!(change.size_bytes()));
    fields
}

fn json_of_map(map: &HashMap<String, AttributeValue>) -> Value {
    Value::Object(map.iter().map(|(name, value)| (name.clone(), json_of(value))).collect())
}

fn json_of(value: &AttributeValue) -> Value {
    let binary = |blob: &aws_sdk_dynamodbstreams::primitives::Blob| json!(STANDARD.encode(blob.as_ref()));
    match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(number) => json!({ "N": number }),
        AttributeValue::Bool(truth) => json!({ "BOOL": truth }),
        AttributeValue::Null(null) => json!({ "NULL": *null }),
        AttributeValue::M(map) => json!({ "M": json_of_map(map) }),
        AttributeValue::L(list) => json!({ "L": list.iter().map(json_of).collect::<Vec<_>>() }),
        AttributeValue::Ss(texts) => json!({ "SS": texts }),
        AttributeValue::Ns(numbers) => json!({ "NS": numbers }),
        AttributeValue::B(blob) => json!({ "B": binary(blob) }),
        AttributeValue::Bs(blobs) => json!({ "BS": blobs.iter().map(binary).collect::<Vec<_>>() }),
        // A type that DynamoDB added later.
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodbstreams::types::{OperationType, StreamRecord};

    use super::*;
    use crate::ports::TimerMessage;

    fn record(image: AttributeValue) -> Record {
        let key = HashMap::from([("PK".to_owned(), AttributeValue::S("dispatch#1".to_owned()))]);
        let image = HashMap::from([("route".to_owned(), image)]);
        let change = StreamRecord::builder()
            .set_keys(Some(key))
            .set_new_image(Some(image.clone()))
            .set_old_image(Some(image))
            .sequence_number("000000000000000000042");
        Record::builder().event_name(OperationType::Modify).dynamodb(change.build()).build()
    }

    #[test]
    fn a_dead_letter_contains_the_record_and_is_a_wake_up_for_its_dispatch() {
        let list = AttributeValue::L(vec![AttributeValue::N("1".to_owned()), AttributeValue::Bool(true)]);
        let text = letter(&record(list), "2025/shard-1", Reason::Failed, "2025-05-25T06:30:00Z");
        let written: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&written["shard"], &written["reason"]), (&json!("2025/shard-1"), &json!("failed")));
        let change = &written["record"]["dynamodb"];
        assert_eq!(change["SequenceNumber"], "000000000000000000042");
        assert_eq!(change["NewImage"], json!({ "route": { "L": [{ "N": "1" }, { "BOOL": true }] } }));
        assert_eq!(change["NewImage"], change["OldImage"]);
        let timer: TimerMessage = serde_json::from_str(&text).unwrap();
        assert_eq!((timer.dispatch_id.as_str(), timer.offer_seq), ("dispatch#1", None));
    }

    #[test]
    fn a_dead_letter_too_long_for_sqs_omits_images_and_says_so() {
        for (length, left_out) in [(150_000, json!(["OldImage"])), (300_000, json!(["OldImage", "NewImage"]))] {
            let text = letter(&record(AttributeValue::S("x".repeat(length))), "s", Reason::Unreadable, "now");
            assert!(text.len() <= LETTER_MAX, "{}", text.len());
            let change = &serde_json::from_str::<Value>(&text).unwrap()["record"]["dynamodb"];
            assert_eq!((&change["leftOut"], change.get("OldImage")), (&left_out, None));
            assert_eq!(change["Keys"]["PK"]["S"], "dispatch#1");
        }
    }
}
