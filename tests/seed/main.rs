//! The seed's examples of sections 6 and 7, read and written by the types of the code, and met again in what a ride leaves behind.

#![cfg(test)]

mod examples;
mod export;
mod ride;

use std::path::Path;

use serde_json::{Map, Value};

/// What we add to the seed's items; everything else must be as in the text.
const ADDITIONS: [&str; 6] = ["offerSeq", "ver", "matching", "distanceMeters", "durationSeconds", "deviceEndpointArn"];

/// One of the seed's examples, by the name of its file.
fn fixture(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/seed").join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The item without what we add.
fn without_additions(mut item: Value) -> Value {
    if let Some(fields) = item.as_object_mut() {
        fields.retain(|name, _| !ADDITIONS.contains(&name.as_str()));
    }
    numbers_as_floats(&mut item);
    item
}

/// JSON has one kind of number: `20` and `20.0` are the same value.
fn numbers_as_floats(value: &mut Value) {
    match value {
        Value::Number(number) => *value = number.as_f64().map_or(Value::Null, Value::from),
        Value::Array(entries) => entries.iter_mut().for_each(numbers_as_floats),
        Value::Object(fields) => fields.values_mut().for_each(numbers_as_floats),
        _ => {}
    }
}

/// Puts a change of the seed's section 7 ("변경되는 데이터") on a whole item: maps are merged, `events` grow.
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
