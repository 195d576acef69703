//! The rules of the definition, enforced by an API server: they refuse what the validation refuses, and changes of what
//! stored data depends on.

use anyhow::{Context as _, ensure};
use dispatch_api::dispatch_system::DispatchSystem;
use dispatch_api::validate::ValidatedSystem;
use dispatch_tests::apiserver::ApiServer;
use dispatch_tests::deployments::client;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use serde_json::{Value, json};

/// A short name leaves room for those of the systems.
const NAMESPACE: &str = "n";

fn minimal() -> Value {
    json!({
        "apiVersion": "dispatch.coactus.io/v1alpha1",
        "kind": "DispatchSystem",
        "metadata": { "name": "seoul", "namespace": NAMESPACE },
        "spec": { "city": "seoul", "region": "ap-northeast-2", "timezone": "Asia/Seoul" },
    })
}

/// `base` with `value` at the dotted `path` below `spec`.
fn with(base: &Value, path: &str, value: Value) -> Value {
    let mut changed = base.clone();
    let mut at = &mut changed["spec"];
    for name in path.split('.') {
        at = &mut at[name];
    }
    *at = value;
    changed
}

struct Rules {
    server: ApiServer,
    systems: Api<DynamicObject>,
}

impl Rules {
    async fn start() -> anyhow::Result<Option<Self>> {
        let Some(server) = ApiServer::start().await? else { return Ok(None) };
        server.install_crd()?;
        server.kubectl(&["create", "namespace", NAMESPACE])?;
        let resource = ApiResource::erase::<DispatchSystem>(&());
        let systems = Api::namespaced_with(client(&server.kubeconfig()).await?, NAMESPACE, &resource);
        Ok(Some(Self { server, systems }))
    }

    /// The API server's refusal of a new object; `None` if it accepts it.
    async fn refusal(&self, object: &Value) -> anyhow::Result<Option<String>> {
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        refusal(self.systems.create(&dry_run, &serde_json::from_value(object.clone())?).await)
    }

    /// The API server's refusal of a merge patch of `seoul`; `None` if it accepts and stores it.
    async fn patch(&self, spec: &Value) -> anyhow::Result<Option<String>> {
        let patch = json!({ "spec": spec });
        refusal(self.systems.patch("seoul", &PatchParams::default(), &Patch::Merge(&patch)).await)
    }
}

fn refusal(answer: kube::Result<DynamicObject>) -> anyhow::Result<Option<String>> {
    match answer {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) if matches!(status.code, 400 | 422) => Ok(Some(status.message.clone())),
        Err(error) => Err(error.into()),
    }
}

/// What the validation says of an object; `None` if it is valid.
fn invalid(object: &Value) -> anyhow::Result<Option<String>> {
    let system: DispatchSystem = serde_json::from_value(object.clone())?;
    Ok(ValidatedSystem::try_from_raw(&system).err().map(|errors| errors.to_string()))
}

/// Each case is a creation, and whether it is accepted.
fn creations() -> Vec<(bool, Value)> {
    let seoul = minimal();
    let capacity = |min: u32, max: u32| json!({ "min": min, "max": max });
    let both = |value: &Value| json!({ "mode": "Provisioned", "read": value, "write": value });
    let jwt = json!({ "issuer": "https://a", "audiences": ["a"] });
    let gateway = json!({ "enabled": true, "upstream": { "url": "https://a" }, "jwt": jwt });
    let link = |region: &str| {
        let listener = format!("arn:aws:elasticloadbalancing:{region}:111122223333:listener/a");
        json!({ "vpcLink": { "subnetIds": ["subnet-0a1b2c3d"], "listenerArn": listener } })
    };
    let rectangle = json!([[[126.76, 37.42], [127.19, 37.42], [127.19, 37.7], [126.76, 37.7], [126.76, 37.42]]]);
    let named = |name: &str| {
        let mut object = minimal();
        object["metadata"]["name"] = json!(name);
        object
    };
    vec![
        (true, seoul.clone()),
        (false, named("a-name-of-more-than-thirty-chars")),
        (false, named("two--dashes")),
        (true, with(&named("with-external-thirty-two-chars-x"), "cache.external", json!({ "url": "redis://a" }))),
        (true, with(&seoul, "driftIntervalSeconds", json!(0))),
        (false, with(&seoul, "driftIntervalSeconds", json!(59))),
        (false, with(&seoul, "dispatch.searchRingsMeters", json!([700, 3000, 1500]))),
        (false, with(&seoul, "dispatch.searchRingsMeters", json!([700, 700]))),
        (true, with(&seoul, "dispatch.searchRingsMeters", json!([700]))),
        (true, with(&seoul, "table.billing", both(&capacity(1, 1)))),
        (false, with(&seoul, "table.billing", both(&capacity(2, 1)))),
        (false, with(&seoul, "table.billing", json!({ "mode": "Provisioned", "read": capacity(1, 2) }))),
        (false, with(&seoul, "table.billing", json!({ "write": capacity(1, 2) }))),
        (false, with(&seoul, "queues.responses", json!({ "retentionSeconds": 60, "visibilityTimeoutSeconds": 60 }))),
        (false, with(&seoul, "queues.offers.retentionSeconds", json!(120))),
        (true, with(&seoul, "queues.offers.retentionSeconds", json!(121))),
        (false, with(&with(&seoul, "export.schedule", json!("0 4 * * *")), "table.pointInTimeRecovery", json!(false))),
        (false, with(&with(&seoul, "export.analytics", json!({})), "table.pointInTimeRecovery", json!(false))),
        (
            true,
            with(&with(&seoul, "export.analytics.enabled", json!(false)), "table.pointInTimeRecovery", json!(false)),
        ),
        (false, with(&with(&seoul, "cache.external.url", json!("redis://a")), "cache.replicas", json!(0))),
        (true, with(&seoul, "api.gateway", gateway.clone())),
        (false, with(&seoul, "api.gateway.enabled", json!(true))),
        (true, with(&seoul, "api.auth", json!({ "issuer": "https://a", "audiences": ["a"] }))),
        (
            false,
            with(
                &seoul,
                "api.auth",
                json!({ "issuer": "https://a", "audiences": ["a"], "claims": { "user": "driver" } }),
            ),
        ),
        (false, with(&with(&seoul, "api.gateway", gateway.clone()), "api.gateway.upstream", json!({}))),
        (true, with(&with(&seoul, "api.gateway", gateway.clone()), "api.gateway.upstream", link("ap-northeast-2"))),
        (false, with(&with(&seoul, "api.gateway", gateway), "api.gateway.upstream", link("us-east-1"))),
        (false, with(&seoul, "aws.kmsKeyArn", json!("arn:aws:kms:us-east-1:111122223333:key/a"))),
        (
            false,
            with(&seoul, "aws", json!({ "accountId": "111122223333", "roleArn": "arn:aws:iam::999922223333:role/a" })),
        ),
        (false, with(&seoul, "aws.externalId", json!("city-7"))),
        (true, with(&seoul, "aws", json!({ "roleArn": "arn:aws:iam::999922223333:role/a", "externalId": "city-7" }))),
        (false, with(&seoul, "aws.tags", json!({ "coactus:system": "mine" }))),
        (false, with(&seoul, "cache.nodeType", json!("cache.r6gd.xlarge"))),
        (true, with(&seoul, "cache.nodeType", json!("cache.r6g.xlarge"))),
        (false, with(&seoul, "export.prefix", json!("athena-results"))),
        (false, with(&seoul, "export.prefix", json!("athena-results/mine"))),
        (true, with(&seoul, "export.prefix", json!("athena-results-of-mine"))),
        (false, with(&seoul, "export.schedule", json!("* * * * *"))),
        (false, with(&seoul, "export.schedule", json!("0,30 4 * * *"))),
        (true, with(&seoul, "export.schedule", json!("07 * * * *"))),
        (true, with(&seoul, "export", json!({ "schedule": "*/15 * * * *", "type": "Incremental" }))),
        (true, with(&seoul, "dispatch.serviceArea", json!({ "polygon": rectangle }))),
        (true, with(&seoul, "dispatch.serviceArea", json!({ "multiPolygon": [rectangle] }))),
        (false, with(&seoul, "dispatch.serviceArea", json!({}))),
        (false, with(&seoul, "dispatch.serviceArea", json!({ "polygon": rectangle, "multiPolygon": [rectangle] }))),
        (true, with(&seoul, "dispatch.eta", json!({ "provider": "Valhalla", "url": "https://a" }))),
        (false, with(&seoul, "dispatch.eta", json!({ "provider": "OSRM" }))),
        (false, with(&seoul, "dispatch.eta", json!({ "url": "http://a" }))),
        (true, with(&seoul, "dispatch.eta", json!({ "provider": "OSRM", "url": "http://10.0.0.1:5000/osrm" }))),
        (false, with(&seoul, "dispatch.eta", json!({ "provider": "OSRM", "url": "http://169.254.169.254/latest" }))),
        (false, with(&seoul, "api.auth", json!({ "issuer": "https://127.0.0.1/", "audiences": ["a"] }))),
        (false, with(&seoul, "api.auth", json!({ "issuer": "https://a/{{resolve:ssm:a}}", "audiences": ["a"] }))),
        (false, with(&seoul, "api.auth", json!({ "issuer": "https://a", "audiences": ["{{resolve:ssm:a}}"] }))),
        (
            false,
            with(
                &seoul,
                "api.auth",
                json!({ "issuer": "https://a", "audiences": ["a"], "jwksUrl": "https://[::1]/keys" }),
            ),
        ),
        (false, with(&seoul, "aws.kmsKeyArn", json!("arn:aws:kms:ap-northeast-2:111122223333:key/*"))),
        (
            false,
            with(
                &seoul,
                "cache",
                json!({ "external": { "url": "redis://a" }, "authSecretRef": { "name": "a", "key": "b" } }),
            ),
        ),
        (
            true,
            with(
                &seoul,
                "cache",
                json!({ "external": { "url": "rediss://a" }, "authSecretRef": { "name": "a", "key": "b" } }),
            ),
        ),
        (
            false,
            with(&seoul, "dispatch.fare.nightSurcharges", json!([{ "from": "22:00", "to": "22:00", "percent": 20 }])),
        ),
        (
            false,
            with(
                &seoul,
                "workers.roles.saveDispatch",
                json!({ "replicas": 1, "autoscaling": { "minReplicas": 1, "maxReplicas": 2 } }),
            ),
        ),
        (false, with(&seoul, "workers.roles.saveDispatch.autoscaling", json!({ "minReplicas": 3, "maxReplicas": 2 }))),
    ]
}

#[tokio::test]
async fn rules_and_validation_agree_on_new_objects() -> anyhow::Result<()> {
    let Some(rules) = Rules::start().await? else { return Ok(()) };
    for (expected, object) in creations() {
        let refused = rules.refusal(&object).await?;
        assert_eq!(refused.is_none(), expected, "the rules on {object}: {refused:?}");
        let invalid = invalid(&object)?;
        assert_eq!(invalid.is_none(), expected, "the validation on {object}: {invalid:?}");
    }
    addresses_are_checked_and_never_repeated(&rules).await?;
    the_defaults_are_those_of_the_types(&rules).await
}

/// An address may contain a password, so neither the rules nor the validation may repeat a refused one.
async fn addresses_are_checked_and_never_repeated(rules: &Rules) -> anyhow::Result<()> {
    let cases = [
        ("cache.external.url", "redis://redis:6379", true),
        ("cache.external.url", "rediss://a.b", true),
        ("cache.external.url", "redis://[fd12:3456::1]:6379", true),
        ("cache.external.url", "redis://localhost:6379", false),
        ("cache.external.url", "redis://[::1]:6379", false),
        ("cache.external.url", "redis://127.0.0.1", false),
        ("cache.external.url", "rediss://169.254.169.254:80", false),
        ("cache.external.url", "http://a", false),
        ("cache.external.url", "redis://user:hunter2@a:1", false),
        ("cache.external.url", "redis://a:1/hunter2", false),
        ("cache.external.url", "redis://", false),
        ("cache.external.url", "redis://a b", false),
        ("api.gateway.upstream.url", "https://a.example.com", true),
        ("api.gateway.upstream.url", "https://a:8443", true),
        ("api.gateway.upstream.url", "https://10.0.0.1", true),
        ("api.gateway.upstream.url", "https://[fe80::1]", false),
        ("api.gateway.upstream.url", "http://a", false),
        ("api.gateway.upstream.url", "https://a/hunter2", false),
        ("api.gateway.upstream.url", "https://user:hunter2@a", false),
        ("api.gateway.upstream.url", "https://", false),
    ];
    for (path, url, expected) in cases {
        let object = with(&minimal(), path, json!(url));
        for answer in [rules.refusal(&object).await?, invalid(&object)?] {
            assert_eq!(answer.is_none(), expected, "{path} {url}: {answer:?}");
            let answer = answer.unwrap_or_default();
            assert!(!answer.contains("hunter2"), "{path}: {answer}");
            assert!(expected || answer.contains(&format!("spec.{path}: ")), "{path} {url}: {answer}");
        }
    }
    Ok(())
}

async fn the_defaults_are_those_of_the_types(rules: &Rules) -> anyhow::Result<()> {
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let stored = rules.systems.create(&dry_run, &serde_json::from_value(minimal())?).await?;
    assert_eq!(stored.data["status"]["observedGeneration"], -1, "a new object must not appear to be reconciled");
    let (server, types): (DispatchSystem, DispatchSystem) =
        (serde_json::from_value(serde_json::to_value(&stored)?)?, serde_json::from_value(minimal())?);
    assert_eq!(server.spec, types.spec);
    Ok(())
}

const IDENTITY: [(&str, &str); 5] = [
    ("city", "seoul"),
    ("region", "ap-northeast-2"),
    ("timezone", "Asia/Seoul"),
    ("currency", "KRW"),
    ("tableName", "coactus-n-seoul"),
];

#[tokio::test]
async fn what_stored_data_depends_on_cannot_be_changed_once_there_is_a_stack() -> anyhow::Result<()> {
    let Some(rules) = Rules::start().await? else { return Ok(()) };
    rules.systems.create(&PostParams::default(), &serde_json::from_value(minimal())?).await?;
    let changes = [
        ("spec.city", json!({ "city": "busan" }), json!({ "city": "seoul" })),
        ("spec.region", json!({ "region": "ap-northeast-1" }), json!({ "region": "ap-northeast-2" })),
        ("spec.timezone", json!({ "timezone": "Asia/Soul" }), json!({ "timezone": "Asia/Seoul" })),
        ("spec.currency", json!({ "currency": "JPY" }), json!({ "currency": "KRW" })),
        ("spec.table.name", json!({ "table": { "name": "rides" } }), json!({ "table": { "name": null } })),
    ];
    let account = |id: Value| json!({ "aws": { "accountId": id } });
    for (path, change, back) in &changes {
        assert_eq!(rules.patch(change).await?, None, "{path} before there is a stack");
        assert_eq!(rules.patch(back).await?, None, "{path} before there is a stack");
    }
    assert_eq!(rules.patch(&account(json!("111122223333"))).await?, None);
    assert_eq!(rules.patch(&account(Value::Null)).await?, None, "before there is a stack");

    let identity: serde_json::Map<_, _> =
        IDENTITY.map(|(name, value)| (name.to_owned(), json!(value))).into_iter().collect();
    let status = json!({ "status": { "observedGeneration": 1, "conditions": [], "identity": identity } });
    rules.systems.patch_status("seoul", &PatchParams::default(), &Patch::Merge(&status)).await?;
    for (path, change, _) in &changes {
        let refused = rules.patch(change).await?.with_context(|| format!("{path} can be changed"))?;
        ensure!(
            refused.contains(&format!("{path}: Forbidden: ")) && refused.contains("immutable"),
            "{path}: {refused}"
        );
    }
    assert_eq!(rules.patch(&json!({ "suspend": true })).await?, None, "another field");
    assert_eq!(rules.patch(&account(json!("111122223333"))).await?, None, "an account can be named later");
    for id in [json!("999922223333"), Value::Null] {
        let refused = rules.patch(&account(id)).await?.context("the account can be changed")?;
        ensure!(refused.contains("spec.aws.accountId: Forbidden: "), "{refused}");
    }
    what_an_earlier_definition_let_in_can_stay_and_be_changed_back(&rules).await
}

/// The operator can write its status and let the object go.
async fn what_an_earlier_definition_let_in_can_stay_and_be_changed_back(rules: &Rules) -> anyhow::Result<()> {
    rules.server.install_lax_crd().await?;
    assert_eq!(rules.patch(&json!({ "city": "busan" })).await?, None);
    rules.server.restore_crd().await?;
    assert_eq!(rules.patch(&json!({ "suspend": false })).await?, None, "another field");
    let status = json!({ "status": { "observedGeneration": 2 } });
    rules.systems.patch_status("seoul", &PatchParams::default(), &Patch::Merge(&status)).await?;
    let finalizer = json!({ "metadata": { "finalizers": ["example.com/one"] } });
    rules.systems.patch("seoul", &PatchParams::default(), &Patch::Merge(&finalizer)).await?;
    assert!(rules.patch(&json!({ "city": "jeju" })).await?.is_some());
    assert_eq!(rules.patch(&json!({ "city": "seoul" })).await?, None);
    Ok(())
}
