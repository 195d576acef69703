//! The packages of the workspace, as cargo describes them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;

/// A member of the workspace.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its name in Cargo.toml.
    pub name: String,
    /// The folder of its Cargo.toml.
    pub folder: PathBuf,
    /// Library, programs and whatever else is compiled from it.
    pub targets: Vec<Target>,
    /// Names of its normal dependencies: neither those of tests nor those of build scripts.
    pub dependencies: BTreeSet<String>,
    /// The features it asks of its normal dependencies.
    pub requested_features: BTreeSet<String>,
    /// What cargo says, for checks that need more.
    pub metadata: Value,
}

/// A crate of a package.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// `lib`, `bin`, `test`, `example`, …
    pub kind: String,
    /// The file of its root module.
    pub root: PathBuf,
}

impl Package {
    /// The library and the programs: what is compiled into other packages and images.
    pub fn production_targets(&self) -> impl Iterator<Item = &Target> {
        self.targets.iter().filter(|target| target.kind == "lib" || target.kind == "bin")
    }

    /// Whether it exists for tests and measurements: it builds its dependencies with their feature `testing`.
    pub fn is_for_tests(&self) -> bool {
        self.requested_features.contains("testing")
    }

    /// Whether it has a feature of this name.
    pub fn has_feature(&self, name: &str) -> bool {
        self.metadata["features"].get(name).is_some()
    }
}

/// The workspace that this package is a member of, or the one that `DISPATCH_ARCHITECTURE_ROOT` names.
pub fn root() -> PathBuf {
    if let Some(root) = std::env::var_os("DISPATCH_ARCHITECTURE_ROOT") {
        return root.into();
    }
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).map(Path::to_owned).unwrap_or_default()
}

/// The members of the workspace in `root`.
///
/// # Errors
/// Cargo cannot be run or does not accept the workspace.
pub fn packages(root: &Path) -> anyhow::Result<Vec<Package>> {
    let output = cargo(root, &["metadata", "--format-version", "1", "--no-deps", "--offline"])?;
    let metadata: Value = serde_json::from_str(&output).context("cargo metadata prints JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists packages")?;
    packages.iter().map(package).collect()
}

/// Names of all packages that are compiled into a production build of a member, itself included.
///
/// # Errors
/// Cargo cannot be run, or there is no such member.
pub fn linked(root: &Path, member: &str) -> anyhow::Result<BTreeSet<String>> {
    let arguments = ["tree", "--offline", "--locked", "--edges", "normal", "--prefix", "none", "--package", member];
    let output = cargo(root, &arguments)?;
    Ok(output.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

fn cargo(root: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program).args(arguments).current_dir(root).output().context("cargo runs")?;
    if !output.status.success() {
        bail!("cargo {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout).context("cargo prints text")
}

fn package(metadata: &Value) -> anyhow::Result<Package> {
    let text = |value: &Value| value.as_str().map(str::to_owned).context("cargo metadata gives a text");
    let list = |name: &str| metadata[name].as_array().cloned().with_context(|| format!("cargo metadata lists {name}"));
    let manifest = PathBuf::from(text(&metadata["manifest_path"])?);
    let mut targets = Vec::new();
    for target in list("targets")? {
        let kind = text(&target["kind"][0])?;
        targets.push(Target { name: text(&target["name"])?, kind, root: text(&target["src_path"])?.into() });
    }
    let mut dependencies = BTreeSet::new();
    let mut requested_features = BTreeSet::new();
    for dependency in list("dependencies")?.iter().filter(|dependency| dependency["kind"].is_null()) {
        dependencies.insert(text(&dependency["name"])?);
        let features = dependency["features"].as_array().into_iter().flatten();
        requested_features.extend(features.filter_map(|feature| feature.as_str().map(str::to_owned)));
    }
    Ok(Package {
        name: text(&metadata["name"])?,
        folder: manifest.parent().map(Path::to_owned).unwrap_or_default(),
        targets,
        dependencies,
        requested_features,
        metadata: metadata.clone(),
    })
}
