//! The operator's engine against a real (emulated) AWS endpoint, through the library that the command line and the controller
//! use; and what the controller publishes, against a real API server where there is one.

mod connection;
mod controller;
mod data;
mod drift;
mod lifecycle;
mod mocked;
mod ownership;
mod support;

use std::path::{Path, PathBuf};

fn sources(folder: &Path, text: &mut String) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path: PathBuf = entry?.path();
        if path.is_dir() {
            sources(&path, text)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&std::fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

#[test]
fn every_test_the_readme_names_exists() -> anyhow::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    for folder in ["operator", "kubernetes", "../operator"] {
        sources(&here.join(folder), &mut text)?;
    }
    let readme = std::fs::read_to_string(here.join("operator/README.md"))?;
    let named = readme.split('`').skip(1).step_by(2).filter(|name| name.matches('_').count() > 2);
    let missing: Vec<&str> = named.filter(|name| !text.contains(&format!("fn {name}("))).collect();
    assert_eq!(missing, [""; 0]);
    assert!(readme.lines().filter(|line| line.starts_with('|')).count() > 25);
    Ok(())
}
