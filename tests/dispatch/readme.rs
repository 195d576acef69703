//! The table of faults is whole, and the tests it names exist.

use std::path::{Path, PathBuf};

/// Where tests of the data plane are.
const PLACES: [&str; 6] =
    ["dispatch", "adapters", "specification", "../runtime/src", "../runtime/core", "../runtime/simulator"];

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

#[test]
fn every_fault_is_in_the_readme_and_every_test_it_names_exists() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    for place in PLACES {
        sources(&here.join(place), &mut text);
    }
    let readme = std::fs::read_to_string(here.join("dispatch/README.md")).unwrap();
    let mut numbers = Vec::new();
    for line in readme.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let Ok(number) = cells[0].parse::<usize>() else { continue };
        assert_eq!(cells.len(), 4, "row {number}");
        let missing: Vec<&str> = cells[3]
            .split(", ")
            .map(|test| test.trim_matches('`'))
            .filter(|test| !text.contains(&format!("fn {test}(")))
            .collect();
        assert_eq!(missing, [""; 0], "row {number}");
        numbers.push(number);
    }
    assert_eq!(numbers, (1..=27).chain([33, 34]).collect::<Vec<_>>());
}
