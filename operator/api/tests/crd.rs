//! The custom resource definition: complete, and consistent with the validation in this crate.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use dispatch_api::crd::crd;
use dispatch_api::dispatch_system::DispatchSystem;
use dispatch_api::manifest::read_manifests;
use dispatch_api::validate::ValidatedSystem;
use kube_cel::{ValidationErrors, Validator, apply_defaults, compile_schema, estimate_rule_cost};
use regex::Regex;
use serde_json::{Value, json};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn schema() -> Outcome<Value> {
    Ok(serde_json::to_value(crd())?["spec"]["versions"][0]["schema"]["openAPIV3Schema"].take())
}

fn minimal() -> Value {
    json!({
        "apiVersion": "dispatch.coactus.io/v1alpha1",
        "kind": "DispatchSystem",
        "metadata": { "name": "seoul" },
        "spec": { "city": "seoul", "region": "ap-northeast-2", "timezone": "Asia/Seoul" },
    })
}

/// `base` with `value` at the dotted `path` below `spec`; null removes the field.
fn with(base: &Value, path: &str, value: Value) -> Value {
    let mut changed = base.clone();
    let mut at = &mut changed["spec"];
    for name in path.split('.') {
        at = &mut at[name];
    }
    *at = value;
    changed
}

/// Calls `visit` with the path of every schema below `schema`.
fn walk(schema: &Value, path: &str, visit: &mut dyn FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        walk(field, &format!("{path}.{name}"), visit);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            walk(&schema[inner], &format!("{path}[]"), visit);
        }
    }
}

#[test]
fn the_defaults_of_the_schema_are_those_of_the_types() -> Outcome {
    let defaulted = apply_defaults(&schema()?, &minimal());
    assert_eq!(defaulted["status"]["observedGeneration"], -1, "a new object must not appear to be reconciled");
    let schemas: DispatchSystem = serde_json::from_value(defaulted)?;
    let types: DispatchSystem = serde_json::from_value(minimal())?;
    assert_eq!(schemas.spec, types.spec);
    Ok(())
}

/// An absent group and an empty group are equivalent.
#[test]
fn the_default_of_a_group_is_the_defaults_of_its_members() -> Outcome {
    let mut groups = 0;
    walk(&schema()?["properties"]["spec"], "spec", &mut |path, field| {
        // A group with required members cannot be empty.
        let may_be_empty = !field["required"].is_array();
        if field["properties"].is_object() && field["default"].is_object() && may_be_empty {
            groups += 1;
            assert_eq!(field["default"], apply_defaults(field, &json!({})), "{path}");
        }
    });
    assert!(groups >= 20, "{groups} groups");
    Ok(())
}

#[test]
fn every_field_is_described_and_bounded() -> Outcome {
    let spec = &schema()?["properties"]["spec"];
    let mut poor = Vec::new();
    walk(spec, "spec", &mut |path, field| {
        let bounded = match field["type"].as_str().unwrap_or_default() {
            "string" => field["enum"].is_array() || field["maxLength"].is_number(),
            "integer" => field["minimum"].is_number() && (field["maximum"].is_number() || path.ends_with("PerQuery")),
            "array" => field["maxItems"].is_number(),
            "object" => field["properties"].is_object() || field["maxProperties"].is_number(),
            "boolean" => true,
            _ => false,
        };
        let described = field["description"].is_string() || path.ends_with("[]");
        let plain = field["nullable"].is_null() && !field["format"].as_str().is_some_and(|f| f.starts_with("uint"));
        // Kubernetes bounds the values of annotations and labels.
        let elsewhere = path.ends_with("nnotations[]") || path.ends_with("nodeSelector[]");
        if !(described && plain && (bounded || elsewhere)) {
            poor.push(path.to_owned());
        }
    });
    assert_eq!(poor, [""; 0]);
    Ok(())
}

/// A field, valid strings and invalid strings.
const TEXTS: &[(&str, &[&str], &[&str])] = &[
    ("city", &["seoul", "new-york-2", "s"], &["Seoul", "-seoul", "seoul-", "se oul", "서울"]),
    (
        "region",
        &["ap-northeast-2", "us-gov-west-1", "eusc-de-east-1"],
        &["seoul", "ap-northeast", "ap--2", "AP-EAST-1"],
    ),
    ("currency", &["KRW", "USD"], &["won", "KR", "₩₩₩"]),
    ("aws.accountId", &["012345678901"], &["12345678901", "1234567890123", "12345678901a"]),
    (
        "aws.roleArn",
        &["arn:aws:iam::111122223333:role/a/b", "arn:aws-cn:iam::111122223333:role/a"],
        &["arn:aws:iam::111122223333:user/a", "arn:aws:iam::1:role/a", "role/a", "arn:aws:iam::111122223333:role/"],
    ),
    ("aws.externalId", &["a1", "city:seoul/2=x"], &["a b", "a;b", "서울"]),
    (
        "aws.permissionsBoundaryArn",
        &["arn:aws:iam::aws:policy/PowerUserAccess", "arn:aws:iam::111122223333:policy/a"],
        &["arn:aws:iam:::policy/a", "arn:aws:iam::111122223333:role/a"],
    ),
    (
        "aws.kmsKeyArn",
        &["arn:aws:kms:ap-northeast-2:111122223333:key/1-a"],
        &["arn:aws:kms:ap-northeast-2:111122223333:alias/a", "1-a"],
    ),
    ("table.name", &["dispatch", "a.b_c-D"], &["di spatch", "dispatch/1"]),
    (
        "cache.nodeType",
        &["cache.t4g.small", "cache.r7g.2xlarge"],
        &["t4g.small", "cache.t4g", "cache.t4g.small.x", "cache.T4g.small"],
    ),
    (
        "cache.subnetIds[]",
        &["subnet-0a1b2c3d", "subnet-0a1b2c3d4e5f60718"],
        &["subnet-1", "sg-0a1b2c3d", "subnet-0A1B2C3D"],
    ),
    ("cache.securityGroupIds[]", &["sg-0a1b2c3d"], &["subnet-0a1b2c3d", "sg-"]),
    ("cache.authSecretRef.name", &["redis", "a.b-c"], &["Redis", "a..b", "-a", "a."]),
    ("cache.authSecretRef.key", &["token", "service_account.json", ".a"], &["to ken", "a/b"]),
    ("connection.configMapName", &["seoul-dispatch", "a.b-c"], &["Seoul", "a..b", "-a", ""]),
    ("connection.secretName", &["seoul-dispatch"], &["Seoul", "a_b"]),
    ("export.prefix", &["exports", "a/b_c-D"], &["/a", "a/", "a b", ""]),
    ("api.gateway.jwt.issuer", &["https://a", "https://a/b/", "https://a:1/b"], &["http://a", "https://", "a"]),
    ("api.auth.issuer", &["https://a", "https://a/b/", "https://a:1/b"], &["http://a", "https://", "a"]),
    ("api.auth.claims.id", &["sub", "https://a/id"], &["two words", "a\n", "", "서울"]),
    ("api.auth.claims.scopes", &["scope"], &["two words", "a\n", "", "서울"]),
    ("api.auth.claims.user", &["user", "a:user"], &["two words", "a\n", "", "서울"]),
    ("api.auth.claims.driver", &["driver"], &["two words", "a\n", "", "서울"]),
    ("api.auth.claims.operations", &["operations"], &["two words", "a\n", "", "서울"]),
    ("api.auth.jwksUrl", &["https://a/keys.json"], &["http://a/keys.json", "https://", "keys.json"]),
    ("api.limits.clientAddressHeader", &["x-client-address"], &["x client", "x:y", ""]),
    ("dispatch.fare.nightSurcharges[].from", &["00:00", "23:59"], &["24:00", "9:00", "22:60", "22.00"]),
    (
        "dispatch.eta.url",
        &["http://osrm:5000", "https://a/b/c", "http://[::1]:8002/"],
        &["http://", "ftp://a", "http://a?b", "http://me:pw@a", "http://a/@", "osrm:5000"],
    ),
    ("workers.resources.cpuRequest", &["1", "0.5", "100m"], &["half", "1.", ".5", "-1", "1 m"]),
    ("workers.resources.memoryLimit", &["1Gi", "512Mi", "1000000000"], &["1GB", "Mi"]),
    ("workers.scheduling.priorityClassName", &["business-critical"], &["Business Critical"]),
];

/// The pattern in the schema and the validation agree on every string.
#[test]
fn patterns_and_validation_agree() -> Outcome {
    let schema = schema()?;
    let spec = &schema["properties"]["spec"];
    for (path, right, wrong) in TEXTS {
        let mut field = spec;
        for name in path.replace("[]", ".[]").split('.') {
            field = if name == "[]" { &field["items"] } else { &field["properties"][name] };
        }
        let pattern = Regex::new(field["pattern"].as_str().ok_or_else(|| format!("{path} has no pattern"))?)?;
        for (texts, expected) in [(right, true), (wrong, false)] {
            for text in *texts {
                let fits = pattern.is_match(text) && text.len() as u64 >= field["minLength"].as_u64().unwrap_or(0);
                assert_eq!(fits, expected, "the schema's pattern of {path} on {text:?}");
                assert_eq!(accepts(path, text)?, expected, "the validation of {path} on {text:?}");
            }
        }
    }
    let mut without = Vec::new();
    let mut patterns = 0;
    walk(spec, "spec", &mut |path, field| {
        if field["pattern"].is_string() {
            patterns += 1;
        } else if field["type"] == "string" && field["enum"].is_null() {
            without.push(path.to_owned());
        }
    });
    // The remaining strings have no format that a pattern could express, or may contain a password (see below).
    let free = [
        "spec.api.auth.audiences[]",
        "spec.api.gateway.jwt.audiences[]",
        "spec.api.gateway.upstream.url",
        "spec.aws.tags[]",
        "spec.cache.external.url",
        "spec.export.schedule",
        "spec.timezone",
        "spec.workers.image",
        "spec.workers.scheduling.nodeSelector[]",
        "spec.workers.serviceAccountAnnotations[]",
    ];
    without.sort();
    assert_eq!(without, free);
    assert!(patterns >= TEXTS.len(), "{patterns} patterns");
    Ok(())
}

/// Whether the validation accepts `text` in the field at `path`; other fields may be incomplete.
fn accepts(path: &str, text: &str) -> Outcome<bool> {
    let mut object = minimal();
    let secret = json!({ "name": "n", "key": "k" });
    let night = json!([{ "from": "22:00", "to": "04:00", "percent": 20 }]);
    for (group, value) in [
        ("cache.authSecretRef", secret),
        ("api.gateway.jwt", json!({ "issuer": "https://a", "audiences": ["a"] })),
        ("api.auth", json!({ "issuer": "https://a", "audiences": ["a"] })),
        ("dispatch.fare.nightSurcharges", night),
        ("dispatch.eta", json!({ "provider": "OSRM" })),
    ] {
        if path.starts_with(group) {
            object = with(&object, group, value);
        }
    }
    object = match path.split_once("[]") {
        None => with(&object, path, json!(text)),
        Some((list, "")) => with(&object, list, json!([text])),
        Some((list, field)) => {
            let mut object = object;
            object["spec"]
                .pointer_mut(&format!("/{}/0/{}", list.replace('.', "/"), &field[1..]))
                .ok_or("no such item")
                .map(|at| *at = json!(text))?;
            object
        }
    };
    let system: DispatchSystem = serde_json::from_value(object)?;
    let errors = ValidatedSystem::try_from_raw(&system).err().map(|errors| errors.0).unwrap_or_default();
    let field = format!("spec.{}", path.replace("[]", "[0]"));
    Ok(!errors.iter().any(|error| error.path == field))
}

/// The rules of the definition refuse exactly what the validation refuses. Each case is a creation.
#[test]
fn rules_and_validation_agree_on_new_objects() -> Outcome {
    let seoul = minimal();
    let schema = schema()?;
    let capacity = |min: u32, max: u32| json!({ "min": min, "max": max });
    let both = |value: &Value| json!({ "mode": "Provisioned", "read": value, "write": value });
    let jwt = json!({ "issuer": "https://a", "audiences": ["a"] });
    let gateway = json!({ "enabled": true, "upstream": { "url": "https://a" }, "jwt": jwt });
    let link = |region: &str| {
        let listener = format!("arn:aws:elasticloadbalancing:{region}:111122223333:listener/a");
        json!({ "vpcLink": { "subnetIds": ["subnet-0a1b2c3d"], "listenerArn": listener } })
    };
    let named = |name: &str| {
        let mut object = minimal();
        object["metadata"] = json!({ "name": name, "namespace": "n" });
        object
    };
    let cases = [
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
        (true, with(&seoul, "dispatch.eta", json!({ "provider": "Valhalla", "url": "https://a" }))),
        (false, with(&seoul, "dispatch.eta", json!({ "provider": "OSRM" }))),
        (false, with(&seoul, "dispatch.eta", json!({ "url": "http://a" }))),
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
    ];
    for (expected, object) in cases {
        assert_eq!(rules(&schema, &object, None).is_empty(), expected, "the rules on {object}");
        let system: DispatchSystem = serde_json::from_value(object.clone())?;
        assert_eq!(ValidatedSystem::try_from_raw(&system).is_ok(), expected, "the validation on {object}");
    }
    Ok(())
}

/// An address may contain a password, so neither the rules nor the validation may repeat a refused one.
#[test]
fn addresses_are_checked_and_never_repeated() -> Outcome {
    let schema = schema()?;
    let cases = [
        ("cache.external.url", "redis://localhost:6379", true),
        ("cache.external.url", "rediss://a.b", true),
        ("cache.external.url", "redis://[::1]:6379", true),
        ("cache.external.url", "http://a", false),
        ("cache.external.url", "redis://user:hunter2@a:1", false),
        ("cache.external.url", "redis://a:1/hunter2", false),
        ("cache.external.url", "redis://", false),
        ("cache.external.url", "redis://a b", false),
        ("api.gateway.upstream.url", "https://a.example.com", true),
        ("api.gateway.upstream.url", "https://a:8443", true),
        ("api.gateway.upstream.url", "http://a", false),
        ("api.gateway.upstream.url", "https://a/hunter2", false),
        ("api.gateway.upstream.url", "https://user:hunter2@a", false),
        ("api.gateway.upstream.url", "https://", false),
    ];
    for (path, url, expected) in cases {
        let object = with(&minimal(), path, json!(url));
        let broken = rules(&schema, &object, None);
        assert_eq!(broken.is_empty(), expected, "the rules on {path} {url}: {broken:?}");
        let system: DispatchSystem = serde_json::from_value(object)?;
        let answer = ValidatedSystem::try_from_raw(&system).err().map(|errors| errors.to_string());
        assert_eq!(answer.is_none(), expected, "the validation on {path} {url}: {answer:?}");
        assert!(!answer.unwrap_or_default().contains("hunter2"), "{path}");
    }
    let spec = &schema["properties"]["spec"]["properties"];
    for field in [
        &spec["cache"]["properties"]["external"]["properties"]["url"],
        &spec["api"]["properties"]["gateway"]["properties"]["upstream"]["properties"]["url"],
    ] {
        assert_eq!(field["type"], "string");
        assert!(field["pattern"].is_null(), "the API server repeats a value that does not match a pattern");
    }
    Ok(())
}

#[test]
fn what_stored_data_depends_on_cannot_be_changed() -> Outcome {
    let schema = schema()?;
    let seoul = minimal();
    let named = with(&seoul, "table.name", json!("dispatch"));
    let owned = with(&seoul, "aws.accountId", json!("111122223333"));
    let cases = [
        (true, &seoul, with(&seoul, "dispatch.offerTimeoutSeconds", json!(15))),
        (false, &seoul, with(&seoul, "city", json!("busan"))),
        (false, &seoul, with(&seoul, "region", json!("ap-northeast-1"))),
        (false, &seoul, with(&seoul, "timezone", json!("Asia/Tokyo"))),
        (false, &seoul, with(&seoul, "currency", json!("JPY"))),
        (false, &seoul, named.clone()),
        (false, &named, seoul.clone()),
        (false, &named, with(&seoul, "table.name", json!("dispatch-2"))),
        (true, &named, named.clone()),
        (true, &seoul, owned.clone()),
        (false, &owned, seoul.clone()),
        (false, &owned, with(&seoul, "aws.accountId", json!("999922223333"))),
    ];
    for (expected, before, after) in cases {
        let broken = rules(&schema, &after, Some(before));
        assert_eq!(broken.is_empty(), expected, "from {before} to {after}: {broken:?}");
        assert!(expected || broken.iter().all(|message| message.contains("immutable")), "{broken:?}");
    }
    Ok(())
}

#[test]
fn the_examples_satisfy_the_rules() -> Outcome {
    let schema = schema()?;
    for name in ["external-cache", "minimal", "production", "seoul"] {
        let text = fs::read_to_string(root().join("examples").join(format!("{name}.yaml")))?;
        for system in read_manifests(&text)? {
            assert_eq!(rules(&schema, &serde_json::to_value(system)?, None), [""; 0], "{name}");
        }
    }
    Ok(())
}

#[test]
fn no_rule_costs_more_than_the_api_server_allows() -> Outcome {
    let schema = schema()?;
    let mut rules = 0;
    let mut warnings = Vec::new();
    walk(&schema, "", &mut |path, field| {
        let compiled = compile_schema(field);
        for rule in field["x-kubernetes-validations"].as_array().into_iter().flatten() {
            rules += 1;
            let rule = rule["rule"].as_str().unwrap_or_default();
            warnings
                .extend(estimate_rule_cost(rule, &compiled).into_iter().map(|warning| format!("{path}: {warning:?}")));
        }
    });
    assert!(rules >= 20, "{rules} rules");
    assert_eq!(warnings, [""; 0]);
    Ok(())
}

/// Messages of the rules that `object` violates. Rules are evaluated after defaults are applied, as in the API server.
fn rules(schema: &Value, object: &Value, old: Option<&Value>) -> Vec<String> {
    let result = Validator::new().validate(schema, object, old);
    let errors = result.err().map(ValidationErrors::into_vec).unwrap_or_default();
    errors.into_iter().map(|error| error.message).collect()
}
