//! The order of creation. Pure.
//!
//! DynamoDB refuses to delete a table with deletion protection, so a creation that fails after its table cannot be
//! rolled back. The table is therefore created last: whatever a quota, a missing permission or a name in use prevents,
//! fails before it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::engine::plan::template::table::TABLE;

/// Types with many resources, of which none but the first can fail: permissions and quotas are those of the type. The
/// table waits for one of each, to save template size.
const ALIKE: [&str; 2] = ["AWS::ApiGatewayV2::Route", "AWS::CloudWatch::Alarm"];

/// Logical ids by the logical ids of the resources that they need.
type Needs = BTreeMap<String, BTreeSet<String>>;

/// Makes the table depend on every resource that does not need the table.
pub(super) fn create_the_table_last(resources: &mut BTreeMap<String, Value>) {
    let needs: Needs = resources.iter().map(|(id, resource)| (id.clone(), needed_by(resource, resources))).collect();
    let before: BTreeSet<&String> =
        needs.keys().filter(|id| *id != TABLE && !closure(id, &needs).contains(TABLE)).collect();
    // What another one of them needs exists before that one.
    let needed: BTreeSet<&String> = before.iter().flat_map(|id| &needs[*id]).collect();
    let mut seen = BTreeSet::new();
    let last: Vec<&String> = before
        .into_iter()
        .filter(|id| !needed.contains(id))
        .filter(|id| {
            let kind = resources[*id]["Type"].as_str().unwrap_or_default();
            !ALIKE.contains(&kind) || seen.insert(kind.to_owned())
        })
        .collect();
    let last = json!(last);
    if let Some(table) = resources.get_mut(TABLE) {
        table["DependsOn"] = last;
    }
}

/// Everything that a resource needs, directly or through others.
pub(super) fn closure(id: &str, needs: &Needs) -> BTreeSet<String> {
    let (mut found, mut left) = (BTreeSet::new(), vec![id.to_owned()]);
    while let Some(id) = left.pop() {
        left.extend(needs.get(&id).into_iter().flatten().filter(|id| found.insert((*id).clone())).cloned());
    }
    found
}

/// The resources that a resource names in `Ref`, `Fn::GetAtt`, `Fn::Sub` and `DependsOn`.
pub(super) fn needed_by(resource: &Value, all: &BTreeMap<String, Value>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect(resource, &mut found);
    found.retain(|id| all.contains_key(id));
    found
}

fn collect(value: &Value, found: &mut BTreeSet<String>) {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(members) => {
            for (key, member) in members {
                match key.as_str() {
                    "Ref" => found.extend(text(member)),
                    "Fn::GetAtt" => found.extend(member.get(0).and_then(text)),
                    "Fn::Sub" => found.extend(member.as_str().into_iter().flat_map(placeholders)),
                    "DependsOn" => found.extend(member.as_array().into_iter().flatten().filter_map(text)),
                    _ => collect(member, found),
                }
            }
        }
        _ => {}
    }
}

/// The names in `${Name}` and `${Name.Attribute}`. A literal `${!name}` is none: no resource begins with `!`.
fn placeholders(text: &str) -> impl Iterator<Item = String> + '_ {
    let starts = text.match_indices("${").map(|(at, _)| &text[at + 2..]);
    starts.filter_map(|rest| Some(rest.split('}').next()?.split('.').next()?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::plan::template::render;
    use crate::engine::plan::template::tests::{external_cache, production, seoul};

    fn needs_of(resources: &Value) -> (BTreeMap<String, Value>, Needs) {
        let all: BTreeMap<String, Value> = resources.as_object().unwrap().clone().into_iter().collect();
        let needs = all.iter().map(|(id, resource)| (id.clone(), needed_by(resource, &all))).collect();
        (all, needs)
    }

    /// Application Auto Scaling accepts a table only if it exists.
    #[test]
    fn only_the_scaling_of_the_table_is_created_after_it() {
        for system in [seoul(), production(), external_cache()] {
            let (all, needs) = needs_of(&render(&system).body()["Resources"]);
            for (id, resource) in &all {
                let kind = resource["Type"].as_str().unwrap();
                if closure(id, &needs).contains(TABLE) {
                    assert!(kind.starts_with("AWS::ApplicationAutoScaling::"), "{}: {id} needs the table", system.name);
                }
            }
        }
    }

    #[test]
    fn the_table_waits_for_everything_else() {
        for system in [seoul(), production(), external_cache()] {
            let (all, needs) = needs_of(&render(&system).body()["Resources"]);
            let before = closure(TABLE, &needs);
            let kinds = |id: &String| all[id]["Type"].as_str().unwrap().to_owned();
            let awaited: BTreeSet<String> = before.iter().map(kinds).collect();
            for (id, resource) in &all {
                let kind = resource["Type"].as_str().unwrap();
                let is_awaited = before.contains(id) || (ALIKE.contains(&kind) && awaited.contains(kind));
                let is_after = closure(id, &needs).contains(TABLE);
                assert!(is_awaited || is_after || id == TABLE, "{}: the table does not wait for {id}", system.name);
            }
        }
    }

    #[test]
    fn names_are_found_in_every_form() {
        let all: BTreeMap<String, Value> = ["A", "B", "C", "D", "E"].map(|id| (id.to_owned(), json!({}))).into();
        let resource = json!({
            "DependsOn": ["A"],
            "Properties": {
                "X": { "Ref": "B" }, "Y": [{ "Fn::GetAtt": ["C", "Arn"] }],
                "Z": { "Fn::Sub": "${AWS::Region}/${D.Arn}/${!E}/${E}" }, "W": { "Ref": "AWS::Region" },
            },
        });
        let found: Vec<String> = needed_by(&resource, &all).into_iter().collect();
        assert_eq!(found, ["A", "B", "C", "D", "E"]);
    }
}
