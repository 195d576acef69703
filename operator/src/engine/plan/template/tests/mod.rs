//! Tests of the template as a whole.

mod security;
mod texts;

use std::process::Command;
use std::{env, fs};

use dispatch_api::dispatch_system::{DispatchSystem, DispatchSystemSpec};
use dispatch_api::validate::ValidatedSystem;
use dispatch_http_types::{ROUTES, Route};
use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

use super::*;

const SEOUL: &str = "
city: seoul
region: ap-northeast-2
timezone: Asia/Seoul
aws: { tags: { team: dispatch } }
table: { deletionProtection: false }
dispatch: { offerTimeoutSeconds: 15 }
deletionPolicy: Delete
";

const PRODUCTION: &str = "
city: busan
region: ap-northeast-2
timezone: Asia/Seoul
aws:
  accountId: '123456789012'
  permissionsBoundaryArn: arn:aws:iam::123456789012:policy/dispatch-boundary
  kmsKeyArn: arn:aws:kms:ap-northeast-2:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab
  tags: { team: dispatch, cost-center: '4711' }
table:
  billing: { mode: Provisioned, read: { min: 100, max: 2000 }, write: { min: 100, max: 1000 } }
queues:
  offers: { retentionSeconds: 3600, visibilityTimeoutSeconds: 30, maxReceiveCount: 5 }
notifications: { fcm: { serviceAccountSecretRef: { name: fcm, key: service-account.json } } }
cache:
  nodeType: cache.r7g.large
  replicas: 2
  subnetIds: [subnet-0a1b2c3d4e5f60718, subnet-0a1b2c3d4e5f60719]
  securityGroupIds: [sg-0a1b2c3d4e5f60718]
  authSecretRef: { name: redis, key: auth-token }
export: { schedule: '0 4 * * *', retentionDays: 730, analytics: {} }
api:
  gateway:
    enabled: true
    upstream:
      vpcLink:
        subnetIds: [subnet-0a1b2c3d4e5f60718, subnet-0a1b2c3d4e5f60719]
        securityGroupIds: [sg-0a1b2c3d4e5f60718]
        listenerArn: arn:aws:elasticloadbalancing:ap-northeast-2:123456789012:listener/net/workers/50dc6c495c0c9188/f2f7dc8efc522ab2
    jwt: { issuer: 'https://login.example.com/', audiences: [dispatch] }
";

const EXTERNAL_CACHE: &str = "
city: jeju
region: ap-northeast-2
timezone: Asia/Seoul
cache: { external: { url: 'rediss://redis.example.com:6379' }, authSecretRef: { name: redis, key: auth-token } }
export: { type: Incremental, format: Ion, analytics: {} }
api:
  gateway:
    enabled: true
    upstream: { url: 'https://workers.example.com' }
    jwt: { issuer: 'https://login.example.com/', audiences: [dispatch] }
";

fn system(name: &str, spec: &str) -> ValidatedSystem {
    system_of(name, serde_yaml::from_str(spec).unwrap())
}

fn system_of(name: &str, spec: DispatchSystemSpec) -> ValidatedSystem {
    let mut raw = DispatchSystem::new(name, spec);
    raw.metadata.namespace = Some("cities".to_owned());
    ValidatedSystem::try_from_raw(&raw).unwrap_or_else(|errors| panic!("{name}: {errors}"))
}

pub(super) fn seoul() -> ValidatedSystem {
    system("seoul", SEOUL)
}

pub(super) fn production() -> ValidatedSystem {
    system("busan", PRODUCTION)
}

pub(super) fn external_cache() -> ValidatedSystem {
    system("jeju", EXTERNAL_CACHE)
}

fn all() -> [(&'static str, Template); 3] {
    [("seoul", seoul()), ("production", production()), ("external_cache", external_cache())]
        .map(|(name, system)| (name, render(&system)))
}

/// Logical ids and resources of one type.
fn of_type<'a>(template: &'a Template, kind: &str) -> Vec<(&'a str, &'a Value)> {
    let resources = template.body["Resources"].as_object().unwrap();
    resources.iter().filter(|(_, found)| found["Type"] == kind).map(|(id, found)| (id.as_str(), found)).collect()
}

fn properties<'a>(template: &'a Template, logical_id: &str) -> &'a Value {
    let found = &template.body["Resources"][logical_id]["Properties"];
    assert!(found.is_object(), "there is no {logical_id}");
    found
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().map(|map| map.keys().map(String::as_str).collect()).unwrap_or_default()
}

#[test]
fn the_production_template_is_known_to_the_last_byte() {
    insta::assert_snapshot!("production", render(&production()).to_json_pretty());
}

/// The other templates are known by what distinguishes them from the one above, so that a change of what they share
/// shows once.
#[test]
fn the_other_templates_differ_from_it_in_known_properties() {
    let production = leaves(&render(&production()), "busan");
    for (name, template, city) in
        [("seoul", render(&seoul()), "seoul"), ("external_cache", render(&external_cache()), "jeju")]
    {
        let own = leaves(&template, city);
        let removed =
            production.iter().filter(|(path, _)| !own.contains_key(*path)).map(|(path, _)| format!("- {path}"));
        let changed = own.iter().filter(|(path, value)| production.get(*path) != Some(*value));
        let changed = changed.map(|(path, value)| format!("+ {path}: {value}"));
        let mut lines: Vec<String> = removed.chain(changed).collect();
        lines.sort_unstable_by(|one, other| one[2..].cmp(&other[2..]).then(one.cmp(other)));
        insta::assert_snapshot!(format!("{name}_differs"), lines.join("\n"));
    }
}

/// Every value of a template by its path, with the city's name taken out.
fn leaves(template: &Template, city: &str) -> BTreeMap<String, String> {
    fn walk(value: &Value, path: &str, found: &mut BTreeMap<String, String>) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                map.iter().for_each(|(key, value)| walk(value, &format!("{path}.{key}"), found));
            }
            Value::Array(list) if list.iter().any(|item| item.is_object() || item.is_array()) => {
                list.iter().enumerate().for_each(|(at, value)| walk(value, &format!("{path}[{at}]"), found));
            }
            leaf => drop(found.insert(path.trim_start_matches('.').to_owned(), leaf.to_string())),
        }
    }
    let text = template.body.to_string().replace(city, "CITY");
    let mut found = BTreeMap::new();
    walk(&serde_json::from_str(&text).unwrap(), "", &mut found);
    found
}

/// `scripts/cfn-lint.sh` checks the shipped examples; these systems use additional fields. `DISPATCH_CFN_LINT`
/// overrides the pinned cfn-lint of `.venv`.
#[test]
fn every_template_passes_cfn_lint_without_a_warning() {
    let pinned = concat!(env!("CARGO_MANIFEST_DIR"), "/../.venv/bin/cfn-lint");
    let program = env::var_os("DISPATCH_CFN_LINT").unwrap_or_else(|| pinned.into());
    let folder = tempfile::tempdir().unwrap();
    let mut lint = Command::new(&program);
    lint.args(["--non-zero-exit-code", "warning", "--regions", "ap-northeast-2", "--"]);
    for (name, template) in all() {
        let file = folder.path().join(format!("{name}.json"));
        fs::write(&file, template.to_request_body().unwrap()).unwrap();
        lint.arg(file);
    }
    let output =
        lint.output().unwrap_or_else(|error| panic!("{}: {error}; `make test` installs it", program.display()));
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
}

#[test]
fn a_system_as_large_as_they_come_fits_into_a_request() {
    let ids = |kind: &str, count: usize| -> Vec<String> {
        (0..count).map(|number| format!("{kind}-0a1b2c3d4e5f6{number:04x}")).collect()
    };
    let mut spec: DispatchSystemSpec = serde_yaml::from_str(PRODUCTION).unwrap();
    spec.cache.replicas = 5;
    spec.cache.subnet_ids = ids("subnet", 6);
    spec.export.prefix = "p".repeat(128);
    spec.table.name = Some("t".repeat(240));
    for number in spec.aws.tags.len()..40 {
        spec.aws.tags.insert(format!("tag-{number:02}"), "v".repeat(256));
    }
    let mut raw = DispatchSystem::new("a-name-of-13c", spec);
    raw.metadata.namespace = Some("namespace-of-15".to_owned());
    let system = ValidatedSystem::try_from_raw(&raw).unwrap();
    assert_eq!(system.names.replication_group.len(), 40, "the name does not have the maximum length");
    let bytes = render(&system).to_request_body().unwrap().len();
    assert!(bytes < MAX_BODY_BYTES - ROOM_FOR_DIGESTS, "{bytes}");
}

/// Space that the outputs of the engine need.
const ROOM_FOR_DIGESTS: usize = 512;

#[test]
fn a_template_above_the_limit_is_refused_with_both_numbers() {
    let of_size = |bytes: usize| Template { body: json!("x".repeat(bytes - 2)), tags: BTreeMap::new() };
    assert_eq!(of_size(MAX_BODY_BYTES).to_request_body().unwrap().len(), MAX_BODY_BYTES);
    let error = of_size(MAX_BODY_BYTES + 1).to_request_body().unwrap_err();
    assert_eq!(error, TemplateError::TooLarge { bytes: 51_201, limit: 51_200 });
    assert_eq!(error.to_string(), "the template has 51201 bytes; the limit of CloudFormation is 51200");
}

#[test]
fn json_and_yaml_are_equivalent() {
    for (name, template) in all() {
        let minified: Value = serde_json::from_str(&template.to_json()).unwrap();
        let pretty: Value = serde_json::from_str(&template.to_json_pretty()).unwrap();
        let yaml: Value = serde_yaml::from_str(&template.to_yaml().unwrap()).unwrap();
        assert_eq!(minified, pretty, "{name}");
        assert_eq!(minified, yaml, "{name}");
    }
}

#[test]
fn a_change_of_a_tag_changes_the_hash_and_not_the_body() {
    let before = render(&seoul());
    let mut system = seoul();
    system.spec.aws.tags.insert("team".to_owned(), "fleet".to_owned());
    let after = render(&system);
    assert_eq!(before.to_json(), after.to_json());
    assert_ne!(before.hash(), after.hash());
    assert_eq!(before.hash().len(), 64);
}

#[test]
fn the_stack_carries_the_users_tags_and_ours() {
    let tags = render(&seoul()).tags;
    let tags: Vec<(&str, &str)> = tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let expected = [
        ("coactus:city", "seoul"),
        ("coactus:managed-by", "dispatch-operator"),
        ("coactus:system", "cities/seoul"),
        ("team", "dispatch"),
    ];
    assert_eq!(tags, expected);
}

#[test]
fn parameters_are_asked_for_exactly_where_the_template_has_them() {
    assert_eq!(parameters(&production()), [CACHE_AUTH_TOKEN]);
    for system in [seoul(), production(), external_cache()] {
        let body = render(&system).body;
        let asked = keys(&body["Parameters"]).into_iter().filter(|name| body["Parameters"][name]["Default"].is_null());
        assert_eq!(parameters(&system), asked.collect::<Vec<_>>(), "{}", system.name);
        assert_eq!(body["Parameters"]["TableName"]["Default"], system.names.table, "{}", system.name);
    }
}

#[test]
fn outputs_depend_on_what_is_made() {
    let optional = |system: &ValidatedSystem| -> Vec<bool> {
        let body = render(system).body;
        [outputs::CACHE_ENDPOINT, outputs::CACHE_PORT, outputs::API_ENDPOINT, outputs::ATHENA_WORKGROUP]
            .map(|name| body["Outputs"][name].is_object())
            .to_vec()
    };
    assert_eq!(optional(&seoul()), [true, true, false, false]);
    assert_eq!(optional(&production()), [true, true, true, true]);
    assert_eq!(optional(&external_cache()), [false, false, true, true]);
}

#[test]
fn an_external_cache_leaves_no_trace_of_elasticache() {
    let template = render(&external_cache());
    assert!(!template.to_json().contains("ElastiCache"));
}

#[test]
fn equal_bounds_switch_autoscaling_off() {
    let targets =
        |system: &ValidatedSystem| of_type(&render(system), "AWS::ApplicationAutoScaling::ScalableTarget").len();
    let mut system = production();
    assert_eq!(targets(&system), 6, "table and both indexes, reads and writes");
    let read = system.spec.table.billing.read.as_mut().unwrap();
    read.max = read.min;
    assert_eq!(targets(&system), 3);
    assert_eq!(targets(&seoul()), 0);
}

#[test]
fn a_cache_without_replicas_cannot_fail_over() {
    let mut system = seoul();
    system.spec.cache.replicas = 0;
    let template = render(&system);
    let group = properties(&template, "ReplicationGroup");
    assert_eq!((&group["NumCacheClusters"], &group["MultiAZEnabled"]), (&json!(1), &json!(false)));
    assert_eq!(group["AutomaticFailoverEnabled"], false);
    assert!(group.get("CacheSubnetGroupName").is_none(), "no subnets are given");
}

#[test]
fn a_new_queue_setting_does_not_look_like_a_change_of_the_queues_readers() {
    for (name, template) in all() {
        for queue in ["OffersQueue", "ResponsesQueue", "NotificationsQueue"] {
            let read = format!(r#"{{"Fn::GetAtt":["{queue}","#);
            assert!(!template.to_json().contains(&read), "{name}: {queue}");
        }
    }
}

#[test]
fn a_late_timer_is_one_that_outlived_its_offer() {
    let template = render(&seoul());
    assert_eq!(properties(&template, "OffersQueueAgeAlarm")["Threshold"], 15 + 60);
    assert_eq!(properties(&template, "ResponsesQueueAgeAlarm")["Threshold"], 60);
}

#[test]
fn every_operation_has_a_route_of_the_gateway_and_positions_have_limits_of_their_own() {
    let template = render(&production());
    let routes = of_type(&template, "AWS::ApiGatewayV2::Route");
    let keys: Vec<&str> = routes.iter().map(|(_, route)| route["Properties"]["RouteKey"].as_str().unwrap()).collect();
    let serves = |key: &str, route: &Route| {
        let (method, path) = key.split_once(' ').unwrap();
        let path_serves = match path.strip_suffix("{proxy+}") {
            Some(start) => route.path.starts_with(start),
            None => path == route.path,
        };
        path_serves && (method == "ANY" || method == route.method.as_str())
    };
    for route in ROUTES {
        assert!(keys.iter().any(|key| serves(key, route)), "{} in {keys:?}", route.key());
    }
    for key in &keys {
        assert!(ROUTES.iter().any(|route| serves(key, route)), "{key} serves no operation");
    }
    for (id, route) in routes {
        assert_eq!(route["Properties"]["AuthorizationType"], "JWT", "{id}");
    }
    let stage = properties(&template, "DefaultStage");
    let positions = ROUTES.iter().filter(|route| ["postLocation", "postLocations"].contains(&route.operation_id));
    let positions: Vec<String> = positions.map(Route::key).collect();
    assert_eq!(positions.len(), 2);
    for key in &positions {
        assert_eq!(stage["RouteSettings"][key], stage["DefaultRouteSettings"], "{key}");
        assert!(keys.contains(&key.as_str()), "the stage would be refused: {key}");
    }
    assert_eq!(stage["RouteSettings"].as_object().unwrap().len(), positions.len());
}

#[test]
fn incremental_exports_are_not_partitioned_by_export() {
    let full = render(&production());
    let input = &properties(&full, "AnalyticsTable")["TableInput"];
    let template = "s3://${ExportBucket}/exports/AWSDynamoDB/${!export_id}/data/";
    assert_eq!(input["Parameters"]["storage.location.template"], json!({ "Fn::Sub": template }));
    let incremental = render(&external_cache());
    let input = &properties(&incremental, "AnalyticsTable")["TableInput"];
    assert_eq!(input.get("PartitionKeys"), None);
    let location = json!({ "Fn::Sub": "s3://${ExportBucket}/exports/AWSDynamoDB/data/" });
    assert_eq!(input["StorageDescriptor"]["Location"], location);
}

proptest! {
    #[test]
    fn equal_systems_give_equal_bytes(
        name in "[a-z]([a-z0-9]{0,10})",
        tags in proptest::collection::btree_map("[A-Za-z]{1,20}", "[A-Za-z0-9 _.:/=+@-]{0,40}", 0..10),
    ) {
        let build = || {
            let mut spec: DispatchSystemSpec = serde_yaml::from_str(PRODUCTION).unwrap();
            spec.aws.tags.clone_from(&tags);
            system_of(&name, spec)
        };
        let (one, other) = (render(&build()), render(&build()));
        prop_assert_eq!(one.to_json(), other.to_json());
        prop_assert_eq!(one.hash(), other.hash());
        prop_assert!(tags.iter().all(|(key, value)| one.tags().get(key) == Some(value)));
    }
}
