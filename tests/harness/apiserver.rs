//! `etcd` and `kube-apiserver` as child processes of the test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;

use crate::server::free_port;

/// Start timeout. The server takes about ten seconds on a busy machine with two cores.
const START_WITHIN: Duration = Duration::from_mins(2);
/// Attempts with new ports: another process may take a free port before the child binds it.
const PORTS_TRIED: usize = 3;
const TOKEN: &str = "test-admin";
/// The service account of `manifests/`, which has only the permissions of the shipped roles.
const OPERATOR: &str = "coactus-system:dispatch-operator";
const OPERATOR_TOKEN: &str = "test-operator";

/// A running, empty API server. Both processes are killed on drop.
///
/// No controllers run: nothing creates Pods for Deployments or collects garbage.
pub struct ApiServer {
    children: Vec<Child>,
    port: u16,
    folder: TempDir,
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
        let crd = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/crd.yaml");
        // kubectl validates with the server's schema, and this server does not know CEL rules.
        self.kubectl(&["create", "--validate=false", "-f", &crd.display().to_string()])?;
        let name = "crd/dispatchsystems.dispatch.coactus.io";
        // `kubectl wait` fails for a definition that has no conditions yet, so wait for its accepted names first.
        let named = "--for=jsonpath={.status.acceptedNames.kind}=DispatchSystem";
        self.kubectl(&["wait", named, "--timeout=60s", name])?;
        self.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", name])?;
        Ok(())
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
            "--disable-admission-plugins=ServiceAccount".to_owned(),
        ];
        make_key(&folder.path().join("sa.key"))?;
        write_kubeconfig(&folder.path().join("kubeconfig"), &format!("https://127.0.0.1:{port}"), TOKEN)?;
        let mut running = Self { children: Vec::new(), port, folder };
        running.spawn(&assets.join("etcd"), &etcd)?;
        running.spawn(&assets.join("kube-apiserver"), &server)?;
        running.until_ready().await?;
        Ok(running)
    }

    fn spawn(&mut self, program: &Path, args: &[String]) -> anyhow::Result<()> {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.children.push(command.spawn().with_context(|| format!("could not start {}", program.display()))?);
        Ok(())
    }

    async fn until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_WITHIN;
        loop {
            for child in &mut self.children {
                if let Some(status) = child.try_wait()? {
                    bail!("a program of the API server on port {} ended with {status}", self.port);
                }
            }
            // The bootstrap roles and the default namespace are created shortly after the server is up.
            let ready = self.try_kubectl(&["get", "--raw", "/readyz"])?.status.success();
            if ready && self.try_kubectl(&["get", "namespace", "default"])?.status.success() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("the API server did not answer within {START_WITHIN:?}");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        // The server first, so that it does not lose its store. Each call fails only if the process has already exited.
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
