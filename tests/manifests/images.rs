//! Each image has the same name everywhere.

use dispatch_operator::engine::images::{OPERATOR, RUNTIME};
use regex::Regex;

use crate::objects::{documents, files, text};

#[test]
fn every_manifest_uses_the_image_names_of_the_operator() {
    let base = documents(&text("manifests/base/kustomization.yaml")).remove(0);
    let image = &base["images"][0];
    let word = |field: &str| image[field].as_str().expect("a text").to_owned();
    assert_eq!(format!("{}:{}", word("newName"), word("newTag")), OPERATOR);
    let chart = documents(&text("manifests/chart/Chart.yaml")).remove(0);
    let values = documents(&text("manifests/chart/values.yaml")).remove(0);
    let (repository, version) = (&values["image"]["repository"], &chart["appVersion"]);
    assert_eq!(format!("{}:{}", repository.as_str().expect("a name"), version.as_str().expect("a version")), OPERATOR);

    let named =
        Regex::new(r"[a-z0-9.:-]+(?:/[a-z0-9-]+)*/dispatch-(?:operator|runtime):[0-9][a-z0-9.-]*").expect("a pattern");
    let mut found = 0;
    for file in files("examples").into_iter().chain(files("manifests")) {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        for name in named.find_iter(&text) {
            found += 1;
            assert!([OPERATOR, RUNTIME].contains(&name.as_str()), "{}: {}", file.display(), name.as_str());
        }
    }
    assert!(found >= 4, "{found}");
}
