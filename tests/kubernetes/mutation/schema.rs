//! The nodes of the spec's schema, and values that the schema does not allow.

use serde_json::{Value, json};

/// A field, a group of fields, a list or a map.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Field names from the spec down; `[]` is the first item of a list.
    pub path: Vec<String>,
    /// Schema of the node.
    pub schema: Value,
    /// Whether its group requires it.
    pub required: bool,
}

/// All nodes below the spec's schema, parents first.
pub(super) fn nodes(spec: &Value) -> Vec<Node> {
    let mut all = Vec::new();
    collect(spec, &[], &mut all);
    all
}

fn collect(group: &Value, path: &[String], all: &mut Vec<Node>) {
    for (name, schema) in group["properties"].as_object().into_iter().flatten() {
        let mut path = path.to_vec();
        path.push(name.clone());
        let required = group["required"].as_array().is_some_and(|required| required.iter().any(|r| r == name.as_str()));
        all.push(Node { path: path.clone(), schema: schema.clone(), required });
        collect(schema, &path, all);
        path.push("[]".to_owned());
        collect(&schema["items"], &path, all);
    }
}

impl Node {
    /// The path in its usual notation, such as `dispatch.fare.nightSurcharges[].from`.
    pub(super) fn name(&self) -> String {
        self.path.join(".").replace(".[]", "[]")
    }

    /// Whether it has fields.
    pub(super) fn is_group(&self) -> bool {
        self.schema["properties"].is_object()
    }

    /// Whether to change it directly. A group that always exists is changed through its fields instead.
    pub(super) fn is_leaf(&self) -> bool {
        !self.is_group() || self.schema["default"].is_null()
    }

    /// Its value in a spec; null if it has none.
    pub(super) fn get(&self, spec: &Value) -> Value {
        self.path.iter().fold(spec.clone(), |at, name| if name == "[]" { at[0].clone() } else { at[name].clone() })
    }

    /// `spec` with another value of this node; null removes it.
    pub(super) fn set(&self, spec: &Value, value: &Value) -> Value {
        let mut changed = spec.clone();
        let (last, groups) = self.path.split_last().map_or(("", &self.path[..]), |(last, rest)| (last.as_str(), rest));
        let group = groups.iter().fold(&mut changed, |at, name| if name == "[]" { &mut at[0] } else { &mut at[name] });
        match (value, group.as_object_mut()) {
            (Value::Null, Some(members)) => drop(members.remove(last)),
            (Value::Null, None) => {}
            _ => group[last] = value.clone(),
        }
        changed
    }

    /// Values that the schema does not allow, with the kind of violation. `now` is the current value, `right` another
    /// valid one.
    pub(super) fn wrong(&self, now: &Value, right: &Value) -> Vec<(&'static str, Value)> {
        let schema = &self.schema;
        let limit = |name: &str| schema[name].as_i64();
        let count = |name: &str| limit(name).and_then(|most| usize::try_from(most).ok());
        let own = schema["type"].as_str().unwrap_or_default();
        let types = [
            ("string", json!("text")),
            ("integer", json!(7)),
            ("array", json!([[]])),
            ("boolean", json!(true)),
            ("object", json!({ "a": "b" })),
        ];
        let mut wrong: Vec<_> = types.into_iter().filter(|(kind, _)| *kind != own).map(|(_, v)| ("type", v)).collect();
        match own {
            "integer" => {
                wrong.push(("type", json!(1.5)));
                wrong.push(("range", json!(limit("minimum").unwrap_or(0) - 1)));
                wrong.push(("huge", limit("maximum").map_or_else(|| json!(1e30), |most| json!(most + 1))));
            }
            "string" => {
                wrong.push(("empty", json!("")));
                wrong.push(("huge", json!("a".repeat(count("maxLength").unwrap_or(70_000) + 1))));
                wrong.push(("form", json!("\u{7f}\u{1b}[2J no such thing\n")));
            }
            "array" => {
                if count("minItems").unwrap_or(0) > 0 {
                    wrong.push(("empty", json!([])));
                }
                wrong.push(("huge", json!(vec![right[0].clone(); count("maxItems").unwrap_or(1000) + 1])));
                wrong.push(("item", json!([{ "no": "such thing" }])));
            }
            "object" if self.is_group() && now.is_object() => {
                let mut more = now.clone();
                more["noSuchField"] = json!(1);
                wrong.push(("unknown", more));
            }
            "object" if self.is_group() => {}
            "object" => {
                wrong.push(("item", json!({ "key": ["no text"] })));
                wrong.push(("form", json!({ "no key at all!": "\u{7f}\u{1b}[2J" })));
                let many = (0..=count("maxProperties").unwrap_or(1000)).map(|i| (format!("key-{i}"), json!("value")));
                wrong.push(("huge", Value::Object(many.collect())));
            }
            _ => {}
        }
        if self.required {
            wrong.push(("missing", Value::Null));
        }
        wrong
    }
}
