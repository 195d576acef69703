//! Breaks a running city at random, as careless services and hands might: attributes of stored items, keys of Redis,
//! messages of the queues, and foreign items, whose stream records are broken from the start. Equal seeds draw equal
//! mutations; what they hit depends on the rides at that moment.

use std::collections::HashMap;
use std::fmt::Write as _;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sqs::types::MessageAttributeValue;
use dispatch_tests::broken_keys::break_a_key;
use dispatch_tests::dice::Dice;
use redis::aio::MultiplexedConnection;
use serde_json::json;
use tokio::time::Instant;

use crate::support::City;

type Item = HashMap<String, AttributeValue>;

/// Attributes that DynamoDB accepts as non-empty text only, because they are keys of an index.
const INDEX_KEYS: [&str; 4] = ["GSI1PK", "GSI1SK", "GSI2PK", "GSI2SK"];
/// Length of a huge text, bytes: an item holds 400 KB, a message 256 KiB.
const HUGE: usize = 200_000;

/// A mutation that was made.
#[derive(Debug, Clone)]
pub(crate) struct Strike {
    /// What was broken: `table DRIVER`, `redis drv`, `queue offers`, `stream DISPATCH`.
    pub kind: String,
    /// The person or dispatch that it belongs to; `None` if it belongs to the whole city.
    pub owner: Option<String>,
    /// The mutation.
    pub what: String,
    pub at: Instant,
}

impl Strike {
    fn new(kind: String, owner: Option<String>, what: String) -> Self {
        Self { kind, owner, what, at: Instant::now() }
    }
}

/// Draws and makes mutations.
pub(crate) struct Mutator<'a> {
    city: &'a City,
    dice: Dice,
    redis: MultiplexedConnection,
    dynamodb: aws_sdk_dynamodb::Client,
    sqs: aws_sdk_sqs::Client,
    ghosts: u32,
}

impl<'a> Mutator<'a> {
    pub(crate) async fn new(city: &'a City, seed: u64) -> Self {
        let client = redis::Client::open(city.redis.lock().await.url()).unwrap();
        let redis = client.get_multiplexed_async_connection().await.unwrap();
        let sqs = aws_sdk_sqs::Client::new(city.clients.config());
        Self { city, dice: Dice(seed), redis, dynamodb: city.dynamodb(), sqs, ghosts: 0 }
    }

    fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        self.dice.pick(all)
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.dice.one_in(count)
    }

    /// Makes one mutation. `ids` are the persons and dispatches of the rides of late. `None` if there was nothing to
    /// break.
    pub(crate) async fn strike(&mut self, ids: &[String]) -> Option<Strike> {
        match self.dice.below(10) {
            0..=3 => self.break_item(ids).await,
            4..=6 => self.break_key(ids).await,
            7 | 8 => Some(self.send_message(ids).await),
            _ => Some(self.store_ghost().await),
        }
    }

    /// Breaks one attribute of one item.
    async fn break_item(&mut self, ids: &[String]) -> Option<Strike> {
        let owner = self.pick(ids);
        let table = &self.city.config.table.name;
        let own = self.dynamodb.query().table_name(table).key_condition_expression("PK = :pk");
        let own = own.expression_attribute_values(":pk", AttributeValue::S(owner.clone())).send().await.unwrap();
        let items = own.items.unwrap_or_default();
        if items.is_empty() {
            return None;
        }
        let item = self.pick(&items);
        let paths = paths(&item);
        let path = self.pick(&paths);
        let value = self.mutation(path.first().is_some_and(|name| INDEX_KEYS.contains(&name.as_str())));
        let mut update = self.dynamodb.update_item().table_name(table);
        let mut expression = String::new();
        for (place, step) in path.iter().enumerate() {
            if step.starts_with('[') {
                expression.push_str(step);
            } else {
                write!(expression, "{}#p{place}", if place > 0 { "." } else { "" }).expect("a String takes any text");
                update = update.expression_attribute_names(format!("#p{place}"), step);
            }
        }
        let shown = value.as_ref().map_or_else(|| "removed".to_owned(), shown);
        update = match value {
            Some(value) => update
                .update_expression(format!("SET {expression} = :value"))
                .expression_attribute_values(":value", value),
            None => update.update_expression(format!("REMOVE {expression}")),
        };
        for name in ["PK", "SK"] {
            update = update.key(name, item[name].clone());
        }
        // The path may have gone meanwhile, and an item may have become too large.
        update.send().await.ok()?;
        let entity = match item.get("EntityType") {
            Some(AttributeValue::S(entity)) => entity.clone(),
            _ => "UNKNOWN".to_owned(),
        };
        let sort_key = item["SK"].as_s().unwrap();
        Some(Strike::new(format!("table {entity}"), Some(owner), format!("{sort_key} {}: {shown}", path.join("."))))
    }

    /// What becomes of an attribute; `None` if it is removed.
    fn mutation(&mut self, is_index_key: bool) -> Option<AttributeValue> {
        let text = |value: &str| AttributeValue::S(value.to_owned());
        let number = |value: &str| AttributeValue::N(value.to_owned());
        let texts = [text("x"), text("12"), text("dispatch#gone"), text("DISPATCH#REQUESTED"), text("DRIVER#ACTIVE")];
        if self.one_in(5) {
            return None;
        }
        if is_index_key {
            return Some(self.pick(&texts));
        }
        let others = [
            text(""),
            text(&"9".repeat(HUGE)),
            text("9999-12-31T23:59:59+09:00"),
            number("-1"),
            number("0.5"),
            number("4294967296"),
            number("1E+125"),
            AttributeValue::Bool(true),
            AttributeValue::Null(true),
            AttributeValue::L(Vec::new()),
            AttributeValue::L(vec![text("x"), number("1")]),
            AttributeValue::M(HashMap::new()),
            AttributeValue::Ss(vec!["x".to_owned()]),
            AttributeValue::B(vec![0, 255].into()),
        ];
        Some(self.pick(&[&texts[..], &others].concat()))
    }

    /// Breaks one key of Redis, or makes one where none should be.
    async fn break_key(&mut self, ids: &[String]) -> Option<Strike> {
        let owner = self.pick(ids);
        let made = break_a_key(&mut self.redis, &mut self.dice, "seoul", &owner).await.ok()?;
        let owner = made.key.split_once("}:").map(|(_, owner)| owner.to_owned());
        let kind = made.key.split(':').next().unwrap_or_default();
        Some(Strike::new(format!("redis {kind}"), owner, made.command))
    }

    /// Sends a message that no worker wrote.
    async fn send_message(&mut self, ids: &[String]) -> Strike {
        let queues = &self.city.config.queues;
        let all = [("offers", &queues.offers_url), ("responses", &queues.responses_url)];
        let all = [&all[..], &[("notifications", &queues.notifications_url)]].concat();
        let (name, url) = self.pick(&all);
        let (id, other) = (self.pick(ids), self.pick(ids));
        let time = self.pick(&["2025-05-25T15:30:30+09:00", "", "x", "9999-12-31T23:59:59+09:00"]);
        let any = [json!(null), json!(7), json!(-1), json!(1e300), json!([id]), json!({ "x": {} }), json!(other)];
        let mut body = json!({
            "version": self.pick(&any), "dispatchId": id, "driverId": other, "userId": id, "requestTime": time,
            "timeoutAt": time, "offerSeq": self.dice.below(3), "ver": self.dice.below(5), "response": "ACCEPTED",
            "respondedAt": time, "message": "", "pickupAddress": "", "destinationAddress": "", "estimatedFare": 12_000,
        });
        let names: Vec<String> = body.as_object().unwrap().keys().cloned().collect();
        for _ in 0..self.dice.below(3) {
            let (name, value) = (self.pick(&names), self.pick(&any));
            if self.one_in(2) { body[&name] = value } else { drop(body.as_object_mut().unwrap().remove(&name)) }
        }
        let bodies = ["not JSON", "[]", "null", "\"text\"", " ", "{", "{}", "\u{feff}{}"];
        let text = match self.dice.below(8) {
            0 | 1 => self.pick(&bodies).to_owned(),
            2 => format!("{{\"dispatchId\":\"{}\"}}", "9".repeat(HUGE)),
            3 => format!("{}{}", "[".repeat(5_000), "]".repeat(5_000)),
            _ => body.to_string(),
        };
        let mut request = self.sqs.send_message().queue_url(url).message_body(&text);
        for attribute in ["recipient", "kind", "id"] {
            if self.one_in(4) {
                continue;
            }
            let values = ["OFFER", "TRIP_PROGRESS", "x", id.as_str(), other.as_str()];
            let value = MessageAttributeValue::builder().data_type("String").string_value(self.pick(&values));
            request = request.message_attributes(attribute, value.build().unwrap());
        }
        request.send().await.unwrap();
        Strike::new(format!("queue {name}"), None, text.chars().take(200).collect())
    }

    /// Stores a dispatch or driver of another service with broken attributes. Its stream record is as broken.
    async fn store_ghost(&mut self) -> Strike {
        self.ghosts += 1;
        let id = self.ghosts;
        let place = json!({ "lat": 37.5133, "lng": 127.0133, "address": "서울시 중구 1" });
        let time = "2025-05-25T15:30:00+09:00";
        let (kind, ghost) = if self.one_in(2) {
            let ghost = json!({
                "PK": format!("dispatch#ghost{id}"), "SK": "METADATA", "EntityType": "DISPATCH",
                "userId": format!("user#ghost{id}"), "driverId": null, "status": "REQUESTED", "createdAt": time,
                "updatedAt": time, "pickupLocation": place, "destination": place, "estimatedFare": 12_000,
                "actualFare": 0, "route": [], "events": [{ "type": "CREATED", "timestamp": time, "details": "" }],
                "GSI1PK": "DISPATCH#REQUESTED", "GSI1SK": format!("2025-05-25T15:30:00#dispatch#ghost{id}"),
            });
            ("DISPATCH", ghost)
        } else {
            let ghost = json!({
                "PK": format!("driver#ghost{id}"), "SK": "PROFILE", "EntityType": "DRIVER", "phone": "01012348765",
                "createdAt": time, "vehicleInfo": { "manufacturer": "현대", "licensePlate": "서울12가3456" },
                "currentStatus": { "status": "ACTIVE", "currentLocation": place, "lastLocationUpdate": time,
                    "currentDispatchId": null },
                "preferences": { "defaultRideType": "STANDARD", "preferredRegions": [], "maxDistance": 20,
                    "autoAccept": false, "minimumFare": 0 },
                "completedRides": [],
            });
            ("DRIVER", ghost)
        };
        let mut item: Item = serde_dynamo::to_item(ghost).unwrap();
        let mut shown = Vec::new();
        for _ in 0..=self.dice.below(2) {
            let path = {
                let all = paths(&item);
                self.pick(&all)
            };
            let value = self.mutation(INDEX_KEYS.contains(&path[0].as_str()));
            shown.push(format!(
                "{}: {}",
                path.join("."),
                value.as_ref().map_or_else(|| "removed".to_owned(), self::shown)
            ));
            apply(&mut item, &path, value);
        }
        let owner = item["PK"].as_s().unwrap().clone();
        let request = self.dynamodb.put_item().table_name(&self.city.config.table.name);
        request.set_item(Some(item)).send().await.unwrap();
        Strike::new(format!("stream {kind}"), Some(owner), shown.join(", "))
    }
}

/// The kind of a value, which may be huge.
fn shown(value: &AttributeValue) -> String {
    format!("{value:?}").chars().take(60).collect()
}

/// Every attribute path of an item apart from its key, with `[0]` for the first element of a list.
fn paths(item: &Item) -> Vec<Vec<String>> {
    fn below(value: &AttributeValue, path: &[String], found: &mut Vec<Vec<String>>) {
        found.push(path.to_vec());
        match value {
            AttributeValue::M(map) => {
                let mut names: Vec<_> = map.iter().collect();
                names.sort_by_key(|(name, _)| *name);
                for (name, value) in names {
                    below(value, &[path, std::slice::from_ref(name)].concat(), found);
                }
            }
            AttributeValue::L(list) => {
                if let Some(first) = list.first() {
                    below(first, &[path, &["[0]".to_owned()]].concat(), found);
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    let mut names: Vec<_> = item.iter().filter(|(name, _)| !["PK", "SK"].contains(&name.as_str())).collect();
    names.sort_by_key(|(name, _)| *name);
    for (name, value) in names {
        below(value, std::slice::from_ref(name), &mut found);
    }
    found
}

/// Sets or removes an attribute of an item that is not stored yet. Elements of lists stay.
fn apply(item: &mut Item, path: &[String], value: Option<AttributeValue>) {
    let Some((name, parents)) = path.split_last() else { return };
    let mut map = item;
    for parent in parents {
        let Some(AttributeValue::M(child)) = map.get_mut(parent) else { return };
        map = child;
    }
    match value {
        Some(value) => drop(map.insert(name.clone(), value)),
        None => drop(map.remove(name)),
    }
}
