//! A city whose queues deliver messages that no worker wrote: each is read, or set aside, and no ride suffers.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::broken_items::{City, Outcomes, for_all, when};
use super::deliveries::message;
use super::*;
use crate::roles::{Answers, Deliveries};

/// No item is broken, so every ride must complete.
const NO_VICTIM: &str = "none#0";

/// Length of a huge text, bytes: a message of SQS holds 256 KiB.
const HUGE: usize = 250_000;

#[derive(Debug, Clone, Copy)]
enum Queue {
    Offers,
    Responses,
    Notifications,
}

/// What happens to a message.
#[derive(Debug, Clone)]
enum Mutation {
    /// A part of the body, or the whole of it, is removed.
    Removed(prop::sample::Index),
    Replaced(prop::sample::Index, Value),
    /// A part that this version does not know.
    Added(Value),
    /// Another text.
    Text(String),
    /// A string attribute.
    Attribute(&'static str, Option<String>),
}

fn values() -> Vec<Value> {
    let time = "2025-05-25T15:30:30+09:00";
    let mut values = vec![json!(null), json!(true), json!(0), json!(-1), json!(0.5), json!(4_294_967_296_u64)];
    values.extend([json!(1e300), json!([]), json!(["x"]), json!({}), json!({ "x": { "y": [] } }), json!("")]);
    values.extend(
        ["x", "dispatch#", "dispatch#gone", "dispatch#00001", "driver#00002", "user#00003", time].map(Value::from),
    );
    values.extend(["9999-12-31T23:59:59+09:00", "ACCEPTED", "TIMED_OUT", &"9".repeat(HUGE)].map(Value::from));
    values
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let texts =
        ["", " ", "x", "{", "{}", "[]", "null", "7", "\"text\"", "\u{feff}{}", "{\"dispatchId\":\"dispatch#1\"}"];
    let mut texts: Vec<String> = texts.map(str::to_owned).into();
    texts.extend(["9".repeat(HUGE), "[".repeat(HUGE / 2), format!("{}{}", "[".repeat(5_000), "]".repeat(5_000))]);
    let names = prop::sample::select(vec!["id", "recipient", "kind", "other"]);
    let attributes = ["", "x", "OFFER", "TRIP_PROGRESS", "driver#00001", "user#00002", "driver#", "dispatch#00001"];
    let attributes = prop::option::of(prop::sample::select(attributes.map(str::to_owned).to_vec()));
    prop_oneof![
        1 => any::<prop::sample::Index>().prop_map(Mutation::Removed),
        3 => (any::<prop::sample::Index>(), prop::sample::select(values()))
            .prop_map(|(index, value)| Mutation::Replaced(index, value)),
        1 => prop::sample::select(values()).prop_map(Mutation::Added),
        1 => prop::sample::select(texts).prop_map(Mutation::Text),
        1 => (names, attributes).prop_map(|(name, value)| Mutation::Attribute(name, value)),
    ]
}

impl Mutation {
    fn apply(&self, message: &mut Received) {
        let mut body: Value = serde_json::from_str(&message.body).unwrap_or_default();
        let parts = body.as_object_mut();
        match (self, parts) {
            (Self::Text(text), _) => {
                message.body.clone_from(text);
                return;
            }
            (Self::Attribute(name, value), _) => {
                match value {
                    Some(value) => drop(message.attributes.insert((*name).to_owned(), value.clone())),
                    None => drop(message.attributes.remove(*name)),
                }
                return;
            }
            (Self::Removed(index), Some(parts)) if !parts.is_empty() => {
                let name = parts.keys().nth(index.index(parts.len())).cloned().unwrap_or_default();
                parts.remove(&name);
            }
            (Self::Replaced(index, value), Some(parts)) if !parts.is_empty() => {
                let name = parts.keys().nth(index.index(parts.len())).cloned().unwrap_or_default();
                parts.insert(name, value.clone());
            }
            (Self::Added(value), Some(parts)) => drop(parts.insert("version".to_owned(), value.clone())),
            _ => return,
        }
        message.body = body.to_string();
    }
}

fn text(value: &impl serde::Serialize) -> Received {
    received(serde_json::to_string(value).unwrap())
}

fn received(body: String) -> Received {
    Received { id: "m".to_owned(), body, attributes: std::collections::HashMap::new() }
}

/// A message that the city has sent; one of the specification before there is any.
fn sent(world: &World, queue: Queue, index: prop::sample::Index) -> Received {
    let one = |all: Vec<Received>, other: Value| match all.len() {
        0 => received(other.to_string()),
        count => all.into_iter().nth(index.index(count)).unwrap(),
    };
    let time = "2025-05-25T15:30:30+09:00";
    let offer = json!({
        "dispatchId": "dispatch#00001", "driverId": "driver#00001", "requestTime": time, "timeoutAt": time, "offerSeq": 1
    });
    match queue {
        Queue::Offers => one(world.timers.started.all().iter().map(|(timer, _)| text(timer)).collect(), offer),
        Queue::Responses => {
            let response = json!({
                "dispatchId": "dispatch#00001", "driverId": "driver#00001", "userId": "user#00001", "offerSeq": 1,
                "response": "ACCEPTED", "respondedAt": time
            });
            one(world.responses.sent.all().iter().map(text).collect(), response)
        }
        Queue::Notifications => {
            let all: Vec<_> = world.notifier.published.all().iter().map(message).collect();
            one(all, json!({ "message": "새로운 배차 요청이 있습니다" }))
        }
    }
}

#[test]
fn one_broken_message_costs_no_ride() {
    let outcomes = Outcomes::default();
    let queues = prop::sample::select(vec![Queue::Offers, Queue::Responses, Queue::Notifications]);
    let messages = (queues, any::<prop::sample::Index>(), prop::collection::vec(mutation(), 1..3));
    for_all(&(when(), messages), async |(when, (queue, index, mutations))| {
        let city = City::new(NO_VICTIM).await;
        let engine = &city.world.engine;
        let offers = OfferTimeouts(Arc::clone(engine));
        let (responses, notifications) = (Answers(Arc::clone(engine)), Deliveries::new(Arc::clone(engine), true));
        let strike = async |now| {
            if now != when {
                return;
            }
            let mut message = sent(&city.world, queue, index);
            for mutation in &mutations {
                mutation.apply(&mut message);
            }
            let handled = match queue {
                Queue::Offers => offers.handle(&message).await,
                Queue::Responses => responses.handle(&message).await,
                Queue::Notifications => notifications.handle(&message).await,
            };
            let outcome = match handled {
                Handled::Done => "handled",
                Handled::Left => "left",
                Handled::Unreadable => "set aside",
            };
            outcomes.count(&format!("queue {queue:?}").to_lowercase(), outcome);
        };
        city.play(when, strike).await;
    });
    outcomes.finish(&["handled", "set aside"]);
}
