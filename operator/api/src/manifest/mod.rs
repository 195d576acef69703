//! Manifest files: from text to `DispatchSystem` objects.
//!
//! A file means the same as for `kubectl apply --validate=strict`: unknown fields are errors, and a number is not a
//! string. The result is not validated yet ([`crate::validate`]).

mod text;

use std::fmt;

use serde_json::{Map, Value};
use thiserror::Error;

use crate::dispatch_system::{DispatchSystem, GROUP, VERSION, namespace_of};
use crate::validate::{FieldError, Findings, ValidatedSystem, ValidationErrors, check_spec};

/// Maximum size of a manifest, in bytes. The API server accepts objects of up to 1.5 MiB; the manifest of a city has a
/// few KiB.
pub const MANIFEST_BYTES_MAX: usize = 1024 * 1024;

const KIND: &str = "DispatchSystem";

/// Where an object is in a manifest. Both numbers start at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Number of the document.
    pub document: usize,
    /// Number of the item, if the document is a list.
    pub item: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "document {}", self.document)?;
        self.item.map_or(Ok(()), |item| write!(f, ", item {item}"))
    }
}

/// Why a manifest cannot be read.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// The manifest exceeds [`MANIFEST_BYTES_MAX`].
    #[error("the manifest has {bytes} bytes; the limit is {MANIFEST_BYTES_MAX}")]
    TooLarge {
        /// Size of the manifest, in bytes.
        bytes: usize,
    },
    /// A document is not valid YAML.
    #[error("{place} is not valid YAML")]
    NotYaml {
        /// Where it is.
        place: Place,
        /// Line, column and cause.
        #[source]
        source: serde_yaml::Error,
    },
    /// A document is not a Kubernetes object.
    #[error("{place} is not a Kubernetes object: {why}")]
    NotAnObject {
        /// Where it is.
        place: Place,
        /// What it is instead.
        why: &'static str,
    },
    /// An object has another kind or version.
    #[error("{place} is {api_version} {kind}; only {GROUP}/{VERSION} {KIND} is supported")]
    OtherKind {
        /// Where it is.
        place: Place,
        /// The `apiVersion` of the object.
        api_version: String,
        /// The `kind` of the object.
        kind: String,
    },
    /// Fields are invalid; the text has one line per error.
    #[error("{place} is not a valid {KIND}:\n{errors}")]
    Fields {
        /// Where it is.
        place: Place,
        /// Namespace and name of the object, if it has a name.
        system: Option<String>,
        /// The errors.
        errors: ValidationErrors,
    },
    /// A field without a schema (metadata) has the wrong type.
    #[error("{place}: {path} cannot be read")]
    Field {
        /// Where it is.
        place: Place,
        /// Path of the field.
        path: String,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// Two objects are the same.
    #[error("{place} defines {namespace}/{name} a second time")]
    Duplicate {
        /// Where the second one is.
        place: Place,
        /// Namespace of both.
        namespace: String,
        /// Name of both.
        name: String,
    },
}

impl ManifestError {
    /// The error in lines, each of which stands alone: with the cause, and with the system that it is about.
    pub fn lines(&self) -> Vec<String> {
        if let Self::Fields { system, errors, place } = self {
            let of = system.clone().unwrap_or_else(|| place.to_string());
            return errors.0.iter().map(|error| format!("{of}: {error}")).collect();
        }
        let cause = std::error::Error::source(self).map(|cause| format!(": {cause}")).unwrap_or_default();
        vec![format!("{self}{cause}")]
    }
}

/// What a manifest contains.
#[derive(Debug, Default)]
pub struct Manifest {
    /// The objects that could be read.
    pub systems: Vec<DispatchSystem>,
    /// Why others could not.
    pub errors: Vec<ManifestError>,
}

/// Reads every `DispatchSystem` in one or more YAML or JSON documents, each an object or a list of objects. Empty
/// documents are skipped. Objects of other kinds are refused rather than ignored, so that a misspelled kind is
/// reported. A `status` is dropped: only the operator writes it, and a file may come from `kubectl get -o yaml`.
pub fn read_all(text: &str) -> Manifest {
    let mut manifest = Manifest::default();
    if text.len() > MANIFEST_BYTES_MAX {
        manifest.errors.push(ManifestError::TooLarge { bytes: text.len() });
        return manifest;
    }
    for (index, document) in text::documents(text).into_iter().enumerate() {
        let place = Place { document: index + 1, item: None };
        match document {
            Ok(value) => manifest.read_document(place, value),
            Err(source) => manifest.errors.push(ManifestError::NotYaml { place, source }),
        }
    }
    manifest
}

/// Reads a manifest that must have no errors; returns the first one otherwise.
pub fn read_manifests(text: &str) -> Result<Vec<DispatchSystem>, ManifestError> {
    let Manifest { systems, errors } = read_all(text);
    errors.into_iter().next().map_or(Ok(systems), Err)
}

impl Manifest {
    fn read_document(&mut self, place: Place, document: Value) {
        let object = match document {
            Value::Null => return,
            Value::Object(object) => object,
            _ => {
                let why = "it is a scalar or a list";
                return self.errors.push(ManifestError::NotAnObject { place, why });
            }
        };
        if !is_list(&object) {
            return self.read_one(place, object);
        }
        let Some(Value::Array(items)) = object.get("items") else {
            let why = "it is a List without items";
            return self.errors.push(ManifestError::NotAnObject { place, why });
        };
        for (index, item) in items.iter().enumerate() {
            let place = Place { item: Some(index + 1), ..place };
            if let Value::Object(object) = item {
                self.read_one(place, object.clone());
            } else {
                let why = "it is a scalar or a list";
                self.errors.push(ManifestError::NotAnObject { place, why });
            }
        }
    }

    fn read_one(&mut self, place: Place, object: Map<String, Value>) {
        let system = match read_object(place, object) {
            Ok(system) => system,
            Err(error) => return self.errors.push(error),
        };
        let key = |system: &DispatchSystem| (namespace_of(system).to_owned(), system.metadata.name.clone());
        if self.systems.iter().any(|other| key(other) == key(&system)) {
            let name = system.metadata.name.clone().unwrap_or_default();
            let namespace = namespace_of(&system).to_owned();
            return self.errors.push(ManifestError::Duplicate { place, namespace, name });
        }
        self.systems.push(system);
    }
}

/// Whether an object is a list, as `kubectl get -o yaml` prints it.
fn is_list(object: &Map<String, Value>) -> bool {
    let is = |api_version: &str, kind: &str| {
        object.get("apiVersion").is_some_and(|value| value == api_version)
            && object.get("kind").is_some_and(|value| value == kind)
    };
    is("v1", "List") || is(&format!("{GROUP}/{VERSION}"), &format!("{KIND}List"))
}

fn read_object(place: Place, mut object: Map<String, Value>) -> Result<DispatchSystem, ManifestError> {
    let word = |name: &str| match object.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => format!("(no {name})"),
    };
    let (api_version, kind) = (word("apiVersion"), word("kind"));
    if kind != KIND || api_version != format!("{GROUP}/{VERSION}") {
        return Err(ManifestError::OtherKind { place, api_version, kind });
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
    // If the types can hold the value, validation reports a violated bound together with all other errors. They also
    // hold some values of another type, such as an empty list in place of a group, which validation does not see.
    let repeated = |system: &DispatchSystem| {
        let errors = ValidatedSystem::try_from_raw(system).err().map(|errors| errors.0).unwrap_or_default();
        found.are_among(&errors)
    };
    match serde_path_to_error::deserialize(Value::Object(object.clone())) {
        Ok(system) if named && repeated(&system) => Ok(system),
        read => {
            found.finish().map_err(|mut errors| {
                errors.0.extend(errors_of_values(&object, &errors.0));
                ManifestError::Fields { place, system: system_of(&object), errors }
            })?;
            read.map_err(|error| ManifestError::Field {
                place,
                path: error.path().to_string(),
                source: error.into_inner(),
            })
        }
    }
}

/// Namespace and name of an object, as text.
fn system_of(object: &Map<String, Value>) -> Option<String> {
    let metadata = object.get("metadata")?;
    let namespace = metadata["namespace"].as_str().unwrap_or("default");
    metadata["name"].as_str().filter(|name| !name.is_empty()).map(|name| format!("{namespace}/{name}"))
}

/// Errors of the values of an object some of whose fields are refused, so that all errors are reported at once. The
/// refused fields are left out; errors about the same fields are not repeated.
fn errors_of_values(object: &Map<String, Value>, refused: &[FieldError]) -> Vec<FieldError> {
    let mut rest = Value::Object(object.clone());
    for error in refused {
        leave_out(&mut rest, &error.path);
    }
    // Required fields on which no other field depends.
    for (group, name, value) in
        [("metadata", "name", "unnamed"), ("spec", "city", "unnamed"), ("spec", "timezone", "UTC")]
    {
        if rest[group].is_object() && rest[group][name].is_null() {
            rest[group][name] = value.into();
        }
    }
    let Ok(system) = serde_json::from_value::<DispatchSystem>(rest) else { return Vec::new() };
    let errors = ValidatedSystem::try_from_raw(&system).err().map(|errors| errors.0).unwrap_or_default();
    let within = |path: &str, group: &str| {
        path.strip_prefix(group).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let is_new = |error: &FieldError| {
        !refused.iter().any(|other| within(&error.path, &other.path) || within(&other.path, &error.path))
    };
    errors.into_iter().filter(is_new).collect()
}

/// Removes the field at a path; of a list, the whole list.
fn leave_out(object: &mut Value, path: &str) {
    let path = path.split('[').next().unwrap_or_default();
    let (groups, name) = path.rsplit_once('.').unwrap_or(("", path));
    let mut at = object;
    for group in groups.split('.').filter(|group| !group.is_empty()) {
        let Some(member) = at.get_mut(group) else { return };
        at = member;
    }
    if let Some(members) = at.as_object_mut() {
        members.remove(name);
    }
}
