//! The objects that lead to the API, and what the proxies of a cluster say of them.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::stage::{Stage, city, condition, file, is_true};

const AT: (&str, &str) = ("routes", "seoul");
const HOST: &str = "seoul.example.com";

fn object(stage: &Stage, kind: &str) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&stage.api.kubectl(&["get", kind, "seoul-api", "-n", AT.0, "-o", "json"])?)?)
}

fn says(stage: &Stage, kind: &str, status: &Value) -> anyhow::Result<()> {
    let patch = json!({ "status": status }).to_string();
    let of = ["patch", kind, "seoul-api", "-n", AT.0, "--subresource=status", "--type=merge", "-p", &patch];
    stage.api.kubectl(&of).map(drop)
}

async fn until_routes(stage: &Stage, reason: &str) -> anyhow::Result<String> {
    // Without being a part of `Ready`.
    let found = |system: &Value| {
        is_true(system, "Ready") && condition(system, "RoutesAccepted").is_some_and(|routes| routes["reason"] == reason)
    };
    let system = stage.until(AT, reason, found).await?;
    Ok(condition(&system, "RoutesAccepted").context("the condition")?["message"]
        .as_str()
        .unwrap_or_default()
        .to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ingress_and_a_route_lead_to_the_api_and_the_status_says_what_the_proxies_say() -> anyhow::Result<()> {
    let Some(stage) = Stage::set("cluster-wide").await? else { return Ok(()) };
    let operator = stage.operator(&["--resync-seconds=2", "--allowed-hosts=None"]).await?;
    stage.namespace(AT.0)?;

    // The administrator decides which hosts a namespace has, and the layout is a rule.
    let ingress = json!({ "ingress": { "host": HOST, "className": "nginx", "tlsSecretName": "seoul-tls" } });
    let split = city(AT.1, &json!({ "api": ingress }));
    let refused = stage.apply(AT.0, &split).err().context("accepted in the layout Split")?.to_string();
    ensure!(refused.contains("require workers.layout Combined"), "{refused}");
    stage.apply(AT.0, &city(AT.1, &json!({ "api": ingress, "workers": { "layout": "Combined" } })))?;
    let denied = |system: &Value| condition(system, "SpecAllowed").is_some_and(|allowed| allowed["status"] == "False");
    let system = stage.until(AT, "the denial", denied).await?;
    let message = condition(&system, "SpecAllowed").context("SpecAllowed")?["message"].to_string();
    ensure!(message.contains("hosts of spec.api: seoul.example.com is not allowed"), "{message}");
    let list = "dispatch.coactus.io/allowed-hosts=*.example.com";
    stage.api.kubectl(&["annotate", "namespace", AT.0, list])?;

    until_routes(&stage, "RoutePending").await?;
    let rule = object(&stage, "ingress")?["spec"]["rules"][0].clone();
    assert_eq!(rule["host"], HOST);
    assert_eq!(rule["http"]["paths"][0]["backend"]["service"]["name"], "seoul-api");
    says(&stage, "ingress", &json!({ "loadBalancer": { "ingress": [{ "ip": "203.0.113.7" }] } }))?;
    let message = until_routes(&stage, "RoutesAccepted").await?;
    assert_eq!(message, "Ingress seoul-api has the address 203.0.113.7");

    // A cluster without the Gateway API, which gets it.
    let route = json!({ "gateways": [{ "name": "public", "namespace": "edge" }], "hosts": [HOST] });
    stage.patch(AT.0, AT.1, &json!({ "spec": { "api": { "ingress": null, "httpRoute": route } } }))?;
    let message = until_routes(&stage, "KindMissing").await?;
    ensure!(
        message.contains("gateway.networking.k8s.io/v1") && message.contains("install the Gateway API"),
        "{message}"
    );
    ensure!(object(&stage, "ingress").is_err(), "the Ingress is still there");
    stage.api.kubectl(&["apply", "-f", &file("tests/fixtures/gateway-api/httproutes.yaml")])?;
    until_routes(&stage, "RoutePending").await?;
    let spec = object(&stage, "httproute")?["spec"].clone();
    assert_eq!((&spec["hostnames"][0], &spec["parentRefs"][0]["namespace"]), (&json!(HOST), &json!("edge")));
    let parent = |accepted: &str| {
        let condition = json!({ "type": "Accepted", "status": accepted, "reason": "NotAllowedByListeners",
            "message": "routes of this namespace may not attach" });
        json!({ "parents": [{ "parentRef": { "name": "public" }, "conditions": [condition] }] })
    };
    says(&stage, "httproute", &parent("False"))?;
    let message = until_routes(&stage, "RouteRejected").await?;
    ensure!(message.contains("routes of this namespace may not attach"), "{message}");
    says(&stage, "httproute", &parent("True"))?;
    until_routes(&stage, "RoutesAccepted").await?;

    stage.patch(AT.0, AT.1, &json!({ "spec": { "api": { "httpRoute": null } } }))?;
    stage.until(AT, "no condition", |system| condition(system, "RoutesAccepted").is_none()).await?;
    ensure!(object(&stage, "httproute").is_err(), "the HTTPRoute is still there");
    stage.delete(AT.0, AT.1)?;
    stage.until_gone(AT).await?;
    operator.was_never_denied()
}
