//! Manifest files: from YAML text to `DispatchSystem` objects.
//!
//! Reading is as strict as `kubectl apply --validate=strict`: unknown fields are errors, and a number is not a string.
//! The result is not validated yet ([`crate::validate`]).

use serde::Deserialize as _;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::dispatch_system::{DispatchSystem, GROUP, VERSION};
use crate::validate::{Findings, ValidationErrors, check_spec};

/// Maximum size of a manifest, in bytes. The API server accepts objects of up to 1.5 MiB; the manifest of a city has a
/// few KiB.
pub const MANIFEST_BYTES_MAX: usize = 1024 * 1024;

const KIND: &str = "DispatchSystem";

/// Why a manifest cannot be read. Documents are counted from 1.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// The manifest exceeds [`MANIFEST_BYTES_MAX`].
    #[error("the manifest has {bytes} bytes; the limit is {MANIFEST_BYTES_MAX}")]
    TooLarge {
        /// Size of the manifest, in bytes.
        bytes: usize,
    },
    /// A document is not valid YAML.
    #[error("document {document} is not valid YAML")]
    NotYaml {
        /// Number of the document.
        document: usize,
        /// Line, column and cause.
        #[source]
        source: serde_yaml::Error,
    },
    /// A document is not a Kubernetes object.
    #[error("document {document} is not a Kubernetes object: {why}")]
    NotAnObject {
        /// Number of the document.
        document: usize,
        /// What it is instead.
        why: String,
    },
    /// A document has another kind or version.
    #[error("document {document} is {api_version} {kind}; only {GROUP}/{VERSION} {KIND} is supported")]
    OtherKind {
        /// Number of the document.
        document: usize,
        /// The `apiVersion` of the document.
        api_version: String,
        /// The `kind` of the document.
        kind: String,
    },
    /// Fields are invalid; the text has one line per error.
    #[error("document {document} is not a valid {KIND}:\n{errors}")]
    Fields {
        /// Number of the document.
        document: usize,
        /// The errors.
        errors: ValidationErrors,
    },
    /// A field without a schema (metadata) has the wrong type.
    #[error("document {document}: {path} cannot be read")]
    Field {
        /// Number of the document.
        document: usize,
        /// Path of the field.
        path: String,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// Two documents define the same object.
    #[error("document {document} defines {namespace}/{name} a second time")]
    Duplicate {
        /// Number of the second document.
        document: usize,
        /// Namespace of both.
        namespace: String,
        /// Name of both.
        name: String,
    },
}

/// Reads every `DispatchSystem` in one or more YAML documents. Empty documents are skipped. Objects of other kinds are
/// refused rather than ignored, so that a misspelled kind is reported. A `status` is dropped: only the operator writes
/// it, and a file may come from `kubectl get -o yaml`.
pub fn read_manifests(text: &str) -> Result<Vec<DispatchSystem>, ManifestError> {
    if text.len() > MANIFEST_BYTES_MAX {
        return Err(ManifestError::TooLarge { bytes: text.len() });
    }
    let mut systems: Vec<DispatchSystem> = Vec::new();
    for (index, yaml) in serde_yaml::Deserializer::from_str(text).enumerate() {
        let document = index + 1;
        let yaml =
            serde_yaml::Value::deserialize(yaml).map_err(|source| ManifestError::NotYaml { document, source })?;
        let object = match to_json(yaml).map_err(|why| ManifestError::NotAnObject { document, why })? {
            Value::Null => continue,
            Value::Object(object) => object,
            _ => {
                let why = "it is a scalar or a list".to_owned();
                return Err(ManifestError::NotAnObject { document, why });
            }
        };
        let system = read_object(document, object)?;
        let key = |system: &DispatchSystem| (namespace_of(system).to_owned(), system.metadata.name.clone());
        if systems.iter().any(|other| key(other) == key(&system)) {
            let name = system.metadata.name.clone().unwrap_or_default();
            return Err(ManifestError::Duplicate { document, namespace: namespace_of(&system).to_owned(), name });
        }
        systems.push(system);
    }
    Ok(systems)
}

/// Namespace of an object; `default` if it has none, as in `kubectl` without a context.
pub fn namespace_of(system: &DispatchSystem) -> &str {
    system.metadata.namespace.as_deref().unwrap_or("default")
}

fn read_object(document: usize, mut object: Map<String, Value>) -> Result<DispatchSystem, ManifestError> {
    let word = |name: &str| match object.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => format!("(no {name})"),
    };
    let (api_version, kind) = (word("apiVersion"), word("kind"));
    if kind != KIND || api_version != format!("{GROUP}/{VERSION}") {
        return Err(ManifestError::OtherKind { document, api_version, kind });
    }
    object.remove("status");
    let mut found = Findings::default();
    for name in object.keys().filter(|name| !["apiVersion", "kind", "metadata", "spec"].contains(&name.as_str())) {
        found.say(name, "unknown field; allowed fields are apiVersion, kind, metadata, spec");
    }
    match object.get("metadata").map(|metadata| &metadata["name"]) {
        Some(Value::String(name)) if !name.is_empty() => {}
        _ => found.say("metadata.name", "is required: a string"),
    }
    let named = found.is_empty();
    match object.get_mut("spec") {
        Some(spec) => check_spec(spec, &mut found),
        None => found.say("spec", "is required: an object"),
    }
    match serde_path_to_error::deserialize(Value::Object(object)) {
        // If the types can hold the value, validation reports a violated bound together with all other errors.
        Ok(system) if named => Ok(system),
        read => {
            found.finish().map_err(|errors| ManifestError::Fields { document, errors })?;
            read.map_err(|error| ManifestError::Field {
                document,
                path: error.path().to_string(),
                source: error.into_inner(),
            })
        }
    }
}

/// Converts YAML to JSON as `kubectl` does: keys become strings. Values that JSON cannot represent are refused.
fn to_json(yaml: serde_yaml::Value) -> Result<Value, String> {
    Ok(match yaml {
        serde_yaml::Value::Null => Value::Null,
        serde_yaml::Value::Bool(flag) => Value::Bool(flag),
        serde_yaml::Value::String(text) => Value::String(text),
        serde_yaml::Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), _, _) => number.into(),
            (_, Some(number), _) => number.into(),
            (_, _, Some(number)) if number.is_finite() => number.into(),
            _ => return Err(format!("{number} is not a JSON number")),
        },
        serde_yaml::Value::Sequence(items) => Value::Array(items.into_iter().map(to_json).collect::<Result<_, _>>()?),
        serde_yaml::Value::Mapping(members) => {
            let mut object = Map::new();
            for (key, member) in members {
                let key = match key {
                    serde_yaml::Value::String(key) => key,
                    serde_yaml::Value::Bool(key) => key.to_string(),
                    serde_yaml::Value::Number(key) => key.to_string(),
                    _ => return Err("a key is not a string".to_owned()),
                };
                object.insert(key, to_json(member)?);
            }
            Value::Object(object)
        }
        serde_yaml::Value::Tagged(tagged) => return Err(format!("the tag {} is not supported", tagged.tag)),
    })
}
