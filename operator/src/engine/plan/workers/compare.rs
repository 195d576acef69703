//! Whether an object in the cluster still equals the applied one, so that an unchanged object is not written.

use serde_json::Value;

/// Annotation with the digest of the object as last applied. Only the digest shows that a field was removed.
pub const APPLIED: &str = "dispatch.coactus.io/applied";

/// Whether `live` must be applied again: the desired object changed, or a field that the operator sets was changed.
/// Fields that the operator does not set belong to the cluster.
pub fn differs(wanted: &Value, live: &Value) -> bool {
    let digest = |object: &Value| object["metadata"]["annotations"][APPLIED].clone();
    digest(wanted) != digest(live) || !holds(wanted, live)
}

/// Whether `live` contains everything in `wanted`.
fn holds(wanted: &Value, live: &Value) -> bool {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => wanted.iter().all(|(key, value)| match live.get(key) {
            Some(found) => holds(value, found),
            // The API server does not store empty values.
            None => is_empty(value),
        }),
        (Value::Array(wanted), Value::Array(live)) => {
            wanted.len() == live.len() && wanted.iter().zip(live).all(|(wanted, live)| holds(wanted, live))
        }
        (Value::String(wanted), Value::String(live)) => {
            wanted == live || matches!((quantity(wanted), quantity(live)), (Some(a), Some(b)) if a == b)
        }
        _ => wanted == live,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(members) => members.values().all(is_empty),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// A Kubernetes quantity in thousandths; the API server writes `1000m` as `1`. More than three decimal places are
/// refused.
fn quantity(text: &str) -> Option<u128> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (thousandths, scale): (bool, u128) = match unit {
        "m" => (true, 1),
        "" => (false, 1),
        "k" => (false, 1000),
        "M" => (false, 1_000_000),
        "G" => (false, 1_000_000_000),
        "Ki" => (false, 1 << 10),
        "Mi" => (false, 1 << 20),
        "Gi" => (false, 1 << 30),
        _ => return None,
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if part.len() > 3 || whole.len() > 15 || whole.is_empty() {
        return None;
    }
    let whole: u128 = whole.parse().ok()?;
    let part: u128 = format!("{part:0<3}").parse().ok()?;
    let milli = whole * 1000 + part;
    if thousandths { Some(milli / 1000) } else { Some(milli * scale) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(digest: &str, spec: &Value) -> Value {
        json!({ "metadata": { "annotations": { (APPLIED): digest } }, "spec": spec })
    }

    #[test]
    fn fields_added_by_the_cluster_are_not_differences() {
        let wanted = object("a", &json!({ "ports": [{ "port": 80 }], "selector": { "a": "b" }, "empty": {} }));
        let live = object("a", &json!({ "ports": [{ "port": 80, "nodePort": 3 }], "selector": { "a": "b" }, "x": 1 }));
        assert!(!differs(&wanted, &live));
    }

    #[test]
    fn changed_missing_and_added_entries_are_differences() {
        let wanted = object("a", &json!({ "replicas": 2, "list": [1] }));
        for live in
            [json!({ "replicas": 3, "list": [1] }), json!({ "list": [1] }), json!({ "replicas": 2, "list": [1, 2] })]
        {
            assert!(differs(&wanted, &object("a", &live)), "{live}");
        }
    }

    #[test]
    fn a_removed_field_changes_the_digest() {
        let spec = json!({ "replicas": 2 });
        assert!(differs(&object("b", &spec), &object("a", &spec)));
    }

    #[test]
    fn quantities_are_equal_by_amount() {
        for (a, b) in [("1000m", "1"), ("0.5", "500m"), ("1024Mi", "1Gi"), ("100m", "100m"), ("1.5k", "1500")] {
            assert_eq!(quantity(a), quantity(b), "{a} {b}");
            assert!(quantity(a).is_some(), "{a}");
        }
        assert_ne!(quantity("1M"), quantity("1Mi"));
        assert_eq!(quantity("http"), None);
        assert_eq!(quantity("1.2345"), None);
    }
}
