//! What the schema does not say: the base spec in which a field has an effect, valid values of strings, invalid values
//! that fit the schema, and the fields whose effect is not part of the compared state.

use serde_json::{Value, json};

use super::schema::Node;

/// Secrets that the specs below name, with their keys.
pub(super) const SECRETS: [(&str, &str); 4] =
    [("push", "key.json"), ("push-2", "key-2.json"), ("redis", "token"), ("redis-2", "token-2")];

/// `ConfigMap`s that the specs below name, with one key each; both have both keys.
pub(super) const CONFIG_MAPS: [(&str, &str); 2] = [("settings", "ca.crt"), ("settings-2", "ca-2.crt")];

const LISTENER: &str = "arn:aws:elasticloadbalancing:ap-northeast-2:000000000000:listener/app/workers/1a/2b";
const SUBNETS: [&str; 2] = ["subnet-0a1b2c3d", "subnet-0a1b2c3e"];
const GROUPS: [&str; 2] = ["sg-0a1b2c3d", "sg-0a1b2c3e"];

/// Rings of service areas.
const POLYGON: [[[f64; 2]; 5]; 1] = [[[126.7, 37.4], [127.2, 37.4], [127.2, 37.7], [126.7, 37.7], [126.7, 37.4]]];
const OTHER_POLYGON: [[[f64; 2]; 4]; 1] = [[[127.0, 37.5], [127.3, 37.5], [127.3, 37.8], [127.0, 37.5]]];

/// Base spec of a stage: the smallest spec in which the stage's fields have an effect. The fields of a stage share one
/// object.
pub(super) fn stage(name: &str) -> Value {
    let mut spec = json!({ "city": "seoul", "region": "ap-northeast-2", "timezone": "Asia/Seoul" });
    let jwt = json!({ "issuer": "https://login.example.com/", "audiences": ["dispatch"] });
    let capacity = json!({ "min": 5, "max": 50 });
    match name {
        "gateway" => {
            let upstream = json!({ "url": "https://workers.example.com" });
            spec["api"] = json!({ "gateway": { "enabled": true, "upstream": upstream, "jwt": jwt } });
        }
        "private-gateway" => {
            let upstream = json!({ "vpcLink": { "listenerArn": LISTENER, "subnetIds": [SUBNETS[0]] } });
            spec["api"] = json!({ "gateway": { "enabled": true, "upstream": upstream, "jwt": jwt } });
        }
        "assumed" => spec["aws"] = json!({ "roleArn": "arn:aws:iam::000000000000:role/operator" }),
        "auth" => spec["api"] = json!({ "auth": jwt }),
        "ingress" => {
            spec["api"] = json!({ "ingress": { "host": "seoul.example.com" } });
            spec["workers"] = json!({ "layout": "Combined" });
        }
        "http-route" => {
            let route = json!({ "gateways": [{ "name": "public" }], "hosts": ["seoul.example.com"] });
            spec["api"] = json!({ "httpRoute": route });
            spec["workers"] = json!({ "layout": "Combined" });
        }
        "limits" => {
            let limit = json!({ "ratePerSecond": 100, "burst": 200 });
            spec["api"] = json!({ "limits": { "perAddress": limit, "perSubject": limit } });
        }
        "provisioned" => {
            spec["table"] = json!({ "billing": { "mode": "Provisioned", "read": capacity, "write": capacity } });
        }
        "subnets" => spec["cache"] = json!({ "subnetIds": [SUBNETS[0]] }),
        "external-cache" => spec["cache"] = json!({ "external": { "url": "rediss://redis.example.com:6380" } }),
        "analytics" => spec["export"] = json!({ "analytics": {} }),
        "push" => {
            let (name, key) = SECRETS[0];
            spec["notifications"] = json!({ "fcm": { "serviceAccountSecretRef": { "name": name, "key": key } } });
        }
        "cache-token" => {
            let (name, key) = SECRETS[2];
            spec["cache"] = json!({ "authSecretRef": { "name": name, "key": key } });
        }
        "autoscaled" => {
            let role = json!({ "autoscaling": { "minReplicas": 2, "maxReplicas": 4 } });
            spec["workers"] = json!({ "roles": {
                "dispatchAlgorithm": role, "driverResponse": role, "saveDispatch": role, "statusUpdate": role } });
        }
        "combined" => spec["workers"] = json!({ "layout": "Combined" }),
        "combined-autoscaled" => {
            let autoscaling = json!({ "minReplicas": 2, "maxReplicas": 4 });
            spec["workers"] = json!({ "layout": "Combined", "combined": { "autoscaling": autoscaling } });
        }
        "env-secret" => spec["workers"] = json!({ "envFrom": [{ "secretRef": { "name": SECRETS[2].0 } }] }),
        "env-map" => spec["workers"] = json!({ "envFrom": [{ "configMapRef": { "name": CONFIG_MAPS[0].0 } }] }),
        "bundle" => {
            let (name, key) = CONFIG_MAPS[0];
            spec["workers"] = json!({ "caBundle": { "name": name, "key": key } });
        }
        "pull" => spec["workers"] = json!({ "imagePullSecrets": [{ "name": "registry" }] }),
        "tolerant" => {
            let toleration = json!({ "key": "dedicated", "value": "dispatch", "effect": "NoSchedule" });
            spec["workers"] = json!({ "scheduling": { "tolerations": [toleration] } });
        }
        "affine" => {
            let zones = json!({ "key": "topology.kubernetes.io/zone", "operator": "In", "values": ["a"] });
            let fast = json!({ "key": "generation", "operator": "Gt", "values": ["6"] });
            let preferred = json!([{ "weight": 50, "matchExpressions": [fast] }]);
            let affinity = json!({ "required": [zones], "preferred": preferred });
            spec["workers"] = json!({ "scheduling": { "nodeAffinity": affinity } });
        }
        "nights" => {
            let nights = json!([{ "from": "22:00", "to": "04:00", "percent": 20 }]);
            spec["dispatch"] = json!({ "fare": { "nightSurcharges": nights } });
        }
        "area" => spec["dispatch"] = json!({ "serviceArea": { "polygon": POLYGON } }),
        "areas" => spec["dispatch"] = json!({ "serviceArea": { "multiPolygon": [POLYGON] } }),
        "router" => {
            let eta = json!({ "provider": "OSRM", "url": "http://osrm.example.com:5000" });
            spec["dispatch"] = json!({ "eta": eta });
        }
        _ => {}
    }
    spec
}

/// The [`stage`] of a node.
pub(super) fn stage_of(node: &Node) -> String {
    let name = node.name();
    if name.starts_with("workers.combined.autoscaling.") {
        return "combined-autoscaled".to_owned();
    }
    if name.contains(".autoscaling.") {
        return "autoscaled".to_owned();
    }
    for (prefix, stage) in [
        ("aws.externalId", "assumed"),
        // A managed cache has both from its creation on.
        ("aws.kmsKeyArn", "external-cache"),
        ("api.auth.", "auth"),
        ("api.limits.", "limits"),
        ("api.ingress", "ingress"),
        ("api.httpRoute", "http-route"),
        ("api.gateway.upstream.vpcLink", "private-gateway"),
        ("api.gateway.", "gateway"),
        ("table.billing.", "provisioned"),
        ("cache.external.", "external-cache"),
        // A cache in the default subnet group cannot leave it.
        ("cache.subnetIds", "subnets"),
        ("export.analytics.", "analytics"),
        ("notifications.fcm.", "push"),
        ("cache.authSecretRef.", "cache-token"),
        ("cache.authSecretRef", "external-cache"),
        ("workers.combined", "combined"),
        ("workers.envFrom[].secretRef", "env-secret"),
        ("workers.envFrom[].configMapRef", "env-map"),
        ("workers.caBundle.", "bundle"),
        ("workers.imagePullSecrets[].", "pull"),
        ("workers.scheduling.tolerations[].", "tolerant"),
        ("workers.scheduling.nodeAffinity.", "affine"),
        ("dispatch.fare.nightSurcharges[].", "nights"),
        ("dispatch.eta.", "router"),
        ("dispatch.serviceArea.multiPolygon", "areas"),
        ("dispatch.serviceArea.", "area"),
        // These have an effect in every stage; separate objects only make the test faster.
        ("dispatch.fare.", "fare"),
        ("queues.notifications.", "notifications-queue"),
        ("queues.offers.", "offers-queue"),
        ("workers.resources.", "worker-resources"),
        ("workers.roles.", "roles"),
    ] {
        if name.starts_with(prefix) {
            return stage.to_owned();
        }
    }
    // All others have an effect in the minimal spec. Each group gets a separate object, so that groups are tested in
    // parallel.
    let group = &node.path[0];
    if !node.is_group() && node.path.len() == 1 { "whole".to_owned() } else { group.clone() }
}

/// Valid values of a node other than `now`. Empty if only the fields of a group can be changed, see [`Node::is_leaf`].
pub(super) fn right(node: &Node, now: &Value) -> Vec<Value> {
    let name = node.name();
    if let Some(values) = semantic(&name) {
        return values;
    }
    let schema = &node.schema;
    match schema["type"].as_str().unwrap_or_default() {
        "boolean" => vec![json!(!now.as_bool().unwrap_or(false))],
        "integer" => {
            let (least, most) = (schema["minimum"].as_i64().unwrap_or(0), schema["maximum"].as_i64());
            let now = now.as_i64().unwrap_or(least);
            let most = most.unwrap_or(now * 2);
            let ends = [least, most].into_iter().filter(|end| *end != now && near(&name));
            let next = if now < most { now + 1 } else { now - 1 };
            ends.chain([next]).map(|value| json!(value)).collect()
        }
        "string" => {
            let all = schema["enum"].as_array().cloned().unwrap_or_default();
            all.into_iter().filter(|value| value != now).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether both ends of the range are valid regardless of the other fields.
fn near(name: &str) -> bool {
    (name.starts_with("dispatch.") && !name.contains("offerTimeout")) || name.ends_with("targetCpuPercent")
}

fn semantic(name: &str) -> Option<Vec<Value>> {
    let (push, redis) = (SECRETS[1], SECRETS[3]);
    let last = name.rsplit('.').next().unwrap_or_default();
    let value = match name {
        "aws.accountId" => json!("000000000000"),
        "aws.kmsKeyArn" => json!("arn:aws:kms:ap-northeast-2:000000000000:key/1a2b"),
        "aws.permissionsBoundaryArn" => json!("arn:aws:iam::000000000000:policy/boundary"),
        "aws.roleArn" => json!("arn:aws:iam::000000000000:role/mobility/operator"),
        "aws.eksClusterName" => json!("production_1"),
        "aws.oidcProviderArn" => {
            json!("arn:aws:iam::000000000000:oidc-provider/oidc.eks.ap-northeast-2.amazonaws.com/id/0A1B2C3D")
        }
        "aws.workerPrincipalArn" => json!("arn:aws:iam::111122223333:role/cluster/workers"),
        "aws.tags" => json!({ "team": "mobility", "cost-centre": "42" }),
        "aws.externalId" => json!("coactus/seoul:7"),
        "api.auth" => json!({ "issuer": "https://login.example.com/", "audiences": ["dispatch"] }),
        "api.auth.audiences" | "api.gateway.jwt.audiences" => json!(["dispatch", "drivers"]),
        "api.auth.issuer" | "api.gateway.jwt.issuer" => json!("https://accounts.example.com/realm"),
        "api.auth.jwksUrl" => json!("https://keys.example.com/jwks.json"),
        "api.limits.clientAddressHeader" => json!("x-real-ip"),
        "api.limits.clientAddressHops" => json!(2),
        "api.ingress" => json!({ "host": "rides.example.com", "className": "nginx" }),
        "api.ingress.host" => json!("rides.example.com"),
        "api.ingress.className" => json!("nginx"),
        "api.ingress.tlsSecretName" => json!("seoul-tls"),
        "api.httpRoute" => json!({ "gateways": [{ "name": "internal" }], "hosts": ["rides.example.com"] }),
        "api.httpRoute.hosts" => json!(["rides.example.com", "seoul.example.com"]),
        "api.httpRoute.gateways" => json!([{ "name": "internal", "namespace": "edge", "listener": "https" }]),
        "api.httpRoute.gateways[].name" => json!("internal"),
        "api.httpRoute.gateways[].namespace" => json!("edge"),
        "api.httpRoute.gateways[].listener" => json!("https"),
        "api.gateway.jwt" => json!({ "issuer": "https://other.example.com", "audiences": ["riders"] }),
        "api.gateway.upstream" => json!({ "vpcLink": { "listenerArn": LISTENER, "subnetIds": SUBNETS } }),
        "api.gateway.upstream.url" => json!("https://other.example.com:8443"),
        "api.gateway.upstream.vpcLink" => {
            json!({ "listenerArn": format!("{LISTENER}3c"), "subnetIds": [SUBNETS[1]], "securityGroupIds": GROUPS })
        }
        "api.gateway.upstream.vpcLink.listenerArn" => json!(format!("{LISTENER}3c")),
        "cache.authSecretRef" => json!({ "name": SECRETS[2].0, "key": SECRETS[2].1 }),
        "cache.authSecretRef.name" | "cache.authSecretRef.key" => json!(part_of(last, redis)),
        "cache.external" => json!({ "url": "rediss://redis.mobility.svc:6379" }),
        "cache.external.url" => json!("redis://[fd12:3456::7]:6379"),
        "cache.nodeType" => json!("cache.r7g.large"),
        "connection.configMapName" | "connection.secretName" => json!(format!("{name}-of-seoul").to_lowercase()),
        "deletionPolicy" => json!("Delete"),
        "dispatch.eta.provider" => json!("Valhalla"),
        "dispatch.eta.url" => json!("https://router.example.com/osrm"),
        "dispatch.fare.nightSurcharges" => json!([{ "from": "21:00", "to": "05:30", "percent": 25 }]),
        "dispatch.fare.nightSurcharges[].from" => json!("20:30"),
        "dispatch.fare.nightSurcharges[].to" => json!("05:15"),
        "dispatch.searchRingsMeters" => json!([500, 2500]),
        "dispatch.serviceArea" => json!({ "polygon": POLYGON }),
        "dispatch.serviceArea.polygon" => json!(OTHER_POLYGON),
        "dispatch.serviceArea.multiPolygon" => json!([POLYGON, OTHER_POLYGON]),
        // Another interval affects only later drift.
        "driftIntervalSeconds" => return Some(vec![json!(0)]),
        "export.analytics" => json!({}),
        "export.prefix" => json!("archive/rides"),
        "export.schedule" => json!("30 4 * * 1-5"),
        "notifications.fcm" => json!({ "serviceAccountSecretRef": { "name": SECRETS[0].0, "key": SECRETS[0].1 } }),
        "notifications.fcm.serviceAccountSecretRef" => json!({ "name": push.0, "key": push.1 }),
        "notifications.fcm.serviceAccountSecretRef.name" | "notifications.fcm.serviceAccountSecretRef.key" => {
            json!(part_of(last, push))
        }
        "table.billing.mode" => json!("OnDemand"),
        "table.billing.read" | "table.billing.write" => json!({ "min": 7, "max": 7 }),
        "workers.caBundle" => json!({ "name": CONFIG_MAPS[0].0, "key": CONFIG_MAPS[0].1 }),
        "workers.caBundle.name" | "workers.caBundle.key" => json!(part_of(last, CONFIG_MAPS[1])),
        "workers.env" => json!({ "RUST_LOG": "debug", "AWS_USE_FIPS_ENDPOINT": "true" }),
        "workers.envFrom" => json!([{ "secretRef": { "name": SECRETS[2].0 } }]),
        "workers.envFrom[].secretRef" => json!({ "name": SECRETS[3].0 }),
        "workers.envFrom[].secretRef.name" => json!(SECRETS[3].0),
        "workers.envFrom[].configMapRef" => json!({ "name": CONFIG_MAPS[1].0 }),
        "workers.envFrom[].configMapRef.name" => json!(CONFIG_MAPS[1].0),
        "workers.imagePullSecrets" => json!([{ "name": "registry" }]),
        "workers.imagePullSecrets[].name" => json!("registry-2"),
        "workers.scheduling.runtimeClassName" => json!("gvisor"),
        "workers.scheduling.tolerations" => json!([{ "key": "example.com/dedicated" }]),
        "workers.scheduling.tolerations[].key" => json!("example.com/dedicated"),
        "workers.scheduling.tolerations[].value" => json!("rides"),
        _ if name.starts_with("workers.scheduling.nodeAffinity.") => return node_affinity(name),
        "workers.image" => json!("registry.example.com/mobility/runtime:2.1"),
        "workers.resources.cpuRequest" => json!("250m"),
        "workers.resources.memoryLimit" => json!("1Gi"),
        "workers.resources.memoryRequest" => json!("128Mi"),
        "workers.scheduling.nodeSelector" => json!({ "kubernetes.io/arch": "arm64" }),
        "workers.scheduling.priorityClassName" => json!("business-critical"),
        "workers.serviceAccountAnnotations" => {
            json!({ "eks.amazonaws.com/role-arn": "arn:aws:iam::000000000000:role/workers" })
        }
        _ if name.starts_with("api.auth.claims.") => json!(format!("https://example.com/{last}")),
        _ if last == "autoscaling" => json!({ "minReplicas": 3, "maxReplicas": 9, "targetCpuPercent": 55 }),
        _ if last == "subnetIds" => json!(SUBNETS),
        _ if last == "securityGroupIds" => json!(GROUPS),
        _ => return None,
    };
    Some(vec![value])
}

fn node_affinity(name: &str) -> Option<Vec<Value>> {
    let value = match name.trim_start_matches("workers.scheduling.nodeAffinity.") {
        "required" => json!([{ "key": "kubernetes.io/arch", "operator": "NotIn", "values": ["arm64"] }]),
        "required[].key" => json!("zone"),
        "required[].operator" => json!("NotIn"),
        "required[].values" => json!(["a", "b"]),
        "preferred" => {
            let spot = json!({ "key": "spot", "operator": "DoesNotExist" });
            json!([{ "weight": 1, "matchExpressions": [spot] }])
        }
        "preferred[].matchExpressions" => json!([{ "key": "spot", "operator": "Exists" }]),
        "preferred[].matchExpressions[].key" => json!("age"),
        "preferred[].matchExpressions[].operator" => json!("Lt"),
        "preferred[].matchExpressions[].values" => json!(["7"]),
        _ => return None,
    };
    Some(vec![value])
}

/// Name and key of a reference are changed one at a time, so each Secret has the keys of the others as well.
fn part_of(field: &str, (name, key): (&'static str, &'static str)) -> &'static str {
    if field == "name" { name } else { key }
}

/// Fields of the same group that must be removed when a field gets its valid value.
pub(super) fn removes(name: &str) -> &'static [&'static str] {
    if name == "table.billing.mode" { &["read", "write"] } else { &[] }
}

/// Values that fit the schema but are invalid.
pub(super) fn wrong(name: &str) -> Vec<Value> {
    let one = match name {
        "aws.kmsKeyArn" => json!("arn:aws:kms:us-east-1:000000000000:key/1a2b"),
        "aws.tags" => return vec![json!({ "aws:mine": "a" }), json!({ "coactus:system": "a" }), json!({ "": "a" })],
        "api.auth.audiences" | "api.gateway.jwt.audiences" => json!([" "]),
        "api.auth.issuer" | "api.auth.jwksUrl" | "api.gateway.jwt.issuer" => {
            json!("https://login.example.com/?query")
        }
        "api.auth.claims.user" | "api.auth.claims.driver" | "api.auth.claims.payments" => json!("operations"),
        "api.auth.claims.operations" => json!("driver"),
        "api.gateway.upstream" => return vec![json!({})],
        "api.gateway.upstream.url" => {
            return vec![json!("http://workers.example.com"), json!("https://me:hunter2@workers.example.com")];
        }
        "api.gateway.upstream.vpcLink.listenerArn" => json!(LISTENER.replace("ap-northeast-2", "us-east-1")),
        "cache.external.url" => {
            return vec![
                json!("redis://me:hunter2@redis:6379"),
                json!("https://redis.example.com"),
                json!("rediss://localhost:6379"),
            ];
        }
        "cache.nodeType"
        | "cache.replicas"
        | "cache.engineVersion"
        | "table.pointInTimeRecovery"
        | "export.analytics" => {
            return Vec::new();
        }
        "dispatch.eta.provider" => json!("StraightLine"),
        "dispatch.eta.url" => {
            return vec![
                json!("http://me:hunter2@osrm.example.com"),
                json!("ftp://osrm.example.com"),
                json!("http://169.254.169.254/latest"),
            ];
        }
        "dispatch.fare.nightSurcharges[].to" => json!("22:00"),
        "dispatch.serviceArea" => return vec![json!({}), json!({ "polygon": POLYGON, "multiPolygon": [POLYGON] })],
        "dispatch.serviceArea.polygon" => json!([[[126.7, 37.4], [127.2, 37.4], [127.2, 37.7], [126.7, 37.7]]]),
        "dispatch.serviceArea.multiPolygon" => json!([[[[37.4, 126.7], [37.4, 127.2], [37.7, 127.2], [37.4, 126.7]]]]),
        "dispatch.searchRingsMeters" => return vec![json!([700, 700]), json!([3000, 700])],
        "driftIntervalSeconds" => json!(59),
        "export.schedule" => return vec![json!("every day at four"), json!("0 4 * * * *"), json!("61 4 * * *")],
        "queues.offers.retentionSeconds" => json!(120),
        "table.billing.read.max" | "table.billing.write.max" => json!(4),
        "table.billing.read.min" | "table.billing.write.min" => json!(51),
        "timezone" => return vec![json!("Mars/Olympus"), json!("asia/seoul")],
        "workers.env" => {
            return vec![json!({ "AWS_ENDPOINT_URL": "https://aws.example.com" }), json!({ "LD_PRELOAD": "x" })];
        }
        "workers.envFrom" => {
            let (secret, map) = (json!({ "name": SECRETS[2].0 }), json!({ "name": CONFIG_MAPS[0].0 }));
            return vec![json!([{ "secretRef": secret, "configMapRef": map }])];
        }
        "workers.image" => json!("not an image"),
        "workers.resources.memoryLimit" => json!("32Mi"),
        "workers.resources.memoryRequest" => json!("512Mi"),
        "workers.scheduling.nodeSelector" => json!({ "a": "no label value" }),
        "workers.scheduling.nodeAffinity.required" => return vec![json!([{ "key": "zone", "operator": "In" }])],
        "workers.scheduling.nodeAffinity.preferred[].matchExpressions[].values" => json!(["six"]),
        _ if name.ends_with("visibilityTimeoutSeconds") => json!(345_600),
        _ if name.ends_with("autoscaling.maxReplicas") => json!(1),
        _ if name.ends_with("autoscaling.minReplicas") => json!(5),
        _ => return Vec::new(),
    };
    vec![one]
}

/// Fields whose change does not affect the compared state, with the reason.
pub(super) fn silent(name: &str) -> Option<&'static str> {
    Some(match name {
        "approvalPolicy" => "affects only the next change; approvals have separate tests",
        "driftPolicy" => "affects only later drift; drift has separate tests",
        "export.format" | "export.type" => "used only when an export starts",
        _ => return None,
    })
}

/// Another value of an immutable field.
pub(super) fn other(name: &str) -> Value {
    json!(match name {
        "city" => "busan",
        "region" => "ap-northeast-1",
        "timezone" => "Asia/Tokyo",
        "currency" => "JPY",
        "table.name" => "rides",
        _ => "111122223333",
    })
}

/// Immutable fields.
pub(super) const FIXED: [&str; 6] = ["city", "region", "timezone", "currency", "table.name", "aws.accountId"];
