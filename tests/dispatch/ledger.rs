//! Audit of a city: every version of every dispatch, read from the table's stream, and the items that rides store.

use std::collections::BTreeMap;

use dispatch_runtime::city::parse_timestamp;
use dispatch_simulator::audit::{DriverEnd, Ending, History, audit};
use regex::Regex;
use serde_json::{Map, Value, json};

use crate::support::{City, Tap, item_of};
use crate::trip::Ride;

/// Fields that differ between two equal rides: measurements and positions. Times in other fields are masked by their
/// form.
const MEASURED: [&str; 13] = [
    "actualFare",
    "durationSeconds",
    "distanceMeters",
    "distance",
    "duration",
    "fare",
    "ver",
    "offerSeq",
    "matching",
    "route",
    "currentLocation",
    "location",
    "expiresAt",
];

/// The versions of each dispatch, and the dispatches of each driver, in the order of the stream.
pub(crate) struct Ledger {
    tap: Tap,
    versions: BTreeMap<String, Vec<Value>>,
    drivers: BTreeMap<String, Vec<Option<String>>>,
}

impl Ledger {
    pub(crate) async fn open(city: &City, stream_arn: &str) -> Self {
        Self { tap: Tap::open(city, stream_arn).await, versions: BTreeMap::new(), drivers: BTreeMap::new() }
    }

    /// Reads all records that are available.
    pub(crate) async fn read(&mut self) {
        loop {
            let records = self.tap.next().await;
            if records.is_empty() {
                return;
            }
            for record in records {
                let image = plain(&json!({ "M": record["dynamodb"]["NewImage"] }));
                if image["EntityType"] == "DISPATCH" && image["SK"] == "METADATA" {
                    self.versions.entry(item_of(&record).to_owned()).or_default().push(image);
                } else if image["EntityType"] == "DRIVER" && image["SK"] == "PROFILE" {
                    let dispatch = image["currentStatus"]["currentDispatchId"].as_str().map(str::to_owned);
                    self.drivers.entry(item_of(&record).to_owned()).or_default().push(dispatch);
                }
            }
        }
    }

    /// Violations in the histories of the dispatches.
    pub(crate) fn faults(&self) -> Vec<String> {
        self.versions.iter().flat_map(|(id, versions)| faults_of(id, versions)).collect()
    }

    /// Drivers who went from one dispatch to another without being free. Unlike the times of events, the order of the
    /// stream is that of the writes.
    fn faults_of_drivers(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (driver, dispatches) in &self.drivers {
            for pair in dispatches.windows(2) {
                if let [Some(before), Some(after)] = pair
                    && before != after
                {
                    found.push(format!("{driver} went from {before} to {after} without being free"));
                }
            }
        }
        found
    }
}

/// Converts a value from DynamoDB JSON to plain JSON.
fn plain(value: &Value) -> Value {
    let Some((kind, inner)) = value.as_object().and_then(|typed| typed.iter().next()) else { return Value::Null };
    match kind.as_str() {
        "M" => inner.as_object().map_or(Value::Null, |fields| {
            fields.iter().map(|(name, value)| (name.clone(), plain(value))).collect::<Map<_, _>>().into()
        }),
        "L" => inner.as_array().map_or(Value::Null, |list| list.iter().map(plain).collect()),
        "N" => inner.as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Null),
        "NULL" => Value::Null,
        _ => inner.clone(),
    }
}

/// The driver of a live offer.
fn offered(image: &Value) -> Option<&str> {
    image["driverId"].as_str().filter(|_| image["status"] == "REQUESTED")
}

/// Checks each version against the previous one: `ver` rises by one; an offer is made only if none is live, under the
/// next number; the driver who was offered the ride gets it and keeps it; a terminal status does not change.
fn faults_of(id: &str, versions: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    for pair in versions.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        let number = |image: &Value, name: &str| image[name].as_u64().unwrap_or_default();
        let mut must = |holds: bool, what: &str| {
            if !holds {
                found.push(format!("{id} ver {} to {}: {what}", before["ver"], after["ver"]));
            }
        };
        must(number(after, "ver") == number(before, "ver") + 1, "the version did not rise by one");
        let (old, new) = (number(before, "offerSeq"), number(after, "offerSeq"));
        must(new == old || new == old + 1, "an offer's number was skipped");
        must(new == old || offered(before).is_none(), "an offer was made beside a live one");
        if before["status"] == "REQUESTED" && after["status"] == "ACCEPTED" {
            let whose = if new == old { offered(before) } else { after["driverId"].as_str() };
            must(whose == after["driverId"].as_str(), "it went to a driver it was not offered to");
        }
        let riding = ["ACCEPTED", "IN_PROGRESS"].contains(&before["status"].as_str().unwrap_or_default());
        must(!riding || before["driverId"] == after["driverId"], "its driver changed");
        let ended = before["status"] == "CANCELLED" || before["status"] == "COMPLETED";
        must(!ended || before["status"] == after["status"], "its status changed after its end");
    }
    found
}

/// Violations in a city in which every ride has ended: histories, offers, drivers, and `acknowledged` rides that are
/// missing.
pub(crate) async fn faults(city: &City, ledger: &mut Ledger, acknowledged: &[Ride]) -> Vec<String> {
    ledger.read().await;
    let mut found = ledger.faults();
    found.extend(ledger.faults_of_drivers());
    let items = city.scan(&city.config.table.name).await;
    let of = |kind: &str, sk: &str| -> Vec<&Value> {
        items.iter().filter(|item| item["EntityType"] == kind && item["SK"] == sk).collect()
    };
    let dispatches = of("DISPATCH", "METADATA");
    let histories: Vec<History> = dispatches.iter().map(|item| history(item)).collect();
    let drivers: Vec<DriverEnd> = of("DRIVER", "PROFILE")
        .into_iter()
        .filter(|item| item["currentStatus"]["status"] != "INACTIVE")
        .map(|item| DriverEnd {
            driver: text(item, "PK"),
            status: serde_json::from_value(item["currentStatus"]["status"].clone()).unwrap(),
            dispatch: item["currentStatus"]["currentDispatchId"].as_str().map(str::to_owned),
        })
        .collect();
    found.extend(audit(&histories, &drivers, Ending::Drained).iter().map(ToString::to_string));
    for ride in acknowledged {
        if !dispatches.iter().any(|item| item["PK"] == ride.dispatch.as_str()) {
            found.push(format!("{} was acknowledged and is missing", ride.dispatch));
        }
        let completed = items.iter().filter(|item| {
            item["PK"] == ride.driver.as_str()
                && text(item, "SK").starts_with("COMPLETED#")
                && item.to_string().contains(&ride.dispatch)
        });
        let completed = completed.count();
        let is = dispatches.iter().any(|item| item["PK"] == ride.dispatch.as_str() && item["status"] == "COMPLETED");
        if completed != usize::from(is) {
            found.push(format!("{} is in its driver's rides {completed} times", ride.dispatch));
        }
    }
    found
}

fn text(item: &Value, name: &str) -> String {
    item[name].as_str().unwrap_or_default().to_owned()
}

fn history(item: &Value) -> History {
    let events = item["events"].as_array().unwrap().iter();
    let second = |event: &Value| parse_timestamp(&text(event, "timestamp")).map(|at| at.0.div_euclid(1000));
    History {
        dispatch: text(item, "PK"),
        driver: item["driverId"].as_str().map(str::to_owned),
        status: serde_json::from_value(item["status"].clone()).unwrap(),
        offer_seq: u32::try_from(item["offerSeq"].as_u64().unwrap()).unwrap(),
        events: events.map(|event| (serde_json::from_value(event["type"].clone()).unwrap(), second(event))).collect(),
    }
}

/// All items of a ride, sorted, without what differs between two equal rides: ids, times, measurements, and offers
/// without success.
pub(crate) async fn items_of(city: &City, ride: &Ride) -> Vec<Value> {
    let items = city.scan(&city.config.table.name).await.into_iter();
    let ids = [&ride.dispatch, &ride.user, &ride.driver];
    let time = Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?([+-]\d\d:\d\d|Z)?").unwrap();
    let own =
        items.filter(|item| ids.iter().any(|id| item["PK"] == id.as_str()) && !text(item, "SK").starts_with("ROUTE#"));
    let mut items: Vec<Value> = own.map(|item| masked(&item, ride, &time)).collect();
    items.sort_by_key(ToString::to_string);
    items
}

fn masked(value: &Value, ride: &Ride, time: &Regex) -> Value {
    match value {
        Value::String(text) => {
            let mut text = time.replace_all(text, "TIME").into_owned();
            for (id, name) in [(&ride.dispatch, "DISPATCH"), (&ride.user, "USER"), (&ride.driver, "DRIVER")] {
                text = text.replace(id.as_str(), name);
            }
            text.into()
        }
        Value::Array(list) => {
            let unsuccessful = |index: usize| {
                let kind = |index: usize| list.get(index).map(|event| &event["type"]);
                kind(index) == Some(&json!("DRIVER_REJECTED"))
                    || (kind(index) == Some(&json!("DRIVER_ASSIGNED"))
                        && kind(index + 1) == Some(&json!("DRIVER_REJECTED")))
            };
            (0..list.len())
                .filter(|index| !unsuccessful(*index))
                .map(|index| masked(&list[index], ride, time))
                .collect()
        }
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| !MEASURED.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), masked(value, ride, time)))
            .collect::<Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}
