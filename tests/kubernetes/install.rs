//! Everything that is shipped is accepted by an API server.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::stage::{HOME, Stage, city, kustomize, root};

fn documents(path: &str) -> anyhow::Result<Vec<Value>> {
    let text = std::fs::read_to_string(root().join(path)).with_context(|| path.to_owned())?;
    Ok(serde_yaml::Deserializer::from_str(&text).map(Value::deserialize).collect::<Result<_, _>>()?)
}

/// All objects that are shipped, with the file or folder they come from.
fn shipped() -> anyhow::Result<Vec<(String, Vec<Value>)>> {
    let mut all = Vec::new();
    for folder in ["manifests/overlays/cluster-wide", "manifests/overlays/namespaced", "examples/fleet"] {
        all.push((folder.to_owned(), kustomize(folder)?));
    }
    // manifests/monitoring holds a rule file for Prometheus, not a Kubernetes object.
    let mut files =
        vec!["manifests/crd.yaml".to_owned(), "manifests/components/admission-policy/policy.yaml".to_owned()];
    for entry in std::fs::read_dir(root().join("examples"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(format!("examples/{}", path.file_name().unwrap_or_default().display()));
        }
    }
    files.sort();
    for path in files {
        let objects = documents(&path)?;
        all.push((path, objects));
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_shipped_is_accepted_and_the_operator_runs_in_one_namespace() -> anyhow::Result<()> {
    let Some(stage) = Stage::set("namespaced").await? else { return Ok(()) };
    dry_run(&stage)?;
    one_namespace(&stage).await
}

fn dry_run(stage: &Stage) -> anyhow::Result<()> {
    let mut namespaces: BTreeSet<String> = ["default", HOME].map(str::to_owned).into();
    for (from, objects) in shipped()? {
        let objects: Vec<Value> = objects.into_iter().filter(|object| !object.is_null()).collect();
        for object in &objects {
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
            if namespaces.insert(namespace.to_owned()) {
                stage.namespace(namespace)?;
            }
        }
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        let path = stage.api.file("dry-run.json", &list.to_string())?;
        let output = stage.api.try_kubectl(&["apply", "--dry-run=server", "--validate=strict", "-f", &path])?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (accepted, complaints) = (text(&output.stdout), text(&output.stderr));
        ensure!(output.status.success() && complaints.is_empty(), "{from}: {complaints}");
        let count = accepted.lines().filter(|line| line.ends_with("(server dry run)")).count();
        assert_eq!(count, objects.len(), "{from}: {accepted}");
    }
    Ok(())
}

async fn one_namespace(stage: &Stage) -> anyhow::Result<()> {
    let home = format!("--watch-namespace={HOME}");
    let elsewhere = format!("--leader-elect-namespace={HOME}");
    let operator = stage.operator(&[&home, "--leader-elect", &elsewhere, "--resync-seconds=2"]).await?;
    stage.apply("default", &city("seoul", &json!({})))?;
    stage.apply(HOME, &city("seoul", &json!({})))?;
    stage.until_ready((HOME, "seoul")).await?;
    let other = stage.system("default", "seoul").await?.context("the object")?;
    assert_eq!(other["status"]["observedGeneration"], -1, "an object outside the watched namespace is not reconciled");
    stage.delete(HOME, "seoul")?;
    stage.until_gone((HOME, "seoul")).await?;
    let outside = operator.kubernetes.calls().into_iter().filter(|call| call.path.contains("/namespaces/default"));
    assert_eq!(outside.map(|call| call.to_string()).collect::<Vec<_>>(), [""; 0]);
    operator.was_never_denied()
}
