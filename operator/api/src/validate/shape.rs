//! Checks a value against the generated schema: types, unknown and missing fields, bounds, lengths and enums.
//!
//! The bounds are stated once, as attributes of the resource types. In a cluster, the API server enforces the same
//! schema. This module enforces it for the command line, and its messages state what is allowed.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::errors::{Findings, quoted};

/// Schema of `spec`, generated once.
static SPEC: LazyLock<Value> = LazyLock::new(|| {
    let crd = serde_json::to_value(crate::crd::crd()).unwrap_or_default();
    crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").cloned().unwrap_or_default()
});

/// Checks `spec`. Null members of non-nullable fields count as absent, as in Kubernetes, and are removed: in YAML, an
/// object whose members are all commented out is null.
pub(crate) fn check_spec(spec: &mut Value, found: &mut Findings) {
    check(spec, &SPEC, "spec", found);
}

fn check(value: &mut Value, schema: &Value, path: &str, found: &mut Findings) {
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    let kind = schema["type"].as_str().unwrap_or_default();
    let right = match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        _ => true,
    };
    // A value in place of a group may be anything, including a key file, so it is not repeated either.
    let group = |kind: &str| matches!(kind, "object" | "array");
    let hidden = may_hold_secret(path) || group(kind) || value.is_object() || value.is_array();
    let shown = match &*value {
        value if hidden => a_kind_of(value).to_owned(),
        Value::String(text) => quoted(text),
        value => value.to_string(),
    };
    if !right {
        let quotes = if kind == "string" && !hidden { ", in quotes" } else { "" };
        found.describe(path, shown, allowed_type(schema) + quotes);
        return;
    }
    match value {
        Value::Object(members) => check_members(members, schema, path, found),
        Value::Array(items) => {
            if out_of(items.len() as u64, &schema["minItems"], &schema["maxItems"]) {
                found.describe(path, format!("{} items", items.len()), allowed(schema));
            }
            for (index, item) in items.iter_mut().enumerate() {
                check(item, &schema["items"], &format!("{path}[{index}]"), found);
            }
        }
        Value::String(text) => {
            let length = text.chars().count() as u64;
            let listed = schema["enum"].as_array().is_none_or(|list| list.iter().any(|item| item == text.as_str()));
            if !listed || out_of(length, &schema["minLength"], &schema["maxLength"]) {
                found.describe(path, shown, allowed(schema));
            }
        }
        Value::Number(number) if kind == "number" => {
            let (number, bound) = (number.as_f64(), |name: &str| schema[name].as_f64());
            let fits = |number: f64| {
                bound("minimum").is_none_or(|min| number >= min) && bound("maximum").is_none_or(|max| number <= max)
            };
            if !number.is_some_and(fits) {
                found.describe(path, shown, allowed(schema));
            }
        }
        Value::Number(number) => {
            // Bounds of integers are from 0 to 2^53, so a negative number is below all of them.
            let number = number.as_u64();
            if number.is_none_or(|number| out_of(number, &schema["minimum"], &schema["maximum"])) {
                found.describe(path, shown, allowed(schema));
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn check_members(members: &mut Map<String, Value>, schema: &Value, path: &str, found: &mut Findings) {
    if let Some(each) = schema.get("additionalProperties").filter(|each| each.is_object()) {
        if out_of(members.len() as u64, &Value::Null, &schema["maxProperties"]) {
            found.describe(path, format!("{} entries", members.len()), allowed(schema));
        }
        for (name, member) in members {
            check(member, each, &format!("{path}.{name}"), found);
        }
        return;
    }
    let Some(fields) = schema["properties"].as_object() else { return };
    members.retain(|name, member| !member.is_null() || fields.get(name).is_none_or(|field| field["nullable"] == true));
    for (name, member) in members.iter_mut() {
        let path = format!("{path}.{name}");
        match fields.get(name) {
            Some(field) => check(member, field, &path, found),
            None => found.say(&path, format!("unknown field; allowed fields are {}", names(fields))),
        }
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !members.contains_key(name) {
            let wanted = fields.get(name).map(allowed_type).unwrap_or_default();
            found.say(&format!("{path}.{name}"), format!("is required: {wanted}"));
        }
    }
}

fn out_of(number: u64, min: &Value, max: &Value) -> bool {
    let bound = |bound: &Value| bound.as_f64();
    bound(min).is_some_and(|min| (number as f64) < min) || bound(max).is_some_and(|max| (number as f64) > max)
}

/// What the schema allows, as text that names the type of a number.
fn allowed_type(schema: &Value) -> String {
    let allowed = allowed(schema);
    match allowed.strip_prefix("at ") {
        _ if schema["type"] != "integer" || allowed.starts_with("a whole") => allowed,
        Some(bound) => format!("a whole number, at {bound}"),
        None => format!("a whole number from {allowed}"),
    }
}

/// What the schema allows, as text.
fn allowed(schema: &Value) -> String {
    let whole = |name: &str| schema[name].as_f64().map(|bound| format!("{bound:.0}"));
    let span = |min: Option<String>, max: Option<String>| match (min, max) {
        (Some(min), Some(max)) if min == max => min,
        (Some(min), Some(max)) => format!("{min} to {max}"),
        (Some(min), None) => format!("at least {min}"),
        (None, Some(max)) => format!("at most {max}"),
        (None, None) => String::new(),
    };
    let joined = |head: &str, rest: String, tail: &str| match rest.as_str() {
        "" => head.to_owned(),
        rest => format!("{head} of {rest} {tail}"),
    };
    match schema["type"].as_str().unwrap_or_default() {
        "integer" => match span(whole("minimum"), whole("maximum")).as_str() {
            "" => "a whole number".to_owned(),
            span => span.to_owned(),
        },
        "number" => match span(whole("minimum"), whole("maximum")).as_str() {
            "" => "a number".to_owned(),
            span => format!("a number from {span}"),
        },
        "boolean" => "true or false".to_owned(),
        "array" => joined("a list", span(whole("minItems"), whole("maxItems")), "items"),
        "object" => match (schema["properties"].as_object(), whole("maxProperties")) {
            (Some(fields), _) => format!("an object with the fields {}", names(fields)),
            (None, Some(most)) => format!("an object with at most {most} entries"),
            (None, None) => "an object".to_owned(),
        },
        "string" => match schema["enum"].as_array() {
            Some(values) => values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
            None => joined("a string", span(whole("minLength"), whole("maxLength")), "characters"),
        },
        _ => "another type".to_owned(),
    }
}

fn names(fields: &Map<String, Value>) -> String {
    fields.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn a_kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Whether the field may contain a secret by mistake, in place of the name of a Secret or an address.
fn may_hold_secret(path: &str) -> bool {
    path.contains("SecretRef") || path.ends_with("external.url") || path.ends_with("eta.url")
}
