//! The operator's engine against an emulated AWS endpoint, and the controller's objects on a real API server. Without
//! an API server the latter tests fail, unless `DISPATCH_SKIP_ENVTEST=1` is set.

mod adapters;
mod children;
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

/// Folders with tests of the operator.
const PLACES: [&str; 7] =
    ["operator", "manifests", "kubernetes", "architecture", "../operator/src", "../operator/tests", "../operator/api"];
/// Numbered behaviours of the README. A behaviour keeps its number.
const BEHAVIOURS: usize = 54;

/// A heading `### 12. Title` or `### Title` of the README, with the tests listed below it as "- `name`".
struct Behaviour<'a> {
    number: Option<usize>,
    title: &'a str,
    tests: Vec<&'a str>,
}

fn behaviours(readme: &str) -> Vec<Behaviour<'_>> {
    let mut all: Vec<Behaviour<'_>> = Vec::new();
    for line in readme.lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            let (number, title) = match heading.split_once(". ") {
                Some((number, title)) => (number.parse::<usize>().ok(), title),
                None => (None, heading),
            };
            all.push(Behaviour { number, title, tests: Vec::new() });
        } else if let (Some(test), Some(behaviour)) = (line.strip_prefix("- `"), all.last_mut()) {
            behaviour.tests.push(test.trim_end_matches('`'));
        }
    }
    all
}

#[test]
fn every_behaviour_is_listed_and_every_named_test_exists() -> anyhow::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    for place in PLACES.into_iter().map(|place| here.join(place)).filter(|place| place.is_dir()) {
        sources(&place, &mut text)?;
    }
    let readme = std::fs::read_to_string(here.join("operator/README.md"))?;
    let exists = |name: &str| text.contains(&format!("fn {name}("));
    let named = readme.split('`').skip(1).step_by(2).filter(|name| name.matches('_').count() > 2);
    let missing: Vec<&str> = named.filter(|name| !exists(name)).collect();
    assert_eq!(missing, [""; 0]);
    let mut numbers = Vec::new();
    for Behaviour { number, title, tests } in behaviours(&readme) {
        numbers.extend(number);
        assert!(!title.is_empty(), "behaviour {number:?} has no title");
        assert!(!tests.is_empty(), "behaviour without a test: {title}");
        let wrong: Vec<&str> = tests.into_iter().filter(|test| !exists(test)).collect();
        assert_eq!(wrong, [""; 0], "{title}");
    }
    assert_eq!(numbers, (1..=BEHAVIOURS).collect::<Vec<_>>());
    Ok(())
}
