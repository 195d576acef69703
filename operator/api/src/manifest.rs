//! Manifest files: YAML text in, `DispatchSystem` objects out.
//!
//! Reading is as strict as `kubectl apply --validate=strict`: an unknown field is an error, a number is not a text.
//! What has been read is still to be validated ([`crate::validate`]).

use serde::Deserialize as _;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::dispatch_system::{DispatchSystem, GROUP, VERSION};
use crate::validate::{Findings, ValidationErrors, check_spec};

/// Largest manifest read. The API server takes objects of 1.5 MiB; a city's manifest has a few KiB.
pub const MANIFEST_BYTES_MAX: usize = 1024 * 1024;

const KIND: &str = "DispatchSystem";

/// Why a manifest cannot be read. Documents are counted from 1, as people count them.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// The text is too long.
    #[error("the manifest has {bytes} bytes, allowed are {MANIFEST_BYTES_MAX}")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// A document is not YAML.
    #[error("document {document} is not YAML")]
    NotYaml {
        /// Number of the document.
        document: usize,
        /// Line, column and cause.
        #[source]
        source: serde_yaml::Error,
    },
    /// A document is something else than an object of Kubernetes.
    #[error("document {document} is not a Kubernetes object: {why}")]
    NotAnObject {
        /// Number of the document.
        document: usize,
        /// What it is.
        why: String,
    },
    /// A document is of another kind.
    #[error("document {document} is {api_version} {kind}, allowed is {GROUP}/{VERSION} {KIND}")]
    OtherKind {
        /// Number of the document.
        document: usize,
        /// Its `apiVersion`.
        api_version: String,
        /// Its `kind`.
        kind: String,
    },
    /// Fields are wrong; one line for each.
    #[error("document {document} is not a valid {KIND}:\n{errors}")]
    Fields {
        /// Number of the document.
        document: usize,
        /// What is wrong.
        errors: ValidationErrors,
    },
    /// A field that the schema leaves open (metadata) has a wrong type.
    #[error("document {document}: {path} cannot be read")]
    Field {
        /// Number of the document.
        document: usize,
        /// Path of the field.
        path: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// Two documents mean the same object.
    #[error("document {document} is a second {namespace}/{name}")]
    Duplicate {
        /// Number of the second document.
        document: usize,
        /// Namespace of both.
        namespace: String,
        /// Name of both.
        name: String,
    },
}

/// Reads every `DispatchSystem` of a text of one or more YAML documents. Empty documents are skipped; objects of other
/// kinds are refused rather than ignored, so that a misspelt kind does not pass for success. A `status` is dropped: it
/// is the operator's word, and a file may come from `kubectl get -o yaml`.
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
                let why = "it is a single value or a list".to_owned();
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

/// Namespace of an object; `default` where it names none, as for `kubectl` without a context.
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
        found.say(name, "no such field; allowed are apiVersion, kind, metadata, spec");
    }
    match object.get("metadata").map(|metadata| &metadata["name"]) {
        Some(Value::String(name)) if !name.is_empty() => {}
        _ => found.say("metadata.name", "is required: a text"),
    }
    let named = found.is_empty();
    match object.get_mut("spec") {
        Some(spec) => check_spec(spec, &mut found),
        None => found.say("spec", "is required: an object"),
    }
    match serde_path_to_error::deserialize(Value::Object(object)) {
        // A broken bound that the types can hold is left to validation, which reports it together with everything else.
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

/// YAML as JSON, as `kubectl` converts it: keys become text. What JSON cannot say is refused.
fn to_json(yaml: serde_yaml::Value) -> Result<Value, String> {
    Ok(match yaml {
        serde_yaml::Value::Null => Value::Null,
        serde_yaml::Value::Bool(flag) => Value::Bool(flag),
        serde_yaml::Value::String(text) => Value::String(text),
        serde_yaml::Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), _, _) => number.into(),
            (_, Some(number), _) => number.into(),
            (_, _, Some(number)) if number.is_finite() => number.into(),
            _ => return Err(format!("{number} is not a number of JSON")),
        },
        serde_yaml::Value::Sequence(items) => Value::Array(items.into_iter().map(to_json).collect::<Result<_, _>>()?),
        serde_yaml::Value::Mapping(members) => {
            let mut object = Map::new();
            for (key, member) in members {
                let key = match key {
                    serde_yaml::Value::String(key) => key,
                    serde_yaml::Value::Bool(key) => key.to_string(),
                    serde_yaml::Value::Number(key) => key.to_string(),
                    _ => return Err("a key is not a text".to_owned()),
                };
                object.insert(key, to_json(member)?);
            }
            Value::Object(object)
        }
        serde_yaml::Value::Tagged(tagged) => return Err(format!("the tag {} is not supported", tagged.tag)),
    })
}
