//! Deletion of a system in every situation.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use dispatch_operator::cloud::aws::AwsClients;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::stage::{LOOK_EVERY, Replica, SOON, Stage, city, condition, is_true};

/// All kinds of worker objects.
const WORKERS: &str = "deployments,configmaps,services,serviceaccounts,networkpolicies,poddisruptionbudgets,hpa";

struct Scene<'a> {
    stage: &'a Stage,
    operator: &'a Replica,
    aws: AwsClients,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_is_gone_once_its_environment_is_deleted_as_far_as_its_policy_allows() -> anyhow::Result<()> {
    let Some(stage) = Stage::set("cluster-wide").await? else { return Ok(()) };
    let operator = stage.operator(&["--resync-seconds=2"]).await?;
    let scene = Scene { stage: &stage, operator: &operator, aws: stage.aws().await };
    for namespace in ["retain", "delete", "suspended", "create", "broken", "cascade", "never", "observe"] {
        stage.namespace(namespace)?;
    }
    scene.an_object_deleted_while_its_stack_is_created_leaves_no_stack().await?;
    tokio::try_join!(
        scene.data_is_retained_by_default_and_imported_again(),
        scene.nothing_is_retained_with_the_policy_delete(),
        scene.a_suspended_object_is_deleted(),
        scene.an_object_without_its_secret_and_with_an_invalid_spec_is_deleted(),
        scene.a_foreground_cascade_waits_for_the_environment(),
        scene.an_object_without_resources_is_deleted_at_once(),
    )?;
    scene.an_observed_environment_is_not_changed().await?;
    operator.was_never_denied()?;
    Ok(())
}

impl Scene<'_> {
    async fn has_stack(&self, namespace: &str) -> anyhow::Result<bool> {
        Ok(self.aws.ports().stacks.describe(&format!("coactus-{namespace}-seoul")).await?.is_some())
    }

    async fn has_table(&self, namespace: &str) -> anyhow::Result<bool> {
        Ok(self.aws.ports().tables.table(&format!("coactus-{namespace}-seoul")).await?.is_some())
    }

    /// Worker objects that still exist, as `kind/name`.
    fn workers(&self, namespace: &str) -> anyhow::Result<Vec<String>> {
        let ours = "--selector=app.kubernetes.io/managed-by=dispatch-operator";
        let list = self.stage.api.kubectl(&["get", "-n", namespace, WORKERS, ours, "--output=name"])?;
        Ok(list.lines().map(str::to_owned).collect())
    }

    /// Waits until the garbage collector has deleted the worker objects.
    async fn collected(&self, namespace: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + SOON;
        loop {
            let left = self.workers(namespace)?;
            if left.is_empty() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{left:?} of {namespace} were not collected within {SOON:?}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn made(&self, namespace: &str, spec: &Value) -> anyhow::Result<Value> {
        self.stage.apply(namespace, &city("seoul", spec))?;
        self.stage.until_ready((namespace, "seoul")).await
    }

    async fn gone(&self, namespace: &str) -> anyhow::Result<()> {
        self.stage.delete(namespace, "seoul")?;
        self.stage.until_gone((namespace, "seoul")).await?;
        ensure!(!self.has_stack(namespace).await?, "the object was gone before its stack");
        Ok(())
    }

    async fn data_is_retained_by_default_and_imported_again(&self) -> anyhow::Result<()> {
        self.made("retain", &json!({})).await?;
        self.gone("retain").await?;
        assert!(self.has_table("retain").await?);
        let deleted = self.stage.until_event(("retain", "seoul"), "Deleted").await?;
        let note = deleted["note"].as_str().unwrap_or_default();
        assert!(note.contains("retained: AWS::DynamoDB::Table coactus-retain-seoul"), "{note}");
        self.collected("retain").await?;
        self.made("retain", &json!({})).await?;
        Ok(())
    }

    async fn nothing_is_retained_with_the_policy_delete(&self) -> anyhow::Result<()> {
        self.made("delete", &json!({ "deletionPolicy": "Delete" })).await?;
        self.gone("delete").await?;
        assert!(!self.has_table("delete").await?);
        Ok(())
    }

    async fn a_suspended_object_is_deleted(&self) -> anyhow::Result<()> {
        self.made("suspended", &json!({})).await?;
        self.stage.patch("suspended", "seoul", &json!({ "spec": { "suspend": true } }))?;
        self.stage.until(("suspended", "seoul"), "paused", |system| is_true(system, "Paused")).await?;
        self.gone("suspended").await
    }

    async fn an_object_deleted_while_its_stack_is_created_leaves_no_stack(&self) -> anyhow::Result<()> {
        let stage = self.stage;
        self.operator.aws.clear();
        stage.apply("create", &city("seoul", &json!({})))?;
        let executes =
            |calls: &[dispatch_tests::recorder::Recorded]| calls.iter().any(|call| call.operation == "CreateChangeSet");
        self.operator.aws.until(SOON, executes).await?;
        self.gone("create").await
    }

    async fn an_object_without_its_secret_and_with_an_invalid_spec_is_deleted(&self) -> anyhow::Result<()> {
        let stage = self.stage;
        let key = dispatch_operator::testing::fcm_key();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "fcm" },
            "stringData": { "key.json": key.expose_secret() },
        });
        stage.apply("broken", &secret.to_string())?;
        let fcm = json!({ "fcm": { "serviceAccountSecretRef": { "name": "fcm", "key": "key.json" } } });
        let made = self.made("broken", &json!({ "notifications": fcm })).await?;
        let push = made["status"]["outputs"]["platformApplicationArn"].as_str().context("an application")?;
        stage.api.kubectl(&["delete", "secret", "-n", "broken", "fcm"])?;
        // Stored before the definition had the rules.
        let wrong = json!({ "spec": {
            "region": "us-east-1", "dispatch": { "offerTimeoutSeconds": 600 },
            "queues": { "offers": { "retentionSeconds": 100 } }, "timezone": "Asia/Nowhere",
        } });
        stage.api.install_lax_crd().await?;
        stage.patch("broken", "seoul", &wrong)?;
        stage.api.restore_crd().await?;
        let refused = |system: &Value| condition(system, "Stalled").is_some_and(|c| c["reason"] == "InvalidSpec");
        stage.until(("broken", "seoul"), "refused", refused).await?;
        self.gone("broken").await?;
        assert!(!self.aws.ports().push.exists(push).await?, "the push application is deleted as well");
        assert!(self.has_table("broken").await?, "data is retained by default");
        Ok(())
    }

    async fn a_foreground_cascade_waits_for_the_environment(&self) -> anyhow::Result<()> {
        let stage = self.stage;
        self.made("cascade", &json!({})).await?;
        let list: Value =
            serde_json::from_str(&stage.api.kubectl(&["get", "-n", "cascade", WORKERS, "--output=json"])?)?;
        let owned = |child: &Value| child["metadata"]["ownerReferences"][0]["blockOwnerDeletion"] == true;
        let ours = |child: &&Value| child["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "dispatch-operator";
        let children = list["items"].as_array().context("a list")?;
        assert_eq!(children.iter().filter(ours).count(), 22);
        assert!(children.iter().filter(ours).all(owned), "the garbage collector finds them and waits for them");
        stage.api.kubectl(&["delete", "-n", "cascade", "dsys", "seoul", "--cascade=foreground", "--wait=false"])?;
        stage.until_gone(("cascade", "seoul")).await?;
        ensure!(!self.has_stack("cascade").await?, "the object was gone before its stack");
        assert_eq!(self.workers("cascade")?, [""; 0], "the object was gone before its workers");
        Ok(())
    }

    async fn an_object_without_resources_is_deleted_at_once(&self) -> anyhow::Result<()> {
        self.stage.apply("never", &city("seoul", &json!({ "timezone": "Asia/Nowhere" })))?;
        let refused = |system: &Value| is_true(system, "Stalled");
        self.stage.until(("never", "seoul"), "refused", refused).await?;
        self.gone("never").await
    }

    async fn an_observed_environment_is_not_changed(&self) -> anyhow::Result<()> {
        let stage = self.stage;
        self.made("observe", &json!({})).await?;
        stage.patch("observe", "seoul", &json!({ "spec": { "managementPolicy": "Observe" } }))?;
        let observed = |system: &Value| condition(system, "WorkersReady").is_some_and(|c| c["reason"] == "ObserveOnly");
        stage.until(("observe", "seoul"), "observed", observed).await?;
        let before = self.operator.aws.writes().len();
        let workers = self.workers("observe")?;
        stage.api.kubectl(&["delete", "-n", "observe", "dsys", "seoul", "--cascade=orphan", "--wait=false"])?;
        stage.until_gone(("observe", "seoul")).await?;
        assert!(self.has_stack("observe").await?);
        assert_eq!(self.operator.aws.writes().len(), before);
        assert_eq!(self.workers("observe")?, workers);
        let owners = ["get", "-n", "observe", "deployments", "--output=jsonpath={.items[*].metadata.ownerReferences}"];
        assert_eq!(stage.api.kubectl(&owners)?, "", "the garbage collector leaves them");
        Ok(())
    }
}
