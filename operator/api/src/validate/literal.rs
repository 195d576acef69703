//! Texts stay texts: what a service would replace or a terminal would obey is refused in every string of a spec, also
//! in fields that have no format of their own.

use serde_json::Value;

use super::errors::Findings;

/// Strings that go to Kubernetes only, where tools of the cluster may have expressions of their own.
const KUBERNETES_ONLY: [&str; 1] = ["spec.workers.serviceAccountAnnotations"];

/// Beginnings of expressions, and the services that replace them.
const EXPRESSIONS: [(&str, &str); 2] = [
    ("{{", "CloudFormation replaces it by the value of a secret or parameter"),
    ("${", "CloudFormation, IAM policies and Glue replace it by a value"),
];

/// Refuses each string and each key with an expression or with characters that steer a terminal. Values are not
/// repeated, because they may be secrets.
pub(super) fn check(spec: &Value, found: &mut Findings) {
    walk("spec", spec, found);
}

fn walk(path: &str, value: &Value, found: &mut Findings) {
    if KUBERNETES_ONLY.contains(&path) {
        return;
    }
    match value {
        Value::String(text) => refuse(path, text, "", found),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(&format!("{path}[{index}]"), item, found);
            }
        }
        Value::Object(members) => {
            for (key, member) in members {
                let path = format!("{path}.{key}");
                refuse(&path, key, "the key ", found);
                walk(&path, member, found);
            }
        }
        _ => {}
    }
}

fn refuse(path: &str, text: &str, part: &str, found: &mut Findings) {
    if found.has(path) {
        return;
    }
    if let Some((begin, effect)) = EXPRESSIONS.iter().find(|(begin, _)| text.contains(begin)) {
        found.say(path, format!("{part}must not contain {begin}: {effect}"));
    } else if text.chars().any(char::is_control) {
        found.say(path, format!("{part}must not contain control characters"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_string_and_key_is_looked_at_and_none_is_repeated() {
        let mut found = Findings::default();
        let spec = json!({
            "city": "seoul",
            "a": { "b": ["fine", "x{{resolve:ssm:secret}}"], "${c}": "fine", "d": "a\u{1b}[2Jb" },
            "e": "$ {", "f": "{ {", "g": "price $5",
            "workers": { "serviceAccountAnnotations": { "vault": "{{ with secret }}" }, "image": "x${y}" },
        });
        check(&spec, &mut found);
        let shown: Vec<String> = found.finish().unwrap_err().0.iter().map(ToString::to_string).collect();
        let expected = [
            "spec.a.${c}: the key must not contain ${: CloudFormation, IAM policies and Glue replace it by a value",
            "spec.a.b[1]: must not contain {{: CloudFormation replaces it by the value of a secret or parameter",
            "spec.a.d: must not contain control characters",
            "spec.workers.image: must not contain ${: CloudFormation, IAM policies and Glue replace it by a value",
        ];
        assert_eq!(shown, expected);
    }
}
