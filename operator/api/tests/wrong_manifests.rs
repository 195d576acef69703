//! Every invalid manifest gets one clear answer: the field, the value and what is allowed.

use std::error::Error;
use std::fs;
use std::path::Path;

use dispatch_api::manifest::{MANIFEST_BYTES_MAX, ManifestError, Place, read_all, read_manifests};
use dispatch_api::validate::ValidatedSystem;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const HEAD: &str = "apiVersion: dispatch.coactus.io/v1alpha1\nkind: DispatchSystem\nmetadata: {name: seoul}\n";

/// The errors of a manifest, as printed; `None` if it is valid.
fn answer(text: &str) -> Option<String> {
    let systems = match read_manifests(text) {
        Ok(systems) => systems,
        Err(error) => {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            return Some(format!("{error}{cause}"));
        }
    };
    let errors = systems.iter().filter_map(|system| ValidatedSystem::try_from_raw(system).err());
    errors.map(|errors| errors.to_string()).reduce(|all, more| format!("{all}\n{more}"))
}

#[test]
fn every_wrong_manifest_is_answered_clearly() -> Outcome {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/wrong");
    let mut seen = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str()).ok_or("a fixture without a name")?.to_owned();
        let answer = answer(&fs::read_to_string(&path)?).ok_or_else(|| format!("{name} is accepted"))?;
        assert!(!answer.contains("horse") && !answer.contains("itself"), "{name} repeats a secret: {answer}");
        insta::with_settings!({ omit_expression => true }, {
            insta::assert_snapshot!(name, answer);
        });
        seen += 1;
    }
    assert!(seen >= 12, "{seen} fixtures");
    Ok(())
}

#[test]
fn empty_documents_are_skipped_but_counted() -> Outcome {
    let spec = "spec: {city: seoul, region: ap-northeast-2, timezone: Asia/Seoul}\n";
    let systems = read_manifests(&format!("---\n# nothing here\n---\n{HEAD}{spec}---\n"))?;
    assert_eq!(systems.len(), 1);
    assert!(read_manifests("")?.is_empty());
    let twice = read_manifests(&format!("{HEAD}{spec}---\n{HEAD}{spec}"));
    assert!(
        matches!(twice, Err(ManifestError::Duplicate { place: Place { document: 2, item: None }, .. })),
        "{twice:?}"
    );
    Ok(())
}

#[test]
fn a_group_with_all_members_commented_out_has_the_defaults() -> Outcome {
    let spec = "spec:\n  city: seoul\n  region: ap-northeast-2\n  timezone: Asia/Seoul\n";
    let plain = read_manifests(&format!("{HEAD}{spec}"))?;
    let hollow = read_manifests(&format!("{HEAD}{spec}  queues:\n    # offers:\n  dispatch:\n    fare:\n"))?;
    assert_eq!(plain, hollow);
    Ok(())
}

#[test]
fn fields_that_kubectl_adds_are_ignored() -> Outcome {
    let spec =
        "spec: {city: seoul, region: ap-northeast-2, timezone: Asia/Seoul}\nstatus: {stackStatus: CREATE_COMPLETE}\n";
    let added = "metadata: {name: seoul, generation: 4, uid: u-1, selfLink: /x, managedFields: []}";
    let systems = read_manifests(&format!("{HEAD}{spec}").replace("metadata: {name: seoul}", added))?;
    assert!(systems[0].status.is_none());
    let system = ValidatedSystem::try_from_raw(&systems[0])?;
    assert_eq!((system.generation, system.uid.as_deref()), (4, Some("u-1")));
    Ok(())
}

#[test]
fn a_list_is_read_item_by_item() -> Outcome {
    let item = |name: &str, more: &str| {
        format!(
            "- apiVersion: dispatch.coactus.io/v1alpha1\n  kind: DispatchSystem\n  metadata: {{name: {name}}}\n  \
             spec: {{city: {name}, region: ap-northeast-2, timezone: Asia/Seoul{more}}}\n"
        )
    };
    let list = |items: &str| format!("apiVersion: v1\nkind: List\nmetadata: {{resourceVersion: ''}}\nitems:\n{items}");
    assert_eq!(read_manifests(&list(&(item("seoul", "") + &item("busan", ""))))?.len(), 2);
    assert!(read_manifests("apiVersion: v1\nkind: List\nitems: []\n")?.is_empty());
    let wrong = read_all(&list(&(item("seoul", ", x: 1") + &item("busan", "") + "- 5\n" + &item("jeju", ", y: 2"))));
    let lines: Vec<String> = wrong.errors.iter().flat_map(ManifestError::lines).collect();
    assert_eq!(wrong.systems.len(), 1);
    assert!(lines[0].starts_with("default/seoul: spec.x: unknown field"), "{lines:?}");
    assert_eq!(lines[1], "document 1, item 3 is not a Kubernetes object: it is a scalar or a list");
    assert!(lines[2].starts_with("default/jeju: spec.y: unknown field"), "{lines:?}");
    Ok(())
}

#[test]
fn errors_of_fields_and_of_values_come_in_one_round() {
    let spec = "spec: {city: Seoul!, region: moon, timezone: 5, suspnd: true, table: {gsi1Shards: many},
  dispatch: {maxAttempts: 99, eta: {provider: OSRM}}, queues: {offers: {retentionSeconds: 61}}}";
    let wrong = read_all(&format!("{HEAD}{spec}\n"));
    let lines: Vec<String> = wrong.errors.iter().flat_map(ManifestError::lines).collect();
    for path in [
        "spec.city",
        "spec.region",
        "spec.timezone",
        "spec.suspnd",
        "spec.dispatch.maxAttempts",
        "spec.dispatch.eta.url",
        "spec.table.gsi1Shards",
    ] {
        let about = lines.iter().filter(|line| line.starts_with(&format!("default/seoul: {path}: "))).count();
        assert_eq!(about, 1, "{path}: {lines:#?}");
    }
    assert!(lines.iter().any(|line| line.contains("a whole number from 1 to 64")), "{lines:#?}");
}

#[test]
fn the_size_of_a_manifest_is_limited() {
    let text = "#".repeat(MANIFEST_BYTES_MAX + 1);
    assert!(matches!(read_manifests(&text), Err(ManifestError::TooLarge { .. })));
}
