//! Failures and how they are reported.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::shown::{described, table};
use crate::stage::{Replica, Stage, city, condition, is_true};

struct Scene<'a> {
    stage: &'a Stage,
    operator: &'a Replica,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_reported_with_their_first_cause_and_do_not_affect_other_systems() -> anyhow::Result<()> {
    let Some(stage) = Stage::set("cluster-wide").await? else { return Ok(()) };
    for namespace in ["failed", "rules", "fixed", "malformed", "well"] {
        stage.namespace(namespace)?;
    }
    malformed(&stage).await?;
    let operator = stage.operator(&["--resync-seconds=2"]).await?;
    let scene = Scene { stage: &stage, operator: &operator };
    scene.a_malformed_object_does_not_affect_the_others().await?;
    scene.a_failed_stack_shows_its_first_cause_and_recovers_with_the_next_spec().await?;
    scene.rules_between_fields_are_reported_with_the_path_of_the_field().await?;
    scene.immutable_fields_are_reported_with_their_paths_and_change_nothing().await?;
    operator.was_never_denied()?;
    Ok(())
}

/// Stores an object that no definition of this resource accepts.
async fn malformed(stage: &Stage) -> anyhow::Result<()> {
    stage.api.install_crd_without_schema().await?;
    let object = json!({
        "apiVersion": "dispatch.coactus.io/v1alpha1", "kind": "DispatchSystem", "metadata": { "name": "seoul" },
        "spec": { "city": 5, "region": ["a"], "dispatch": "all", "workers": { "roles": 7 } },
    });
    stage.apply("malformed", &object.to_string())?;
    stage.api.restore_crd().await
}

const FAILED: (&str, &str) = ("failed", "seoul");

impl Scene<'_> {
    async fn a_malformed_object_does_not_affect_the_others(&self) -> anyhow::Result<()> {
        let stage = self.stage;
        stage.apply("well", &city("seoul", &json!({})))?;
        stage.until_ready(("well", "seoul")).await?;
        let log = self.operator.process.log()?;
        let line =
            log.lines().find(|line| line.contains("malformed")).context("the log mentions the malformed object")?;
        println!("{line}");
        // It can be deleted like any other.
        stage.delete("malformed", "seoul")?;
        stage.until_gone(("malformed", "seoul")).await
    }

    async fn a_failed_stack_shows_its_first_cause_and_recovers_with_the_next_spec(&self) -> anyhow::Result<()> {
        let stage = self.stage;
        // A subnet that does not exist.
        let cache = json!({ "subnetIds": ["subnet-0a1b2c3d4e5f60001"], "securityGroupIds": ["sg-0a1b2c3d4e5f60001"] });
        stage.apply(FAILED.0, &city("seoul", &json!({ "cache": cache })))?;
        let failed = stage.until(FAILED, "failed", |system| is_true(system, "Stalled")).await?;
        let ready = condition(&failed, "Ready").context("a condition")?;
        let message = ready["message"].as_str().unwrap_or_default();
        assert_eq!(ready["reason"], "CreateFailed");
        assert!(message.starts_with("CacheSubnetGroup (AWS::ElastiCache::SubnetGroup) CREATE_FAILED: "), "{message}");
        let warning = stage.until_event(FAILED, "Stalled").await?;
        assert_eq!((&warning["type"], &warning["note"]), (&json!("Warning"), &ready["message"]));
        insta::assert_snapshot!(
            "failed_columns",
            table(&stage.api.kubectl(&["get", "dsys", "-n", FAILED.0, "-o", "wide"])?)
        );
        insta::assert_snapshot!(
            "failed",
            described(&stage.api.kubectl(&["describe", "dsys", "-n", FAILED.0, "seoul"])?)
        );
        let attempts = self.attempts();
        let patch = json!({ "metadata": { "annotations": { "example.com/other": "value" } } });
        stage.patch(FAILED.0, FAILED.1, &patch)?;

        stage.patch(
            FAILED.0,
            FAILED.1,
            &json!({ "spec": { "cache": { "subnetIds": [], "securityGroupIds": [] } } }),
        )?;
        stage.until_ready(FAILED).await?;
        assert_eq!(self.attempts(), attempts + 1, "the same spec is not retried, the next one is tried");
        Ok(())
    }

    fn attempts(&self) -> usize {
        self.operator.aws.calls().iter().filter(|call| call.operation == "ExecuteChangeSet").count()
    }

    async fn refused(&self, at: (&str, &str), path: &str) -> anyhow::Result<Value> {
        let invalid = |system: &Value| {
            let stalled = condition(system, "Stalled");
            let message = stalled.and_then(|stalled| stalled["message"].as_str()).unwrap_or_default();
            stalled.is_some_and(|stalled| stalled["status"] == "True" && stalled["reason"] == "InvalidSpec")
                && message.starts_with(path)
                && system["status"]["observedGeneration"] == system["metadata"]["generation"]
        };
        self.stage.until(at, &format!("refused for {path}"), invalid).await
    }

    async fn rules_between_fields_are_reported_with_the_path_of_the_field(&self) -> anyhow::Result<()> {
        let stage = self.stage;
        let rules = [
            (
                "timers",
                "spec.queues.offers.retentionSeconds",
                json!({
                    "queues": { "offers": { "retentionSeconds": 61 } }, "dispatch": { "offerTimeoutSeconds": 120 },
                }),
            ),
            ("billing", "spec.table.billing", json!({ "table": { "billing": { "mode": "Provisioned" } } })),
            ("tags", "spec.aws.tags", json!({ "aws": { "tags": { "aws:team": "x" } } })),
            ("drift", "spec.driftIntervalSeconds", json!({ "driftIntervalSeconds": 30 })),
        ];
        for (name, path, spec) in &rules {
            let refused = stage.apply("rules", &city(name, spec)).err().context("it is accepted")?.to_string();
            ensure!(refused.contains(path), "{name}: {refused}");
        }
        // Stored before the definition had the rules. No rule knows the time zones.
        stage.api.install_lax_crd().await?;
        let zone = ("zone", "spec.timezone", json!({ "timezone": "Asia/Nowhere" }));
        for (name, _, spec) in rules.iter().chain([&zone]) {
            stage.apply("rules", &city(name, spec))?;
        }
        stage.api.restore_crd().await?;
        for (name, path, _) in rules.iter().chain([&zone]) {
            self.refused(("rules", name), path).await?;
        }
        Ok(())
    }

    async fn immutable_fields_are_reported_with_their_paths_and_change_nothing(&self) -> anyhow::Result<()> {
        let stage = self.stage;
        let at = ("fixed", "seoul");
        stage.apply(at.0, &city("seoul", &json!({})))?;
        let ready = stage.until_ready(at).await?;
        let writes = self.operator.aws.writes().len();
        let changes = [
            ("spec.city", json!({ "city": "busan" }), json!({ "city": "seoul" })),
            ("spec.region", json!({ "region": "us-east-1" }), json!({ "region": "ap-northeast-2" })),
            ("spec.timezone", json!({ "timezone": "Asia/Tokyo" }), json!({ "timezone": "Asia/Seoul" })),
            ("spec.currency", json!({ "currency": "USD" }), json!({ "currency": "KRW" })),
            ("spec.table.name", json!({ "table": { "name": "another" } }), json!({ "table": { "name": null } })),
        ];
        for (path, change, _) in &changes {
            let refused = stage.patch(at.0, at.1, &json!({ "spec": change })).err().context("it is accepted")?;
            let refused = refused.to_string();
            ensure!(refused.contains(&format!("{path}: ")) && refused.contains("immutable"), "{path}: {refused}");
        }
        stage.api.install_lax_crd().await?;
        for (path, change, back) in &changes {
            stage.patch(at.0, at.1, &json!({ "spec": change }))?;
            self.refused(at, path).await?;
            stage.patch(at.0, at.1, &json!({ "spec": back }))?;
            stage.until_ready(at).await?;
        }
        stage.api.restore_crd().await?;
        assert_eq!(self.operator.aws.writes().len(), writes, "nothing was changed in AWS");
        let now = stage.until_ready(at).await?;
        assert_eq!(now["status"]["outputs"], ready["status"]["outputs"]);
        Ok(())
    }
}
