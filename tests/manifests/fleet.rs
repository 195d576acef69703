//! `examples/fleet`: ten cities from one base.

use std::collections::BTreeSet;
use std::process::Command;

use dispatch_api::manifest::read_manifests;
use dispatch_api::validate::ValidatedSystem;
use dispatch_operator::engine::plan::template;

use crate::objects::{has, output_of};

const CITIES: [&str; 10] =
    ["busan", "changwon", "daegu", "daejeon", "gwangju", "incheon", "jeju", "seoul", "suwon", "ulsan"];

#[test]
fn ten_cities_come_from_one_base() {
    if !has("kubectl", "ten_cities_come_from_one_base") {
        return;
    }
    let rendered = output_of(Command::new("kubectl").args(["kustomize", "examples/fleet"]));
    let mut names = BTreeSet::new();
    let mut schedules = BTreeSet::new();
    for raw in read_manifests(&rendered).expect("manifests") {
        let system = ValidatedSystem::try_from_raw(&raw).expect("a valid city");
        let spec = &system.spec;
        assert_eq!(
            (spec.region.as_str(), spec.timezone.as_str(), system.namespace.as_str()),
            ("ap-northeast-2", "Asia/Seoul", "korea")
        );
        assert_eq!(spec.city, system.name, "name and city are patched together");
        assert!(
            schedules.insert(spec.export.schedule.clone()),
            "{} exports at the same minute as another city",
            system.name
        );
        template::render(&system).to_request_body().expect("a template within CloudFormation's limit");
        names.insert(system.name.clone());
    }
    assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), CITIES);
}
