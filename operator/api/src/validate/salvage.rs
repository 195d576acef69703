//! Objects as a cluster stores them: read completely, or as far as a deletion needs.

use kube::core::ObjectMeta;
use serde_json::{Map, Value, json};

use super::{FieldError, Findings, ValidatedSystem, ValidationErrors, check_spec};
use crate::dispatch_system::{DispatchSystem, DispatchSystemSpec};

/// Maximum number of rounds in which invalid groups are dropped. Each round drops at least one group, and there are
/// fewer groups.
const ROUNDS: usize = 24;

impl ValidatedSystem {
    /// Reads an object as a cluster stores it; its spec may not match the types. All errors are collected, with paths.
    pub fn of_object(metadata: &ObjectMeta, spec: &Value) -> Result<Self, ValidationErrors> {
        read(metadata, spec.clone())
    }

    /// Reads an object that is being deleted. Invalid groups of the spec count as absent, so that, for example, an
    /// error in the fare table does not block the deletion. Fields that locate the resources (name, region, account,
    /// role) are never guessed; an error in them is returned. An invalid `deletionPolicy` counts as absent, which keeps
    /// the data; an invalid `managementPolicy` counts as `Observe`, which keeps everything.
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

/// Drops the group with the error; `false` if its value must not be guessed.
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
        // City and time zone are not part of any AWS name.
        "city" => spec.insert(group.to_owned(), json!("unknown")).is_none_or(|before| before != json!("unknown")),
        // A misspelled `Observe` must not delete anything.
        "managementPolicy" => {
            spec.insert(group.to_owned(), json!("Observe")).is_none_or(|before| before != json!("Observe"))
        }
        "timezone" => spec.insert(group.to_owned(), json!("UTC")).is_none_or(|before| before != json!("UTC")),
        _ => {
            // Several errors may concern one group.
            spec.remove(group);
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch_system::{DeletionPolicy, ManagementPolicy};

    fn meta() -> ObjectMeta {
        ObjectMeta { name: Some("seoul".to_owned()), namespace: Some("default".to_owned()), ..ObjectMeta::default() }
    }

    #[test]
    fn invalid_groups_are_dropped_and_the_rest_is_used() {
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
    fn a_protective_field_with_an_unknown_value_protects() {
        let spec = json!({
            "city": "seoul", "region": "ap-northeast-2", "timezone": "Asia/Seoul",
            "deletionPolicy": "delete", "managementPolicy": "observe",
        });
        let system = ValidatedSystem::for_deletion(&meta(), &spec).unwrap();
        assert_eq!(system.deletion_policy, DeletionPolicy::Retain);
        assert_eq!(system.spec.management_policy, ManagementPolicy::Observe);
    }

    #[test]
    fn the_location_of_resources_is_never_guessed() {
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
