//! The operator's engine against an emulated AWS endpoint, and the controller's objects on a real API server. Without an
//! API server the latter tests fail, unless `DISPATCH_SKIP_ENVTEST=1` is set.

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

/// Where tests of the operator are. `tests/kubernetes` needs an API server; its sources are there without one.
const PLACES: [&str; 7] =
    ["operator", "manifests", "kubernetes", "architecture", "../operator/src", "../operator/tests", "../operator/api"];
/// Rows of the table: every behaviour has its number for good.
const ROWS: usize = 54;

#[test]
fn every_behaviour_is_listed_and_every_named_test_exists() -> anyhow::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    for place in PLACES.into_iter().map(|place| here.join(place)).filter(|place| place.is_dir()) {
        sources(&place, &mut text)?;
    }
    let readme = std::fs::read_to_string(here.join("operator/README.md"))?;
    let rows = readme.lines().filter_map(|line| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        Some((cells.next()?.parse::<usize>().ok()?, cells.next()?, cells.next()?))
    });
    let exists = |name: &str| text.contains(&format!("fn {name}("));
    let named = readme.split('`').skip(1).step_by(2).filter(|name| name.matches('_').count() > 2);
    let missing: Vec<&str> = named.filter(|name| !exists(name)).collect();
    assert_eq!(missing, [""; 0]);
    let mut numbers = Vec::new();
    for (number, behaviour, tests) in rows {
        numbers.push(number);
        assert!(!behaviour.is_empty(), "row {number} says nothing");
        let tests = tests.split(", ").map(|test| test.trim_matches('`'));
        let wrong: Vec<&str> = tests.filter(|test| *test != "see suite" && !exists(test)).collect();
        assert_eq!(wrong, [""; 0], "row {number}");
    }
    assert_eq!(numbers, (1..=ROWS).collect::<Vec<_>>());
    Ok(())
}
