//! Day-2 operations on a running system: edits, reconcile requests, suspension, drift and Secrets.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dispatch_operator::cloud::aws::AwsClients;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::stage::{Replica, Stage, city, condition, is_ready, is_true};

/// Timeout until a changed Secret takes effect.
const SECRET_SEEN_WITHIN: Duration = Duration::from_secs(30);

struct Scene<'a> {
    stage: &'a Stage,
    operator: &'a Replica,
    aws: AwsClients,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_system_is_edited_repaired_suspended_and_given_new_secrets() -> anyhow::Result<()> {
    let Some(stage) = Stage::set("cluster-wide").await? else { return Ok(()) };
    // With this resync interval, only events trigger reconciles, and the Secrets, which have their own interval.
    let operator = stage.operator(&["--resync-seconds=600"]).await?;
    let scene = Scene { stage: &stage, operator: &operator, aws: stage.aws().await };
    for namespace in ["life", "secret", "observed"] {
        stage.namespace(namespace)?;
    }
    let secret = scene.a_rotated_secret_takes_effect_in_time();
    let life = async {
        scene.an_edit_reaches_aws().await?;
        scene.a_request_triggers_one_reconcile_and_is_echoed().await?;
        scene.drift_is_reported_and_corrected().await
    };
    tokio::try_join!(secret, life)?;
    scene.a_suspended_system_is_not_changed().await?;
    scene.an_observed_system_is_only_read().await?;
    operator.was_never_denied()?;
    Ok(())
}

const LIFE: (&str, &str) = ("life", "seoul");

impl Scene<'_> {
    /// Annotates an object with a token and waits until it is echoed.
    async fn request(&self, at: (&str, &str), token: &str) -> anyhow::Result<Value> {
        let patch = json!({ "metadata": { "annotations": { "dispatch.coactus.io/reconcile-requested-at": token } } });
        self.stage.patch(at.0, at.1, &patch)?;
        self.stage
            .until(at, "reconciled on request", |system| system["status"]["lastHandledReconcileAt"] == token)
            .await
    }

    /// All AWS calls of the operator so far that can write.
    fn writes(&self) -> Vec<String> {
        self.operator.aws.writes().iter().map(ToString::to_string).collect()
    }

    async fn an_edit_reaches_aws(&self) -> anyhow::Result<()> {
        let stage = self.stage;
        stage.apply(LIFE.0, &city("seoul", &json!({})))?;
        let ready = stage.until_ready(LIFE).await?;
        let url = ready["status"]["outputs"]["offersQueueUrl"].as_str().context("a queue")?;
        let edit = json!({ "spec": {
            "aws": { "tags": { "team": "dispatch" } }, "queues": { "offers": { "retentionSeconds": 600_000 } },
        } });
        stage.patch(LIFE.0, LIFE.1, &edit)?;
        let edited = stage.until_ready(LIFE).await?;
        assert_eq!(edited["status"]["observedGeneration"], 2);
        let queue = self.aws.ports().queues.settings(url).await?.context("the queue")?;
        assert_eq!(queue.retention_seconds, 600_000);
        let stack = edited["status"]["stackArn"].as_str().context("a stack")?;
        let tags = self.aws.ports().stacks.describe(stack).await?.context("the stack")?.tags;
        assert_eq!(tags.get("team").map(String::as_str), Some("dispatch"));
        Ok(())
    }

    async fn a_request_triggers_one_reconcile_and_is_echoed(&self) -> anyhow::Result<()> {
        self.request(LIFE, "first").await?;
        let described = |calls: &[dispatch_tests::recorder::Recorded]| {
            calls.iter().filter(|call| call.operation == "DescribeStacks").count()
        };
        let before = described(&self.operator.aws.calls());
        let after_request = self.request(LIFE, "second").await?;
        assert!(described(&self.operator.aws.calls()) > before, "a request triggers an inspection of AWS");
        // The same token again, with an annotation of another owner: no reconcile of AWS and no write.
        let patch = json!({ "metadata": { "annotations": {
            "dispatch.coactus.io/reconcile-requested-at": "second", "example.com/other": "value",
        } } });
        self.stage.patch(LIFE.0, LIFE.1, &patch)?;
        let inspections = described(&self.operator.aws.calls());
        // The next request is handled after it, so any reconcile it triggered would have happened by then.
        self.request(LIFE, "third").await?;
        let one_more = described(&self.operator.aws.calls()) - inspections;
        assert!(one_more <= 2, "{one_more} inspections for one request");
        assert!(is_ready(&after_request));
        Ok(())
    }

    async fn drift_is_reported_and_corrected(&self) -> anyhow::Result<()> {
        let ready = self.stage.until_ready(LIFE).await?;
        let url = ready["status"]["outputs"]["offersQueueUrl"].as_str().context("a queue")?;
        let ports = self.aws.ports();
        let wanted = ports.queues.settings(url).await?.context("the queue")?;
        let queues = aws_sdk_sqs::Client::new(self.aws.config());
        let name = aws_sdk_sqs::types::QueueAttributeName::VisibilityTimeout;
        queues.set_queue_attributes().queue_url(url).attributes(name, "1").send().await?;
        let tables = aws_sdk_dynamodb::Client::new(self.aws.config());
        let off = aws_sdk_dynamodb::types::PointInTimeRecoverySpecification::builder();
        let off = off.point_in_time_recovery_enabled(false).build()?;
        let table = ready["status"]["outputs"]["tableName"].as_str().context("a table")?;
        let change = tables.update_continuous_backups().table_name(table).point_in_time_recovery_specification(off);
        change.send().await?;

        let corrected = self.request(LIFE, "detect drift").await?;
        let drifted = condition(&corrected, "Drifted").context("a condition")?;
        assert_eq!(drifted["reason"], "DriftCorrected");
        let message = drifted["message"].as_str().unwrap_or_default();
        for field in ["queues.offers.visibilityTimeoutSeconds", "table.pointInTimeRecovery: false instead of true"] {
            assert!(message.contains(field), "{field}: {message}");
        }
        assert_eq!(ports.queues.settings(url).await?, Some(wanted));
        assert_eq!(ports.tables.recovery(table).await?, Some(dispatch_operator::cloud::ports::Recovery::Enabled));
        let events = self.stage.events(LIFE.0, LIFE.1)?;
        let about = |reason: &str| {
            events
                .iter()
                .any(|event| event["reason"] == reason && event["note"].as_str().unwrap_or_default() == message)
        };
        assert!(about("DriftDetected") && about("DriftCorrected"), "{events:#?}");
        Ok(())
    }

    async fn a_suspended_system_is_not_changed(&self) -> anyhow::Result<()> {
        let stage = self.stage;
        let before = self.writes();
        let pause = json!({ "spec": { "suspend": true, "aws": { "tags": { "team": "later" } } } });
        stage.patch(LIFE.0, LIFE.1, &pause)?;
        let stopped = |system: &Value| is_true(system, "Paused");
        let paused = stage.until(LIFE, "paused", stopped).await?;
        // Never "current" for kstatus, although the operator does nothing.
        assert!(!is_true(&paused, "Ready") && is_true(&paused, "Reconciling"));
        assert_eq!(condition(&paused, "WorkersReady").context("workers")?["reason"], "Suspended");
        stage.until_event(LIFE, "Paused").await?;
        let still = self.request(LIFE, "while paused").await?;
        assert!(is_true(&still, "Paused") && !is_true(&still, "Ready"));
        assert_eq!(self.writes(), before);
        stage.patch(LIFE.0, LIFE.1, &json!({ "spec": { "suspend": false } }))?;
        stage.until_ready(LIFE).await?;
        stage.until_event(LIFE, "Resumed").await?;
        assert!(self.writes().len() > before.len(), "the held-back changes are applied now");
        Ok(())
    }

    async fn an_observed_system_is_only_read(&self) -> anyhow::Result<()> {
        let stage = self.stage;
        let before = self.writes();
        let at = ("observed", "seoul");
        stage.apply(at.0, &city("seoul", &json!({ "managementPolicy": "Observe" })))?;
        let seen = stage.until(at, "inspected", |system| condition(system, "StackReady").is_some()).await?;
        assert_eq!(condition(&seen, "Ready").context("ready")?["reason"], "NotCreated");
        assert_eq!(seen["metadata"]["finalizers"], Value::Null, "nothing to clean up");
        assert_eq!(self.writes(), before);
        stage.delete(at.0, at.1)?;
        stage.until_gone(at).await?;
        assert_eq!(self.writes(), before);
        Ok(())
    }

    async fn a_rotated_secret_takes_effect_in_time(&self) -> anyhow::Result<()> {
        let stage = self.stage;
        let at = ("secret", "seoul");
        let fcm = json!({ "fcm": { "serviceAccountSecretRef": { "name": "fcm", "key": "key.json" } } });
        stage.apply(at.0, &city("seoul", &json!({ "notifications": fcm })))?;
        let missing =
            |system: &Value| condition(system, "Ready").is_some_and(|ready| ready["reason"] == "SecretMissing");
        let waiting = stage.until(at, "waiting for its secret", missing).await?;
        assert!(is_true(&waiting, "Reconciling"), "the Secret may still be created");
        let key = dispatch_operator::testing::fcm_key();
        let key = key.expose_secret();
        let made = self.put_secret(at.0, key)?;
        let ready = stage.until_ready(at).await?;
        println!("a new secret was used after {:.1} s", made.elapsed().as_secs_f64());
        ensure!(made.elapsed() < SECRET_SEEN_WITHIN, "{:?}", made.elapsed());
        assert!(ready["status"]["outputs"]["platformApplicationArn"].is_string());

        let rotated = key.replace("coactus-test", "coactus-rotated");
        let changed = self.put_secret(at.0, &rotated)?;
        let seen = |calls: &[dispatch_tests::recorder::Recorded]| {
            calls.iter().any(|call| call.operation == "SetPlatformApplicationAttributes" && call.status == Some(200))
        };
        self.operator.aws.until(SECRET_SEEN_WITHIN, seen).await?;
        println!("a rotated secret reached SNS after {:.1} s", changed.elapsed().as_secs_f64());
        let recorded = |system: &Value| is_ready(system) && system["status"]["stackStatus"] == "UPDATE_COMPLETE";
        stage.until(at, "recorded by its stack", recorded).await?;
        let log = self.operator.process.log()?;
        let object = stage.system(at.0, at.1).await?.context("the object")?.to_string();
        for text in [&log, &object] {
            assert!(!text.contains("PRIVATE KEY") && !text.contains("coactus-rotated"), "the key is exposed");
        }
        Ok(())
    }

    fn put_secret(&self, namespace: &str, key: &str) -> anyhow::Result<Instant> {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "fcm" }, "stringData": { "key.json": key },
        });
        self.stage.apply(namespace, &secret.to_string())?;
        Ok(Instant::now())
    }
}
