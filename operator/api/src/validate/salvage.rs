//! Objects as a cluster stores them: read whole, or as far as a deletion needs them.

use kube::core::ObjectMeta;
use serde_json::{Map, Value, json};

use super::{FieldError, Findings, ValidatedSystem, ValidationErrors, check_spec};
use crate::dispatch_system::{DispatchSystem, DispatchSystemSpec};

/// Rounds of leaving out what is wrong: every round takes at least one group away, and there are fewer groups.
const ROUNDS: usize = 24;

impl ValidatedSystem {
    /// Reads an object as a cluster stores it, whose spec need not fit the types. All errors are collected and name their fields.
    pub fn of_object(metadata: &ObjectMeta, spec: &Value) -> Result<Self, ValidationErrors> {
        read(metadata, spec.clone())
    }

    /// Reads an object that is being deleted. Groups of the spec that are wrong count as absent, so that a mistake in a fare never
    /// stands in the way; what says where the resources are (name, region, account, role) is never guessed, and an error in it is
    /// the answer. An unreadable `deletionPolicy` is the default one, which keeps the data.
    pub fn for_deletion(metadata: &ObjectMeta, spec: &Value) -> Result<Self, ValidationErrors> {
        let mut spec = spec.as_object().cloned().unwrap_or_default();
        let mut last = ValidationErrors(Vec::new());
        for _ in 0..ROUNDS {
            last = match read(metadata, Value::Object(spec.clone())) {
                Ok(system) => return Ok(system),
                Err(errors) => errors,
            };
            for error in &last.0 {
                if !leave_out(&mut spec, error) {
                    return Err(last);
                }
            }
        }
        Err(last)
    }
}

fn read(metadata: &ObjectMeta, mut value: Value) -> Result<ValidatedSystem, ValidationErrors> {
    let mut found = Findings::default();
    check_spec(&mut value, &mut found);
    found.finish()?;
    let spec: DispatchSystemSpec = serde_json::from_value(value).map_err(|error| {
        let mut found = Findings::default();
        found.say("spec", error.to_string());
        found.finish().err().unwrap_or(ValidationErrors(Vec::new()))
    })?;
    let raw = DispatchSystem { metadata: metadata.clone(), spec, status: None };
    ValidatedSystem::try_from_raw(&raw)
}

/// Takes away what the error speaks of; `false` where that must not be guessed.
fn leave_out(spec: &mut Map<String, Value>, error: &FieldError) -> bool {
    let Some(path) = error.path.strip_prefix("spec.") else { return false };
    let group = path.split(['.', '[']).next().unwrap_or_default();
    let keep = |spec: &mut Map<String, Value>, fields: &[&str]| {
        let Some(members) = spec.get_mut(group).and_then(Value::as_object_mut) else { return false };
        let before = members.len();
        members.retain(|name, _| fields.contains(&name.as_str()));
        members.len() < before
    };
    match group {
        "region" => false,
        "aws" => keep(spec, &["accountId", "roleArn", "externalId"]),
        "table" => keep(spec, &["name"]),
        // None of these is part of an AWS name.
        "city" => spec.insert(group.to_owned(), json!("unknown")).is_none_or(|before| before != json!("unknown")),
        "timezone" => spec.insert(group.to_owned(), json!("UTC")).is_none_or(|before| before != json!("UTC")),
        _ => {
            // Several errors may speak of one group.
            spec.remove(group);
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch_system::DeletionPolicy;

    fn meta() -> ObjectMeta {
        ObjectMeta { name: Some("seoul".to_owned()), namespace: Some("default".to_owned()), ..ObjectMeta::default() }
    }

    #[test]
    fn wrong_groups_are_left_out_and_the_rest_counts() {
        let spec = json!({
            "city": "SEOUL!", "region": "ap-northeast-2", "timezone": "Nowhere",
            "deletionPolicy": "Delete",
            "table": { "name": "rides", "gsi1Shards": 0 },
            "aws": { "accountId": "111122223333", "tags": { "aws:x": "y" } },
            "dispatch": { "maxCandidates": "many" },
            "unknown": 1,
        });
        let system = ValidatedSystem::for_deletion(&meta(), &spec).unwrap();
        assert_eq!(system.deletion_policy, DeletionPolicy::Delete);
        assert_eq!(system.names.table, "rides");
        assert_eq!(system.names.stack, "coactus-default-seoul");
        assert_eq!(system.spec.aws.account_id.as_deref(), Some("111122223333"));
    }

    #[test]
    fn where_the_resources_are_is_never_guessed() {
        let base = json!({ "city": "seoul", "region": "ap-northeast-2", "timezone": "Asia/Seoul" });
        for (at, value) in [("region", json!("moon")), ("region", json!(7)), ("aws", json!({ "accountId": "12" }))] {
            let mut spec = base.clone();
            spec[at] = value;
            let error = ValidatedSystem::for_deletion(&meta(), &spec).unwrap_err();
            assert!(error.to_string().contains(&format!("spec.{at}")), "{error}");
        }
        assert!(ValidatedSystem::for_deletion(&meta(), &Value::Null).is_err());
    }
}
