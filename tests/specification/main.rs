//! The examples of spec §6 and §7, read and written by the types of the code, and compared with what a ride stores.

#![cfg(test)]

mod examples;
mod export;
mod ride;

use std::path::Path;

use serde_json::{Map, Value};

/// Attributes that are additions to the specification; everything else must be as in its text.
const ADDITIONS: [&str; 7] =
    ["offerSeq", "ver", "matching", "distanceMeters", "durationSeconds", "deviceEndpointArn", "expiresAt"];

/// An example of the specification, by the name of its file.
fn fixture(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/specification").join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The item without the additions, and with numbers that compare by value.
fn without_additions(mut item: Value) -> Value {
    if let Some(fields) = item.as_object_mut() {
        fields.retain(|name, _| !ADDITIONS.contains(&name.as_str()));
    }
    numbers_as_floats(&mut item);
    item
}

/// JSON has one kind of number, in which `20` and `20.0` are equal.
fn numbers_as_floats(value: &mut Value) {
    match value {
        Value::Number(number) => *value = number.as_f64().map_or(Value::Null, Value::from),
        Value::Array(entries) => entries.iter_mut().for_each(numbers_as_floats),
        Value::Object(fields) => fields.values_mut().for_each(numbers_as_floats),
        _ => {}
    }
}

/// Applies a change that spec §7 shows to a whole item: maps are merged, `events` grow.
fn merged(mut item: Value, change: &Value) -> Value {
    fn merge(item: &mut Map<String, Value>, change: &Map<String, Value>) {
        for (name, new) in change {
            match (item.get_mut(name), new) {
                (Some(Value::Object(old)), Value::Object(new)) => merge(old, new),
                (Some(Value::Array(events)), Value::Array(new)) if name == "events" => events.extend(new.clone()),
                _ => {
                    item.insert(name.clone(), new.clone());
                }
            }
        }
    }
    merge(item.as_object_mut().expect("an item"), change.as_object().expect("a change"));
    item
}
