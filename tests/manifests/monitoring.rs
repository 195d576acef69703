//! Rules and dashboard use only metrics that exist.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::Value;

use crate::objects::{documents, files, text};

/// Suffixes of a registered name in the exposition format: those of units and of metric types.
const SUFFIXES: [&str; 8] =
    ["", "_total", "_seconds", "_seconds_bucket", "_seconds_count", "_seconds_sum", "_bucket", "_count"];

/// Every name that the sources of both programs register, with all suffixes.
fn exposed() -> BTreeSet<String> {
    let constant = Regex::new(r#"const [A-Z_]+: &str =\s*"(dispatch_[a-z_]+)";"#).expect("a pattern");
    let mut names = BTreeSet::new();
    for file in files("runtime/src").into_iter().chain(files("operator/src")) {
        if file.extension().is_some_and(|extension| extension == "rs") && file.to_string_lossy().contains("metrics") {
            let source = std::fs::read_to_string(&file).expect("a source");
            for name in constant.captures_iter(&source) {
                names.extend(SUFFIXES.iter().map(|suffix| format!("{}{suffix}", &name[1])));
            }
        }
    }
    assert!(names.contains("dispatch_requests_total"), "the names of the metrics are constants in `metrics` modules");
    names
}

fn used(expressions: &[String]) -> BTreeSet<String> {
    let name = Regex::new(r"\bdispatch_[a-z_]+\b").expect("a pattern");
    expressions.iter().flat_map(|text| name.find_iter(text).map(|found| found.as_str().to_owned())).collect()
}

fn expressions_of_rules() -> Vec<String> {
    let rules = documents(&text("manifests/monitoring/rules.yaml")).remove(0);
    let groups = rules["groups"].as_array().expect("groups").clone();
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().expect("rules"));
    rules
        .map(|rule| {
            assert!(rule["annotations"]["summary"].is_string() && rule["labels"]["severity"].is_string(), "{rule}");
            rule["expr"].as_str().expect("an expression").to_owned()
        })
        .collect()
}

fn expressions_of_dashboard() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&text("manifests/monitoring/dashboard.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter().filter(|panel| panel["type"] != "row");
    let targets = panels.flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let mut found: Vec<String> =
        targets.map(|target| target["expr"].as_str().expect("an expression").to_owned()).collect();
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    found.extend(variables.iter().filter_map(|variable| variable["query"]["query"].as_str().map(str::to_owned)));
    found
}

#[test]
fn every_metric_in_use_exists() {
    let exposed = exposed();
    for (what, expressions) in [("rules.yaml", expressions_of_rules()), ("dashboard.json", expressions_of_dashboard())]
    {
        let used = used(&expressions);
        assert!(!used.is_empty(), "{what} uses no metric");
        let unknown: Vec<_> = used.difference(&exposed).collect();
        assert!(unknown.is_empty(), "{what} uses unknown metrics: {unknown:?}");
    }
}

#[test]
fn every_metric_of_the_operator_is_in_use() {
    let constant = Regex::new(r#"const [A-Z_]+: &str =\s*"(dispatch_operator_[a-z_]+)";"#).expect("a pattern");
    let source = text("operator/src/kubernetes/infra/metrics.rs");
    let expressions = [expressions_of_rules(), expressions_of_dashboard()].concat();
    let used = used(&expressions);
    let names: Vec<&str> =
        constant.captures_iter(&source).filter_map(|found| found.get(1)).map(|m| m.as_str()).collect();
    assert!(names.len() >= 16, "{names:?}");
    for name in names {
        assert!(used.iter().any(|used| used.starts_with(name)), "neither an alert nor a panel uses {name}");
    }
}

#[test]
fn panels_do_not_overlap() {
    let dashboard: Value = serde_json::from_str(&text("manifests/monitoring/dashboard.json")).expect("JSON");
    let mut taken = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let at = |side: &str| panel["gridPos"][side].as_u64().expect("a number");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(x < 24 && taken.insert((x, y)), "{} overlaps another panel", panel["title"]);
            }
        }
    }
}
