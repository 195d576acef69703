//! The custom resource definition: complete, and consistent with the validation in this crate. The suites on an API
//! server test its rules.

use std::error::Error;

use dispatch_api::crd::crd;
use dispatch_api::dispatch_system::DispatchSystem;
use dispatch_api::validate::ValidatedSystem;
use regex::Regex;
use serde_json::{Value, json};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

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

/// `value` with the defaults of `schema`, as the API server fills them in.
fn apply_defaults(schema: &Value, value: &Value) -> Value {
    let mut value = value.clone();
    if let (Some(fields), Some(members)) = (schema["properties"].as_object(), value.as_object_mut()) {
        for (name, field) in fields {
            if !members.contains_key(name) && !field["default"].is_null() {
                members.insert(name.clone(), field["default"].clone());
            }
            if let Some(member) = members.get_mut(name) {
                *member = apply_defaults(field, member);
            }
        }
    }
    value
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
            "number" => field["minimum"].is_number() && field["maximum"].is_number(),
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
        &[
            "arn:aws:iam::111122223333:user/a",
            "arn:aws:iam::1:role/a",
            "role/a",
            "arn:aws:iam::111122223333:role/",
            "arn:aws:iam::111122223333:role/*",
            "arn:aws:iam::111122223333:role/${a}",
        ],
    ),
    ("aws.externalId", &["a1", "city:seoul/2=x"], &["a b", "a;b", "서울"]),
    ("aws.eksClusterName", &["a", "production-1_b"], &["-a", "a b", "a/b", "${a}"]),
    (
        "aws.oidcProviderArn",
        &["arn:aws:iam::111122223333:oidc-provider/oidc.eks.us-east-1.amazonaws.com/id/0A1B"],
        &["arn:aws:iam::111122223333:role/a", "arn:aws:iam::111122223333:oidc-provider/", "https://a"],
    ),
    (
        "aws.workerPrincipalArn",
        &["arn:aws:iam::111122223333:role/a"],
        &["arn:aws:iam::111122223333:user/a", "arn:aws:iam::111122223333:root", "*"],
    ),
    (
        "aws.permissionsBoundaryArn",
        &["arn:aws:iam::aws:policy/PowerUserAccess", "arn:aws:iam::111122223333:policy/a"],
        &["arn:aws:iam:::policy/a", "arn:aws:iam::111122223333:role/a"],
    ),
    (
        "aws.kmsKeyArn",
        &["arn:aws:kms:ap-northeast-2:111122223333:key/1-a"],
        &["arn:aws:kms:ap-northeast-2:111122223333:alias/a", "1-a", "arn:aws:kms:ap-northeast-2:111122223333:key/?"],
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
    (
        "export.schedule",
        &["0 4 * * *", " 0 4  * * * ", "15 0-6,22 1,15 JAN-MAR MON-FRI", "0 0 L * *"],
        &["0 0 4 * * *", "a b c d e", "61 99 * * *", "every day at four", "0 4 * *  "],
    ),
    ("export.prefix", &["exports", "a/b_c-D"], &["/a", "a/", "a b", ""]),
    (
        "api.gateway.jwt.issuer",
        &["https://a", "https://a/b/", "https://a:1/b", "https://a/~t/v2.0(1)%20"],
        &["http://a", "https://", "a", "https://a/{t}", "https://a/\"b", "https://a/b\\c"],
    ),
    (
        "api.auth.issuer",
        &["https://a", "https://a/b/", "https://a:1/b"],
        &["http://a", "https://", "a", "https://a/{t}"],
    ),
    (
        "api.auth.audiences[]",
        &["a", "https://a/b?c", "api://a", "two words", "a|b~"],
        &["", " ", " a", "a ", "a{b", "}", "서울", "a\nb"],
    ),
    ("api.gateway.jwt.audiences[]", &["a"], &["", " ", "{{a"]),
    ("api.auth.claims.id", &["sub", "https://a/id"], &["two words", "a\n", "", "서울", "a{b", "b}"]),
    ("api.auth.claims.scopes", &["scope"], &["two words", "a\n", "", "서울"]),
    ("api.auth.claims.user", &["user", "a:user"], &["two words", "a\n", "", "서울"]),
    ("api.auth.claims.driver", &["driver"], &["two words", "a\n", "", "서울"]),
    ("api.auth.claims.payments", &["payments"], &["two words", "a\n", "", "서울"]),
    ("api.auth.claims.city", &["city", "https://a/city"], &["two words", "a\n", "", "서울"]),
    ("api.auth.claims.operations", &["operations"], &["two words", "a\n", "", "서울"]),
    ("api.auth.jwksUrl", &["https://a/keys.json"], &["http://a/keys.json", "https://", "keys.json", "https://a/{{b}}"]),
    ("api.limits.clientAddressHeader", &["x-client-address"], &["x client", "x:y", ""]),
    ("api.ingress.host", &["seoul.example.com", "a"], &["Seoul.example.com", "*.example.com", "a..b", "a_b", ""]),
    ("api.ingress.className", &["nginx", "a.b"], &["Nginx", ""]),
    ("api.ingress.tlsSecretName", &["seoul-tls"], &["Seoul", "a_b"]),
    ("api.httpRoute.hosts[]", &["seoul.example.com"], &["*.example.com", "a:8080", ""]),
    ("api.httpRoute.gateways[].name", &["public"], &["Public", ""]),
    ("api.httpRoute.gateways[].namespace", &["edge"], &["a.b", "Edge", ""]),
    ("api.httpRoute.gateways[].listener", &["https", "a.b"], &["a_b", ""]),
    ("dispatch.fare.nightSurcharges[].from", &["00:00", "23:59"], &["24:00", "9:00", "22:60", "22.00"]),
    (
        "dispatch.eta.url",
        &["http://osrm:5000", "https://a/b/c", "http://[fd12::1]:8002/"],
        &["http://", "ftp://a", "http://a?b", "http://me:pw@a", "http://a/@", "osrm:5000"],
    ),
    ("workers.resources.cpuRequest", &["1", "0.5", "100m"], &["half", "1.", ".5", "-1", "1 m"]),
    ("workers.resources.memoryLimit", &["1Gi", "512Mi", "1000000000"], &["1GB", "Mi"]),
    ("workers.scheduling.priorityClassName", &["business-critical"], &["Business Critical"]),
    (
        "workers.scheduling.nodeAffinity.required[].key",
        &["zone", "topology.kubernetes.io/zone", "a_b.C"],
        &["", "-zone", "two words", "a/b/c", "/zone"],
    ),
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
        "spec.api.gateway.upstream.url",
        "spec.aws.tags[]",
        "spec.cache.external.url",
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
        ("api.ingress", json!({ "host": "a" })),
        ("workers.scheduling.nodeAffinity.required", json!([{ "key": "a", "operator": "Exists" }])),
        ("api.httpRoute", json!({ "gateways": [{ "name": "a", "namespace": "a", "listener": "a" }], "hosts": ["a"] })),
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

/// An address may contain a password, and the API server repeats a value that does not match a pattern.
#[test]
fn addresses_that_may_hold_a_password_have_no_pattern() -> Outcome {
    let schema = schema()?;
    let spec = &schema["properties"]["spec"]["properties"];
    for field in [
        &spec["cache"]["properties"]["external"]["properties"]["url"],
        &spec["api"]["properties"]["gateway"]["properties"]["upstream"]["properties"]["url"],
    ] {
        assert_eq!(field["type"], "string");
        assert!(field["pattern"].is_null());
    }
    Ok(())
}

/// A rule on an object names the field to correct; a rule on a field is reported with that field anyway.
#[test]
fn every_rule_has_a_message_a_reason_and_a_field() -> Outcome {
    let mut poor = Vec::new();
    walk(&schema()?, "", &mut |path, field| {
        for rule in field["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let of_the_metadata = rule["rule"].as_str().is_some_and(|rule| rule.contains("self.metadata.name"));
            let names_a_field = field["type"] != "object" || of_the_metadata || rule["fieldPath"].is_string();
            if !(rule["message"].is_string() && rule["reason"].is_string() && names_a_field) {
                poor.push(format!("{path}: {}", rule["rule"]));
            }
        }
    });
    assert_eq!(poor, [""; 0]);
    Ok(())
}

/// A field that names a Secret and is missing there would be read without the permission of the Secret's owner.
#[test]
fn every_field_that_names_a_secret_is_among_those_that_are_read() -> Outcome {
    let mut fields = Vec::new();
    walk(&schema()?["properties"]["spec"], "spec", &mut |path, field| {
        let names: Vec<&String> = field["properties"].as_object().into_iter().flatten().map(|(name, _)| name).collect();
        // A `ConfigMap` holds no secret.
        if names == ["key", "name"] && path != "spec.workers.caBundle" {
            fields.push(path.to_owned());
        }
    });
    let mut object = minimal();
    for field in &fields {
        object = with(&object, field.trim_start_matches("spec."), json!({ "name": "n", "key": "k" }));
    }
    let system: DispatchSystem = serde_json::from_value(object)?;
    let mut read: Vec<&str> = system.spec.secret_refs().into_iter().map(|(path, _)| path).collect();
    read.sort_unstable();
    fields.sort();
    assert_eq!(fields, read);
    assert!(fields.len() >= 2, "{fields:?}");
    Ok(())
}
