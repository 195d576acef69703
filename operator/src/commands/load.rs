//! Reads manifests and secrets from files.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use dispatch_api::manifest::{Manifest, ManifestError, read_all};
use dispatch_api::validate::ValidatedSystem;
use secrecy::SecretString;
use thiserror::Error;

use crate::commands::options::{Manifests, SecretFile};
use crate::engine::secrets::Secrets;
use crate::sanitize::printable;

/// Limit of a secret, in bytes: Kubernetes limits a Secret to 1 MiB; a service account key has 2 KiB.
const SECRET_BYTES_MAX: usize = 1024 * 1024;
/// Extensions of the files that are read from a folder, those of `kubectl`.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// All errors of the input, one line each.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{}", .0.join("\n"))]
pub struct Refused(pub Vec<String>);

/// Reads and validates all manifests. Collects the errors of all files, so that no client is created for invalid input.
pub fn load_manifests(manifests: &Manifests) -> Result<Vec<ValidatedSystem>, Refused> {
    let mut systems: Vec<ValidatedSystem> = Vec::new();
    let mut wrong = Vec::new();
    for given in &manifests.files {
        match files_of(given) {
            Ok(files) => files.iter().for_each(|file| read_file(file, &mut systems, &mut wrong)),
            Err(why) => wrong.push(line(given, &why)),
        }
    }
    for (index, system) in systems.iter().enumerate() {
        // No two systems have one name of a stack.
        if systems.iter().take(index).any(|other| other.names.stack == system.names.stack) {
            wrong.push(format!("{}/{} is defined twice", system.namespace, system.name));
        }
    }
    if wrong.is_empty() { Ok(systems) } else { Err(Refused(wrong)) }
}

fn line(file: &Path, text: &str) -> String {
    printable(&format!("{}: {text}", file.display()))
}

/// The files of an argument: itself or, if it is a folder, the manifests in it, in the order of their names.
fn files_of(given: &Path) -> Result<Vec<PathBuf>, String> {
    if ["http://", "https://"].iter().any(|scheme| given.to_string_lossy().starts_with(scheme)) {
        return Err(
            "addresses are not read; download the file first, or read it from standard input with `-f -`".to_owned()
        );
    }
    if !given.is_dir() {
        return Ok(vec![given.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(given).map_err(|error| error.to_string())? {
        let path = entry.map_err(|error| error.to_string())?.path();
        let known = path.extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known));
        if known && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() { Err("the folder contains no file *.yaml, *.yml or *.json".to_owned()) } else { Ok(files) }
}

fn read_file(file: &Path, systems: &mut Vec<ValidatedSystem>, wrong: &mut Vec<String>) {
    let text = match text_of(file) {
        Ok(text) => text,
        Err(why) => return wrong.push(line(file, &why)),
    };
    let Manifest { systems: raw, errors } = read_all(&text);
    if raw.is_empty() && errors.is_empty() {
        wrong.push(line(file, "contains no DispatchSystem"));
    }
    wrong.extend(errors.iter().flat_map(ManifestError::lines).map(|error| line(file, &error)));
    for system in &raw {
        match ValidatedSystem::try_from_raw(system) {
            Ok(system) => systems.push(system),
            Err(errors) => {
                let namespace = dispatch_api::dispatch_system::namespace_of(system);
                let name = system.metadata.name.as_deref().unwrap_or_default();
                wrong.extend(errors.0.iter().map(|error| line(file, &format!("{namespace}/{name}: {error}"))));
            }
        }
    }
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
                wrong.push(line(file, &format!("the secret is larger than {SECRET_BYTES_MAX} bytes")));
            }
            Ok(text) => secrets.insert(name, key, SecretString::from(text.trim_end_matches(['\r', '\n']))),
            Err(error) => wrong.push(line(file, &error.to_string())),
        }
    }
    if wrong.is_empty() { Ok(secrets) } else { Err(Refused(wrong)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSAN: &str = include_str!("../../../examples/minimal.yaml");

    fn load(files: &[&Path]) -> Result<Vec<String>, Vec<String>> {
        let files = files.iter().map(|file| (*file).to_owned()).collect();
        let systems = load_manifests(&Manifests { files }).map_err(|Refused(lines)| lines)?;
        Ok(systems.into_iter().map(|system| system.name).collect())
    }

    #[test]
    fn a_folder_is_read_file_by_file_and_all_errors_name_their_file_and_system() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        assert!(
            load(&[folder.path()]).unwrap_err()[0].ends_with("the folder contains no file *.yaml, *.yml or *.json")
        );
        let json: serde_json::Value = serde_yaml::from_str(&BUSAN.replace("busan", "jeju")).unwrap();
        write("b.json", &json.to_string());
        write("a.yml", BUSAN);
        write("notes.txt", "not a manifest");
        assert_eq!(load(&[folder.path()]).unwrap(), ["busan", "jeju"]);

        let twice = write("c.yaml", BUSAN);
        let wrong = write("d\u{1b}.yaml", &BUSAN.replace("Asia/Seoul", "Asia/Soul").replace("busan", "ulsan"));
        let missing = folder.path().join("e.yaml");
        let lines = load(&[folder.path(), &missing, Path::new("https://example.com/a.yaml")]).unwrap_err();
        assert!(
            lines[0].contains("d\\u{1b}.yaml: default/ulsan: spec.timezone: Asia/Soul is not allowed"),
            "{lines:#?}"
        );
        assert!(lines[1].contains("e.yaml: No such file or directory"), "{lines:#?}");
        assert!(lines[2].starts_with("https://example.com/a.yaml: addresses are not read"), "{lines:#?}");
        assert_eq!(lines[3], "default/busan is defined twice");
        assert_eq!(lines.len(), 4);
        std::fs::remove_file(wrong).unwrap();
        std::fs::remove_file(twice).unwrap();
        let joined = |namespace: &str, name: &str| {
            BUSAN.replace("name: busan", &format!("name: {name}\n  namespace: {namespace}"))
        };
        write("f.yaml", &format!("{}\n---\n{}", joined("a", "b-gw"), joined("a-b", "gw")));
        // Two systems whose names are equal when they are joined have stacks of their own.
        assert_eq!(load(&[&folder.path().join("f.yaml")]).unwrap(), ["b-gw", "gw"]);
    }
}
