//! Test environment: a control plane of Kubernetes with the shipped permissions, fake kubelets, an emulated AWS, and
//! recorders in front of the API server and of AWS.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use dispatch_api::dispatch_system::DispatchSystem;
use dispatch_operator::cloud::aws::AwsClients;
use dispatch_tests::apiserver::ApiServer;
use dispatch_tests::deployments::client;
use dispatch_tests::kubelets::Kubelets;
use dispatch_tests::ministack::{Ministack, REGION};
use dispatch_tests::operator::{OperatorProcess, Setup};
use dispatch_tests::recorder::Recorder;
use kube::api::DynamicObject;
use kube::core::ApiResource;
use kube::{Api, Client};
use serde_json::Value;

/// Timeout of what takes a few seconds on an idle machine.
pub(crate) const SOON: Duration = Duration::from_secs(40);
/// Polling interval.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The operator's own namespace.
pub(crate) const HOME: &str = "coactus-system";

/// The environment without the operator.
pub(crate) struct Stage {
    pub api: ApiServer,
    pub client: Client,
    pub kubelets: Kubelets,
    ministack: Ministack,
}

/// One replica of the operator with the recorders in front of it.
pub(crate) struct Replica {
    pub process: OperatorProcess,
    pub aws: Recorder,
    pub kubernetes: Recorder,
    name: String,
    kubeconfig: PathBuf,
    args: Vec<String>,
    folder: PathBuf,
}

pub(crate) fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A file of the repository, for `kubectl -f`.
pub(crate) fn file(path: &str) -> String {
    root().join(path).display().to_string()
}

impl Stage {
    /// Starts the servers and installs the definition and one of the overlays, as `manifests/README.md` says. `None`
    /// where the tests that need an API server are skipped on request.
    pub(crate) async fn set(overlay: &str) -> anyhow::Result<Option<Self>> {
        Self::set_with(overlay, ApiServer::install_crd).await
    }

    /// As [`Self::set`], with another way to install the definition.
    pub(crate) async fn set_with(
        overlay: &str,
        install: impl FnOnce(&ApiServer) -> anyhow::Result<()>,
    ) -> anyhow::Result<Option<Self>> {
        let (api, ministack) = tokio::try_join!(ApiServer::start(), Ministack::start())?;
        let Some(mut api) = api else { return Ok(None) };
        install(&api)?;
        api.start_controllers().await?;
        api.kubectl(&["create", "namespace", HOME])?;
        let objects = kustomize(&format!("manifests/overlays/{overlay}"))?;
        let list = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        api.kubectl(&["apply", "-f", &api.file("install.json", &list.to_string())?])?;
        let admin = api.kubeconfig();
        let (client, kubelets) = (client(&admin).await?, Kubelets::start(&admin).await?);
        Ok(Some(Self { api, client, kubelets, ministack }))
    }

    /// AWS clients, for changes made outside the operator.
    pub(crate) async fn aws(&self) -> AwsClients {
        AwsClients::emulated(REGION, &self.ministack.endpoint()).await
    }

    /// Starts an operator with a single replica.
    pub(crate) async fn operator(&self, args: &[&str]) -> anyhow::Result<Replica> {
        self.replica("operator", args).await
    }

    /// Starts one replica.
    pub(crate) async fn replica(&self, name: &str, args: &[&str]) -> anyhow::Result<Replica> {
        let aws = Recorder::aws(&self.ministack.endpoint()).await?;
        let kubernetes = Recorder::kubernetes(&self.api.url()).await?;
        let kubeconfig = self.api.operator_kubeconfig(name, &kubernetes.endpoint())?;
        let (endpoint, folder) = (aws.endpoint(), self.api.folder().to_owned());
        let setup = Setup { name, kubeconfig: &kubeconfig, aws: &endpoint, folder: &folder, args };
        let process = OperatorProcess::start(&setup).await?;
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Ok(Replica { process, aws, kubernetes, name: name.to_owned(), kubeconfig, args, folder })
    }

    /// Creates a namespace.
    pub(crate) fn namespace(&self, name: &str) -> anyhow::Result<()> {
        self.api.kubectl(&["create", "namespace", name])?;
        Ok(())
    }

    /// Applies a manifest, as `kubectl apply -f -` does.
    pub(crate) fn apply(&self, namespace: &str, text: &str) -> anyhow::Result<String> {
        let name = format!("apply-{namespace}.yaml");
        self.api.kubectl(&["apply", "-n", namespace, "-f", &self.api.file(&name, text)?])
    }

    /// Changes an object as `kubectl patch` does.
    pub(crate) fn patch(&self, namespace: &str, name: &str, patch: &Value) -> anyhow::Result<()> {
        self.api.kubectl(&["patch", "-n", namespace, "dsys", name, "--type=merge", "-p", &patch.to_string()])?;
        Ok(())
    }

    /// Deletes an object without waiting until it is gone.
    pub(crate) fn delete(&self, namespace: &str, name: &str) -> anyhow::Result<()> {
        self.api.kubectl(&["delete", "-n", namespace, "dsys", name, "--wait=false"])?;
        Ok(())
    }

    /// Reads an object.
    pub(crate) async fn system(&self, namespace: &str, name: &str) -> anyhow::Result<Option<Value>> {
        let resource = ApiResource::erase::<DispatchSystem>(&());
        let systems: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
        Ok(systems.get_opt(name).await?.map(serde_json::to_value).transpose()?)
    }

    /// Waits until an object satisfies a predicate, and returns it.
    pub(crate) async fn until(
        &self,
        at: (&str, &str),
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let deadline = Instant::now() + SOON;
        loop {
            let found = self.system(at.0, at.1).await?;
            if let Some(found) = found.as_ref().filter(|found| wanted(found)) {
                return Ok(found.clone());
            }
            if Instant::now() >= deadline {
                let status = found.map(|found| found["status"].clone());
                bail!("{at:?} was not {what} within {SOON:?}: {status:#?}");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until an object is ready for its current spec.
    pub(crate) async fn until_ready(&self, at: (&str, &str)) -> anyhow::Result<Value> {
        self.until(at, "ready", is_ready).await
    }

    /// Waits until an object is gone.
    pub(crate) async fn until_gone(&self, at: (&str, &str)) -> anyhow::Result<()> {
        let deadline = Instant::now() + SOON;
        while let Some(found) = self.system(at.0, at.1).await? {
            ensure!(Instant::now() < deadline, "{at:?} was not gone within {SOON:?}: {:#?}", found["status"]);
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// The events about an object.
    pub(crate) fn events(&self, namespace: &str, name: &str) -> anyhow::Result<Vec<Value>> {
        let text = self.api.kubectl(&["get", "events.v1.events.k8s.io", "-n", namespace, "-o", "json"])?;
        let all: Value = serde_json::from_str(&text)?;
        let items = all["items"].as_array().context("a list")?;
        Ok(items.iter().filter(|event| event["regarding"]["name"] == name).cloned().collect())
    }

    /// Waits until an event with this reason is published about an object, and returns it.
    pub(crate) async fn until_event(&self, at: (&str, &str), reason: &str) -> anyhow::Result<Value> {
        let deadline = Instant::now() + SOON;
        loop {
            let events = self.events(at.0, at.1)?;
            if let Some(found) = events.iter().find(|event| event["reason"] == reason) {
                return Ok(found.clone());
            }
            let published: Vec<&Value> = events.iter().map(|event| &event["reason"]).collect();
            ensure!(Instant::now() < deadline, "no event {reason} about {at:?}, only {published:?}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Replica {
    /// Restarts the process after its end, with the same recorders.
    pub(crate) async fn start_again(&mut self) -> anyhow::Result<()> {
        let endpoint = self.aws.endpoint();
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        let (kubeconfig, folder) = (&self.kubeconfig, &self.folder);
        let setup = Setup { name: &self.name, kubeconfig, aws: &endpoint, folder, args: &args };
        self.process = OperatorProcess::start(&setup).await?;
        Ok(())
    }

    /// Fails if a request was denied for a missing permission.
    pub(crate) fn was_never_denied(&self) -> anyhow::Result<()> {
        let calls = self.kubernetes.calls();
        let denied: Vec<String> =
            calls.iter().filter(|call| matches!(call.status, Some(401 | 403))).map(ToString::to_string).collect();
        ensure!(denied.is_empty(), "the shipped roles lack permissions: {denied:#?}");
        ensure!(calls.len() > 5, "the recorder saw {} calls", calls.len());
        Ok(())
    }
}

/// The objects that kustomize renders from a folder.
pub(crate) fn kustomize(folder: &str) -> anyhow::Result<Vec<Value>> {
    use serde::Deserialize as _;
    let output = Command::new("kubectl").args(["kustomize", folder]).current_dir(root()).output()?;
    ensure!(output.status.success(), "kubectl kustomize {folder}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    Ok(serde_yaml::Deserializer::from_str(&text).map(Value::deserialize).collect::<Result<_, _>>()?)
}

/// A condition of an object.
pub(crate) fn condition<'a>(system: &'a Value, kind: &str) -> Option<&'a Value> {
    system["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// Whether a condition is true.
pub(crate) fn is_true(system: &Value, kind: &str) -> bool {
    condition(system, kind).is_some_and(|condition| condition["status"] == "True")
}

/// Whether it is ready for its current spec.
pub(crate) fn is_ready(system: &Value) -> bool {
    system["metadata"]["generation"] == system["status"]["observedGeneration"] && is_true(system, "Ready")
}

/// A minimal system with additional spec fields, as JSON.
pub(crate) fn city(name: &str, spec: &Value) -> String {
    let mut system = serde_json::json!({
        "apiVersion": "dispatch.coactus.io/v1alpha1",
        "kind": "DispatchSystem",
        "metadata": { "name": name },
        "spec": { "city": name, "region": REGION, "timezone": "Asia/Seoul" },
    });
    for (field, value) in spec.as_object().into_iter().flatten() {
        system["spec"][field] = value.clone();
    }
    system.to_string()
}
