//! The custom resource definition: the resource types as a Kubernetes schema.
//!
//! The derived schema is changed in three ways. `nullable` is removed: without it, the API server drops a null and
//! applies the default, so no rule has to handle nulls. Formats that OpenAPI does not define, such as `uint32`, become
//! `int32` or `int64`. The status of a new object starts with `observedGeneration: -1`, so that a new object does not
//! appear to be reconciled (kstatus).

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt as _;
use serde_json::json;

use crate::dispatch_system::DispatchSystem;

/// The custom resource definition.
pub fn crd() -> CustomResourceDefinition {
    let mut crd = DispatchSystem::crd();
    for version in &mut crd.spec.versions {
        let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) else {
            continue;
        };
        plain(schema);
        if let Some(status) = schema.properties.as_mut().and_then(|properties| properties.get_mut("status")) {
            status.default = Some(JSON(json!({ "observedGeneration": -1 })));
        }
    }
    crd
}

/// The definition as YAML, the content of `manifests/crd.yaml` without its first line. The output is deterministic.
pub fn crd_yaml() -> Result<String, serde_yaml::Error> {
    let mut definition = serde_yaml::to_value(crd())?;
    whole(&mut definition);
    serde_yaml::to_string(&definition).map(|yaml| quoted(&yaml))
}

/// Quotes values such as `22:00` and `no`. They are strings in YAML 1.2, but numbers of base 60 and booleans for the
/// many readers of YAML 1.1.
fn quoted(yaml: &str) -> String {
    let quote = |line: &str| match line.rsplit_once(' ') {
        Some((key, value)) if key.ends_with([':', '-']) && means_another_type(value) => format!("{key} '{value}'"),
        _ => line.to_owned(),
    };
    yaml.lines().map(|line| quote(line) + "\n").collect()
}

/// Whether YAML 1.1 reads a plain scalar, which YAML 1.2 reads as a string, as another type.
fn means_another_type(text: &str) -> bool {
    const WORDS: [&str; 6] = ["y", "n", "yes", "no", "on", "off"];
    let sixty = |part: &str| part.len() <= 2 && part.parse::<u8>().is_ok_and(|part| part < 60);
    let mut parts = text.split(':');
    let number = parts.next().is_some_and(|first| first.parse::<u32>().is_ok());
    let mut rest = parts.peekable();
    WORDS.contains(&text.to_ascii_lowercase().as_str()) || (number && rest.peek().is_some() && rest.all(sixty))
}

/// Writes bounds such as `5.0`, which the Kubernetes types store as floating-point numbers, as `5`.
fn whole(value: &mut serde_yaml::Value) {
    match value {
        serde_yaml::Value::Number(number) => {
            let plain = number.to_string().strip_suffix(".0").and_then(|digits| digits.parse::<i64>().ok());
            if let Some(plain) = plain {
                *number = plain.into();
            }
        }
        serde_yaml::Value::Sequence(items) => items.iter_mut().for_each(whole),
        serde_yaml::Value::Mapping(members) => members.values_mut().for_each(whole),
        _ => {}
    }
}

fn plain(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    match schema.format.as_deref() {
        Some("uint8" | "uint16" | "int8" | "int16") => schema.format = Some("int32".to_owned()),
        Some("uint32" | "uint64" | "uint") => schema.format = Some("int64".to_owned()),
        _ => {}
    }
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(plain);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        plain(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(each)) = &mut schema.additional_properties {
        plain(each);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::{env, fs};

    use super::*;

    /// First line of the generated file.
    const HEADER: &str = "# Generated from operator/api by `make generate`. Do not edit.\n";

    #[test]
    fn a_reader_of_yaml_1_1_sees_the_same_strings() {
        for (text, ambiguous) in [
            ("22:00", true),
            ("1:02:03", true),
            ("No", true),
            ("y", true),
            ("22:60", false),
            ("22", false),
            ("a:00", false),
            ("node", false),
        ] {
            assert_eq!(means_another_type(text), ambiguous, "{text}");
        }
        assert_eq!(quoted("- from: 22:00\n- no\ntext: at 22:00\n"), "- from: '22:00'\n- 'no'\ntext: at 22:00\n");
        let read: serde_yaml::Value = serde_yaml::from_str(&crd_yaml().unwrap()).unwrap();
        let mut definition = serde_yaml::to_value(crd()).unwrap();
        whole(&mut definition);
        assert_eq!(read, definition, "the quotes change nothing for a reader of YAML 1.2");
    }

    #[test]
    fn the_committed_definition_is_the_generated_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests/crd.yaml");
        let generated = format!("{HEADER}{}", crd_yaml().unwrap());
        if env::var_os("UPDATE_GENERATED").is_some() {
            fs::write(&path, &generated).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == generated, "manifests/crd.yaml is out of date: run `make generate` and commit the result");
    }
}
