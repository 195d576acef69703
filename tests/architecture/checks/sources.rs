//! What the sources say. Packages and modules are named, never paths.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use dispatch_architecture::imports::{File, Imports};
use dispatch_architecture::lexis::Lexis;
use dispatch_architecture::modules::{self, Crate, Module};
use dispatch_architecture::workspace::Package;
use dispatch_architecture::{circles, production, workspace};

/// The crates of a package that are built into programs.
fn crates(package: &str) -> Vec<Crate> {
    let packages = workspace::packages(&workspace::root()).expect("cargo describes the workspace");
    let package = packages.iter().find(|one| one.name == package).unwrap_or_else(|| panic!("there is no {package}"));
    let read = package.production_targets().map(|target| Crate::read(target, &modules::on_disk));
    read.collect::<Result<_, _>>().expect("the crate can be read")
}

/// The files of the module whose path ends with `name`, and of those inside of it. It must exist: an invariant about a
/// module that was renamed would hold for ever.
fn files_of(crates: &[Crate], name: &str) -> BTreeSet<PathBuf> {
    let wanted: Vec<&str> = name.split("::").collect();
    let mut files = BTreeSet::new();
    for one in crates {
        let is_wanted =
            |module: &&Module| module.path.iter().map(String::as_str).collect::<Vec<_>>().ends_with(&wanted);
        for module in one.modules.iter().filter(is_wanted) {
            let inside = one.modules.iter().filter(|other| other.path.starts_with(&module.path));
            files.extend(inside.map(|module| module.file.clone()));
        }
    }
    assert!(!files.is_empty(), "there is no module {name}");
    files
}

/// Lines of production code in `files` that have one of `needles`, comments aside.
fn lines_with(files: &BTreeSet<PathBuf>, needles: &[&str]) -> Vec<String> {
    let root = workspace::root();
    let mut found = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).expect("a source file");
        if !needles.iter().any(|needle| text.contains(needle)) {
            continue;
        }
        let production = production::of_file(&text).expect("Rust");
        let code = Lexis::new(&production).code(&production);
        let lines = code.lines().zip(1..).filter(|(line, _)| needles.iter().any(|needle| line.contains(needle)));
        let shown = file.strip_prefix(&root).unwrap_or(file).display();
        found.extend(lines.map(|(line, number)| format!("{shown}:{number}: {}", line.trim())));
    }
    found
}

/// Lines of a package that have one of `needles`, outside of the modules `allowed`.
fn offenders(package: &str, needles: &[&str], allowed: &[&str]) -> Vec<String> {
    let crates = crates(package);
    let mut files: BTreeSet<PathBuf> = crates.iter().flat_map(Crate::files).map(Path::to_owned).collect();
    for module in allowed {
        files = &files - &files_of(&crates, module);
    }
    lines_with(&files, needles)
}

const NONE: Vec<String> = Vec::new();

/// Invariant 1.
#[test]
fn core_touches_no_world() {
    let needles =
        ["std::fs", "std::net", "std::process", "std::thread", "Instant::now", "SystemTime", "async fn", "std::env"];
    assert_eq!(offenders("dispatch-core", &needles, &[]), NONE);
}

/// Invariant 3.
#[test]
fn the_planning_half_of_the_operator_holds_no_client() {
    let needles = ["aws_sdk_", "aws_config", "tokio::", "reqwest", "std::fs", "async fn"];
    let operator = crates("dispatch-operator");
    for module in ["plan", "status"] {
        assert_eq!(lines_with(&engine_files(&operator, module), &needles), NONE, "{module}");
    }
    assert_eq!(offenders("dispatch-api", &needles, &[]), NONE);
    assert_eq!(offenders("dispatch-operator", &["aws_sdk_"], &["aws"]), NONE);
}

/// The files of `engine::plan` and the like; a command of the same name is something else.
fn engine_files(operator: &[Crate], module: &str) -> BTreeSet<PathBuf> {
    files_of(operator, &format!("engine::{module}"))
}

/// Invariant 4.
#[test]
fn only_status_writes_conditions() {
    let operator = crates("dispatch-operator");
    let all: BTreeSet<PathBuf> = operator.iter().flat_map(Crate::files).map(Path::to_owned).collect();
    assert_eq!(lines_with(&(&all - &engine_files(&operator, "status")), &["Condition {"]), NONE);
}

/// Invariant 5.
#[test]
fn keys_are_spelled_in_one_module() {
    let table =
        ["\"DRIVER#", "\"USER#", "\"DISPATCH#", "\"REGION#", "\"ROUTE#", "\"COMPLETED#", "\"PROFILE\"", "\"METADATA\""];
    assert_eq!(offenders("dispatch-runtime", &table, &["store::keys"]), NONE);
    let redis = ["\"geo:", "\"drv:", "\"hold:", "\"seen:", "\"rest:", "\"acc:", "\"route:", "\"warm:", "\"events:"];
    assert_eq!(offenders("dispatch-runtime", &redis, &["fleet::keys"]), NONE);
}

/// Invariant 7. A module that no program uses is a fake or dead: it names nothing that production code names, and adds
/// nothing to types of other modules.
#[test]
fn modules_that_only_tests_use_need_the_feature_testing() {
    let packages = workspace::packages(&workspace::root()).expect("cargo describes the workspace");
    let programs = packages.iter().filter(|package| !package.is_for_tests());
    let with_feature: BTreeSet<String> = packages
        .iter()
        .filter(|package| package.has_feature("testing"))
        .flat_map(|package| package.production_targets().map(|target| target.name.replace('-', "_")))
        .collect();
    let targets = programs.flat_map(Package::production_targets);
    let crates: Vec<Crate> =
        targets.map(|target| Crate::read(target, &modules::on_disk).expect("the crate can be read")).collect();
    let imports = Imports::new(&crates);
    let mut open = Vec::new();
    let mut behind = 0;
    for (number, one) in crates.iter().enumerate().filter(|(_, one)| with_feature.contains(&one.name)) {
        for module in one.modules.iter().filter(|module| !module.path.is_empty()) {
            let name = module.path.last().expect("a name").as_str();
            let is_fake = ["testing", "fake", "fakes", "faults", "fate", "failing", "mock"].contains(&name);
            behind += usize::from(module.testing);
            let is_unused =
                !module.public_items.is_empty() && !module.extends_others && !is_used(&imports, one, number, module);
            if !module.testing && (is_fake || is_unused) {
                open.push(format!("{}::{}", one.name, module.path.join("::")));
            }
        }
    }
    assert!(behind > 0, "there are fakes");
    assert_eq!(open, NONE, "not behind the feature testing");
}

/// Whether production code outside of a module names something in it.
fn is_used(imports: &Imports, one: &Crate, number: usize, module: &Module) -> bool {
    let inside: BTreeSet<&Path> = one
        .modules
        .iter()
        .filter(|other| other.path.starts_with(&module.path))
        .map(|other| other.file.as_path())
        .collect();
    let is_inside = |file: &File| file.number == number && inside.contains(file.path.as_path());
    let outside = imports.edges.iter().filter(|(file, _)| !is_inside(file));
    outside
        .flat_map(|(_, targets)| targets)
        .any(|(target, lines)| is_inside(target) && lines.iter().any(|line| !line.testing))
}

#[test]
fn files_import_in_no_circle() {
    let root = workspace::root();
    let imports = Imports::new(&modules::read_all(&root).expect("the workspace can be read"));
    let found = circles::find(&imports);
    assert!(found.is_empty(), "{} circles\n{}", found.len(), circles::report(&found, &imports, &root));
    let files: BTreeMap<&Path, usize> =
        imports.edges.iter().map(|(file, edges)| (file.path.as_path(), edges.len())).collect();
    assert!(files.len() > 100 && files.values().sum::<usize>() > 500, "the files were read");
}
