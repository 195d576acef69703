//! Texts of a spec never become expressions: whatever is in a string of a valid spec, CloudFormation, IAM, Glue and
//! a terminal read it as text.

use dispatch_api::dispatch_system::{DispatchSystem, DispatchSystemSpec};
use dispatch_api::validate::ValidatedSystem;
use serde_json::Value;

use super::{EXTERNAL_CACHE, PRODUCTION, SEOUL};
use crate::engine::plan::template::{TemplateError, render};

/// Texts that some reader would interpret.
const EXPRESSIONS: [&str; 9] = [
    "{{resolve:secretsmanager:prod/db:SecretString:password}}",
    "{{resolve:ssm-secure:/prod/db}}",
    "{{",
    "${AWS::AccountId}",
    "${aws:PrincipalTag/team}",
    "${!export_id}",
    "\u{1b}[2J",
    "\u{7}",
    "line\nbreak",
];

/// Members that a full spec may have, beside those of the other templates.
const MORE: &str = "
aws: { roleArn: 'arn:aws:iam::123456789012:role/dispatch', externalId: coactus }
table: { name: coactus-cities-busan-2 }
cache: { external: { url: 'rediss://redis.example.com:6379' }, authSecretRef: { name: redis, key: auth-token } }
connection: { configMapName: city, secretName: city }
dispatch:
  eta: { provider: OSRM, url: 'http://osrm.example.com:5000' }
  fare: { nightSurcharges: [{ from: '22:00', to: '02:00', percent: 20 }] }
api:
  auth: { issuer: 'https://login.example.com/', audiences: [a], jwksUrl: 'https://login.example.com/keys' }
  limits: { clientAddressHeader: x-client-address }
workers:
  image: registry.example.com/runtime:1
  serviceAccountAnnotations: { team: dispatch }
  scheduling: { nodeSelector: { pool: dispatch }, priorityClassName: high }
";

fn full(base: &str) -> Value {
    let mut spec: Value = serde_yaml::from_str(base).unwrap();
    let more: Value = serde_yaml::from_str(MORE).unwrap();
    for (group, members) in more.as_object().unwrap() {
        for (name, member) in members.as_object().unwrap() {
            spec[group][name] = member.clone();
        }
    }
    spec
}

/// Pointers (RFC 6901) to every string in a value.
fn strings(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::String(_) => found.push(at.to_owned()),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| strings(item, &format!("{at}/{index}"), found));
        }
        Value::Object(members) => {
            for (key, member) in members {
                let key = key.replace('~', "~0").replace('/', "~1");
                strings(member, &format!("{at}/{key}"), found);
            }
        }
        _ => {}
    }
}

fn validated(spec: &Value) -> Option<ValidatedSystem> {
    let spec: DispatchSystemSpec = serde_json::from_value(spec.clone()).ok()?;
    let mut raw = DispatchSystem::new("busan", spec);
    raw.metadata.namespace = Some("cities".to_owned());
    ValidatedSystem::try_from_raw(&raw).ok()
}

#[test]
fn no_text_of_a_spec_becomes_an_expression() {
    let mut tried = 0;
    for base in [SEOUL.to_owned(), PRODUCTION.to_owned(), EXTERNAL_CACHE.to_owned()] {
        for spec in [serde_yaml::from_str(&base).unwrap(), full(SEOUL), full(EXTERNAL_CACHE)] {
            assert!(validated(&spec).is_some(), "the spec itself is valid");
            let unchanged = validated(&spec).as_ref().map(render);
            let mut all = Vec::new();
            strings(&spec, "", &mut all);
            for (at, expression) in all.iter().flat_map(|at| EXPRESSIONS.map(|expression| (at, expression))) {
                let text = spec.pointer(at).and_then(Value::as_str).unwrap().to_owned();
                let middle = text.char_indices().nth(text.chars().count() / 2).map_or(0, |(index, _)| index);
                let inside = format!("{}{expression}{}", &text[..middle], &text[middle..]);
                for changed in [expression.to_owned(), format!("{text}{expression}"), inside] {
                    let mut spec = spec.clone();
                    *spec.pointer_mut(at).unwrap() = Value::String(changed.clone());
                    tried += 1;
                    let Some(system) = validated(&spec) else { continue };
                    assert!(at.starts_with("/workers/serviceAccountAnnotations/"), "{at}: {changed:?} is accepted");
                    let template = render(&system);
                    template.check().unwrap();
                    assert_eq!(Some(template), unchanged, "{at}: {changed:?} reaches the template");
                }
            }
        }
    }
    assert!(tried > 2_000, "{tried}");
}

#[test]
fn an_arn_names_one_resource_in_every_policy() {
    for (at, arn) in [
        ("/aws/kmsKeyArn", "arn:aws:kms:ap-northeast-2:123456789012:key/*"),
        ("/aws/kmsKeyArn", "arn:aws:kms:ap-northeast-2:123456789012:key/1234abcd-12ab-34cd-56ef-12345678?0ab"),
        ("/aws/permissionsBoundaryArn", "arn:aws:iam::123456789012:policy/*"),
        ("/aws/permissionsBoundaryArn", "arn:aws:iam::123456789012:policy/\"},{\""),
        (
            "/api/gateway/upstream/vpcLink/listenerArn",
            "arn:aws:elasticloadbalancing:ap-northeast-2:123456789012:listener/*",
        ),
    ] {
        let mut spec: Value = serde_yaml::from_str(PRODUCTION).unwrap();
        *spec.pointer_mut(at).unwrap() = Value::String(arn.to_owned());
        assert_eq!(validated(&spec), None, "{arn}");
    }
}

#[test]
fn an_expression_that_validation_let_through_is_not_sent() {
    let spec: Value = serde_yaml::from_str(PRODUCTION).unwrap();
    let mut system = validated(&spec).unwrap();
    system.spec.aws.tags.insert("team".to_owned(), "{{resolve:ssm:x}}".to_owned());
    assert_eq!(render(&system).check(), Err(TemplateError::Expression("/Tags/team".to_owned())));
    let mut system = validated(&spec).unwrap();
    system.spec.aws.kms_key_arn = Some("{{resolve:ssm:x}}".to_owned());
    let error = render(&system).check().unwrap_err().to_string();
    assert!(error.contains("/Resources/") && !error.contains("{{"), "{error}");
}
