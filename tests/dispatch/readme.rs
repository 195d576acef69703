//! The list of behaviours is complete, and the tests that it names exist.

use std::path::{Path, PathBuf};

/// Folders with tests of the data plane.
const PLACES: [&str; 6] =
    ["dispatch", "adapters", "specification", "../runtime/src", "../runtime/core", "../runtime/simulator"];

/// A heading of the list and the tests below it. Behaviours with a number keep it.
struct Behaviour<'a> {
    number: Option<usize>,
    title: &'a str,
    tests: Vec<&'a str>,
}

fn sources(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
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
fn every_fault_is_in_the_readme_and_every_test_it_names_exists() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    for place in PLACES {
        sources(&here.join(place), &mut text);
    }
    let readme = std::fs::read_to_string(here.join("dispatch/README.md")).unwrap();
    let mut numbers = Vec::new();
    for Behaviour { number, title, tests } in behaviours(&readme) {
        numbers.extend(number);
        assert!(!title.is_empty(), "behaviour {number:?} has no title");
        assert!(!tests.is_empty(), "behaviour without a test: {title}");
        let missing: Vec<&str> = tests.into_iter().filter(|test| !text.contains(&format!("fn {test}("))).collect();
        assert_eq!(missing, [""; 0], "{title}");
    }
    assert_eq!(numbers, (1..=27).chain([33, 34]).collect::<Vec<_>>());
}
