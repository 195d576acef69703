//! Reads manifests and secrets from files.

use std::io::Read as _;
use std::path::Path;

use dispatch_api::manifest::read_manifests;
use dispatch_api::validate::ValidatedSystem;
use secrecy::SecretString;
use thiserror::Error;

use crate::commands::options::{Manifests, SecretFile};
use crate::engine::secrets::Secrets;

/// Limit of a secret, in bytes: Kubernetes limits a Secret to 1 MiB; a service account key has 2 KiB.
const SECRET_BYTES_MAX: usize = 1024 * 1024;

/// All errors of the input, one line each.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{}", .0.join("\n"))]
pub struct Refused(pub Vec<String>);

/// Reads and validates all manifests. Collects the errors of all files, so that no client is created for invalid input.
pub fn load_manifests(manifests: &Manifests) -> Result<Vec<ValidatedSystem>, Refused> {
    let mut systems: Vec<ValidatedSystem> = Vec::new();
    let mut wrong = Vec::new();
    for file in &manifests.files {
        match text_of(file).map_err(|error| vec![error]).and_then(|text| check(&text)) {
            Ok(found) if found.is_empty() => {
                wrong.push(format!("{}: contains no DispatchSystem", file.display()));
            }
            Ok(found) => systems.extend(found),
            Err(lines) => wrong.extend(lines.into_iter().map(|line| format!("{}: {line}", file.display()))),
        }
    }
    for (index, system) in systems.iter().enumerate() {
        if systems.iter().take(index).any(|other| other.names.stack == system.names.stack) {
            wrong.push(format!("{}/{} is defined twice", system.namespace, system.name));
        }
    }
    if wrong.is_empty() { Ok(systems) } else { Err(Refused(wrong)) }
}

fn check(text: &str) -> Result<Vec<ValidatedSystem>, Vec<String>> {
    let raw = read_manifests(text).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        // The heading of a list of errors adds nothing to its lines.
        let text = format!("{error}{cause}");
        let lines: Vec<String> = text.lines().filter(|line| !line.ends_with(':')).map(str::to_owned).collect();
        lines
    })?;
    let mut systems = Vec::new();
    let mut wrong = Vec::new();
    for system in &raw {
        match ValidatedSystem::try_from_raw(system) {
            Ok(system) => systems.push(system),
            Err(errors) => wrong.extend(errors.to_string().lines().map(str::to_owned)),
        }
    }
    if wrong.is_empty() { Ok(systems) } else { Err(wrong) }
}

fn text_of(file: &Path) -> Result<String, String> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(|error| error.to_string())?;
        return Ok(text);
    }
    std::fs::read_to_string(file).map_err(|error| error.to_string())
}

/// Reads the secrets, without a trailing line break that an editor added.
pub fn load_secrets(files: &[SecretFile]) -> Result<Secrets, Refused> {
    let mut secrets = Secrets::default();
    let mut wrong = Vec::new();
    for SecretFile { name, key, file } in files {
        match std::fs::read_to_string(file) {
            Ok(text) if text.len() > SECRET_BYTES_MAX => {
                wrong.push(format!("{}: the secret is larger than {SECRET_BYTES_MAX} bytes", file.display()));
            }
            Ok(text) => secrets.insert(name, key, SecretString::from(text.trim_end_matches(['\r', '\n']))),
            Err(error) => wrong.push(format!("{}: {error}", file.display())),
        }
    }
    if wrong.is_empty() { Ok(secrets) } else { Err(Refused(wrong)) }
}
