//! The control plane of Kubernetes as child processes of the test: `etcd`, `kube-apiserver` and, on request,
//! `kube-controller-manager`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::free_port;

/// Start timeout of a program. The server takes about ten seconds on a busy machine with two cores.
const START_WITHIN: Duration = Duration::from_mins(2);
/// Timeout until the API server validates by another definition. It takes milliseconds on an idle machine.
const DEFINITION_WITHIN: Duration = Duration::from_secs(30);
/// The definition's name.
const DEFINITION: &str = "crd/dispatchsystems.dispatch.coactus.io";
/// Attempts with new ports: another process may take a free port before the child binds it.
const PORTS_TRIED: usize = 3;
/// Polling interval.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const TOKEN: &str = "test-admin";
/// The service account of `manifests/`, which has only the permissions of the shipped roles.
const OPERATOR: &str = "coactus-system:dispatch-operator";
const OPERATOR_TOKEN: &str = "test-operator";

/// A running, empty API server. All processes are killed on drop.
///
/// No controllers run until [`Self::start_controllers`]: nothing creates Pods for Deployments or collects garbage.
pub struct ApiServer {
    children: Vec<Child>,
    port: u16,
    folder: TempDir,
    assets: PathBuf,
}

impl ApiServer {
    /// Starts a server with the programs in the folder that `KUBEBUILDER_ASSETS` names. Returns `None` only if
    /// `DISPATCH_SKIP_ENVTEST=1` is set, which skips the tests that need a server.
    pub async fn start() -> anyhow::Result<Option<Self>> {
        let Some(assets) = assets()? else { return Ok(None) };
        let mut last = None;
        for _ in 0..PORTS_TRIED {
            match Self::start_once(&assets).await {
                Ok(running) => return Ok(Some(running)),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("the API server was never started")))
    }

    /// Kubeconfig of a cluster administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// Address of the server, `https://127.0.0.1:…`, with a self-signed certificate.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Writes a kubeconfig for the operator's service account, which has the permissions of the installed roles.
    /// `server` is the address to use: that of the server, or of a recorder in front of it.
    pub fn operator_kubeconfig(&self, name: &str, server: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.path().join(format!("kubeconfig-{name}"));
        write_kubeconfig(&path, server, OPERATOR_TOKEN)?;
        Ok(path)
    }

    /// Temporary folder of this server, removed on drop.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs `kubectl` and returns its standard output; an error contains all of its output.
    pub fn kubectl(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = self.try_kubectl(args)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ensure!(output.status.success(), "kubectl {args:?}: {}{}", text(&output.stdout), text(&output.stderr));
        Ok(text(&output.stdout))
    }

    /// Runs `kubectl` and returns its output, even if it fails.
    pub fn try_kubectl(&self, args: &[&str]) -> anyhow::Result<Output> {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(self.kubeconfig()).arg("--cache-dir").arg(self.folder.path().join("cache"));
        command.args(args).stdin(Stdio::null()).output().context("cannot run kubectl")
    }

    /// Writes a file into the server's folder, for `kubectl -f`.
    pub fn file(&self, name: &str, text: &str) -> anyhow::Result<String> {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    }

    /// Installs the resource definition and waits until it is served.
    pub fn install_crd(&self) -> anyhow::Result<()> {
        self.install(&["create", "--save-config", "-f", &definition_file()])
    }

    /// Installs the definition of a file by a server-side apply, as the documentation says, and waits until it is
    /// served.
    pub fn apply_crd(&self, file: &str) -> anyhow::Result<()> {
        self.install(&["apply", "--server-side", "-f", file])
    }

    fn install(&self, command: &[&str]) -> anyhow::Result<()> {
        self.kubectl(command)?;
        // `kubectl wait` fails for a definition that has no conditions yet, so wait for its accepted names first.
        let named = "--for=jsonpath={.status.acceptedNames.kind}=DispatchSystem";
        self.kubectl(&["wait", named, "--timeout=60s", DEFINITION])?;
        self.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", DEFINITION])?;
        Ok(())
    }

    /// Replaces the definition with one that has no rules and no patterns, as an earlier release might have. What it
    /// stores may be invalid by the current definition.
    pub async fn install_lax_crd(&self) -> anyhow::Result<()> {
        let mut definition = definition()?;
        without_rules(&mut definition);
        self.replace_definition(&definition.to_string(), "", true).await
    }

    /// Replaces the definition with one that accepts any object.
    pub async fn install_crd_without_schema(&self) -> anyhow::Result<()> {
        let mut definition = definition()?;
        definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
            json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
        self.replace_definition(&definition.to_string(), "", true).await
    }

    /// Puts the current definition back.
    pub async fn restore_crd(&self) -> anyhow::Result<()> {
        self.replace_definition(&definition()?.to_string(), "must be 0 or 60 to 86400", false).await
    }

    /// Replaces the definition, and waits until the API server validates by it: until it accepts an object that
    /// violates a rule, or refuses it with `refusal`.
    async fn replace_definition(&self, definition: &str, refusal: &str, accepts: bool) -> anyhow::Result<()> {
        self.kubectl(&["replace", "-f", &self.file("definition.json", definition)?])?;
        let probe = json!({
            "apiVersion": "dispatch.coactus.io/v1alpha1", "kind": "DispatchSystem", "metadata": { "name": "probe" },
            "spec": {
                "city": "probe", "region": "ap-northeast-2", "timezone": "Asia/Seoul", "driftIntervalSeconds": 59,
            },
        });
        let probe = self.file("probe.json", &probe.to_string())?;
        let deadline = Instant::now() + DEFINITION_WITHIN;
        loop {
            let output = self.try_kubectl(&["create", "--dry-run=server", "-f", &probe])?;
            let answer = String::from_utf8_lossy(&output.stderr).into_owned();
            if output.status.success() == accepts && answer.contains(refusal) {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "the definition was not in force within {DEFINITION_WITHIN:?}: {answer}"
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Starts the controller manager and waits until it works. Install the resource definition first: the garbage
    /// collector discovers new kinds of owners only every half minute.
    pub async fn start_controllers(&mut self) -> anyhow::Result<()> {
        let program = self.assets.join("kube-controller-manager");
        ensure!(program.exists(), "there is no {}, and this test needs a controller manager", program.display());
        let args = [
            format!("--kubeconfig={}", self.kubeconfig().display()),
            "--leader-elect=false".to_owned(),
            // Nothing asks it for its health or its metrics.
            "--secure-port=0".to_owned(),
            "--horizontal-pod-autoscaler-sync-period=1s".to_owned(),
        ];
        self.spawn(&program, &args)?;
        // The controller manager creates it.
        self.until_answered("the controller manager", &["get", "serviceaccount", "default"]).await
    }

    async fn start_once(assets: &Path) -> anyhow::Result<Self> {
        let folder = TempDir::new()?;
        let at = |name: &str| folder.path().join(name).display().to_string();
        let (clients, peers, port) = (free_port()?, free_port()?, free_port()?);
        let (namespace, _) = OPERATOR.split_once(':').unwrap_or_default();
        let groups = format!("system:serviceaccounts,system:serviceaccounts:{namespace}");
        let tokens = format!(
            "{TOKEN},admin,1,system:masters\n{OPERATOR_TOKEN},system:serviceaccount:{OPERATOR},2,\"{groups}\"\n"
        );
        std::fs::write(folder.path().join("tokens.csv"), tokens)?;
        let (client_url, peer_url) = (format!("http://127.0.0.1:{clients}"), format!("http://127.0.0.1:{peers}"));
        let etcd = [
            format!("--data-dir={}", at("etcd")),
            format!("--listen-client-urls={client_url}"),
            format!("--advertise-client-urls={client_url}"),
            format!("--listen-peer-urls={peer_url}"),
            format!("--initial-advertise-peer-urls={peer_url}"),
            format!("--initial-cluster=default={peer_url}"),
            "--unsafe-no-fsync=true".to_owned(),
        ];
        let server = [
            format!("--etcd-servers={client_url}"),
            format!("--cert-dir={}", at("certs")),
            format!("--secure-port={port}"),
            "--bind-address=127.0.0.1".to_owned(),
            "--service-account-issuer=https://localhost".to_owned(),
            format!("--service-account-key-file={}", at("sa.key")),
            format!("--service-account-signing-key-file={}", at("sa.key")),
            "--authorization-mode=RBAC".to_owned(),
            format!("--token-auth-file={}", at("tokens.csv")),
            // Large enough for the Services of a large fleet.
            "--service-cluster-ip-range=10.0.0.0/16".to_owned(),
            "--allow-privileged=true".to_owned(),
            // The Service `kubernetes` leads nowhere: no Pod runs.
            "--endpoint-reconciler-type=none".to_owned(),
        ];
        make_key(&folder.path().join("sa.key"))?;
        write_kubeconfig(&folder.path().join("kubeconfig"), &format!("https://127.0.0.1:{port}"), TOKEN)?;
        let mut running = Self { children: Vec::new(), port, folder, assets: assets.to_owned() };
        running.spawn(&assets.join("etcd"), &etcd)?;
        running.spawn(&assets.join("kube-apiserver"), &server)?;
        running.until_answered("the API server", &["get", "--raw", "/readyz"]).await?;
        // The default namespace is created shortly after the server is up.
        running.until_answered("the API server", &["get", "namespace", "default"]).await?;
        Ok(running)
    }

    fn spawn(&mut self, program: &Path, args: &[String]) -> anyhow::Result<()> {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.children.push(command.spawn().with_context(|| format!("could not start {}", program.display()))?);
        Ok(())
    }

    /// Waits until `kubectl` succeeds with these arguments. Fails at once if a program has ended.
    async fn until_answered(&mut self, what: &str, args: &[&str]) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_WITHIN;
        loop {
            for child in &mut self.children {
                if let Some(status) = child.try_wait()? {
                    bail!("a program of the control plane on port {} ended with {status}", self.port);
                }
            }
            if self.try_kubectl(args)?.status.success() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{what} did not answer within {START_WITHIN:?}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        // The store last, so that no program loses it. Each call fails only if the process has already exited.
        for child in self.children.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The folder with the programs, or `None` if `DISPATCH_SKIP_ENVTEST=1` is set. A missing folder is an error: a test
/// that cannot run must not pass.
fn assets() -> anyhow::Result<Option<PathBuf>> {
    if std::env::var_os("DISPATCH_SKIP_ENVTEST").is_some_and(|value| value == "1") {
        println!("skipped: DISPATCH_SKIP_ENVTEST=1 is set");
        return Ok(None);
    }
    let assets = std::env::var_os("KUBEBUILDER_ASSETS").filter(|value| !value.is_empty()).context(
        "KUBEBUILDER_ASSETS is not set, and this test needs a kube-apiserver and an etcd. Set it to the folder that \
         contains them, for example to the output of scripts/envtest.sh, or set DISPATCH_SKIP_ENVTEST=1 to skip the \
         tests that need them.",
    )?;
    Ok(Some(PathBuf::from(assets)))
}

fn definition_file() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/crd.yaml").display().to_string()
}

fn definition() -> anyhow::Result<Value> {
    Ok(serde_yaml::from_str(&std::fs::read_to_string(definition_file())?)?)
}

/// Removes all validation rules and patterns of a definition.
fn without_rules(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            members
                .retain(|name, value| name != "x-kubernetes-validations" && (name != "pattern" || !value.is_string()));
            members.values_mut().for_each(without_rules);
        }
        Value::Array(items) => items.iter_mut().for_each(without_rules),
        _ => {}
    }
}

/// Generates the key with which the server signs service account tokens.
fn make_key(path: &Path) -> anyhow::Result<()> {
    let made = Command::new("openssl").args(["genrsa", "-out"]).arg(path).arg("2048").output();
    let made = made.context("cannot run openssl")?;
    ensure!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

fn write_kubeconfig(path: &Path, server: &str, token: &str) -> anyhow::Result<()> {
    // The option is valid only for a server with TLS.
    let verify = if server.starts_with("https") { ", insecure-skip-tls-verify: true" } else { "" };
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
         clusters:\n- name: test\n  cluster: {{ server: '{server}'{verify} }}\n\
         users:\n- name: test\n  user: {{ token: {token} }}\n\
         contexts:\n- name: test\n  context: {{ cluster: test, user: test, namespace: default }}\n"
    );
    std::fs::write(path, text)?;
    Ok(())
}
