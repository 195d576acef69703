//! Generates the operator's IAM policies from what it does: its own calls come from the sources of the adapters,
//! CloudFormation's calls from the resource types of the rendered templates and the published permissions of their
//! handlers.

mod reference;

use std::collections::{BTreeMap, BTreeSet};

use dispatch_api::manifest::read_manifests;
use dispatch_api::validate::ValidatedSystem;
use dispatch_operator::engine::plan::template;
use regex::Regex;
use serde_json::{Value, json};

use self::reference::{ACCESS_LOGS, ALONGSIDE, RENAMED, Reference, UNUSED, resources_of};
use crate::objects::{assert_generated, files, strings, text};

/// IAM's limit for a managed policy, in characters without white space ("IAM and AWS STS quotas").
const POLICY_CHARACTERS: usize = 6_144;

type Actions = BTreeMap<String, BTreeSet<String>>;

fn add(actions: &mut Actions, action: &str) {
    let (service, name) = action.split_once(':').unwrap_or_else(|| panic!("{action} names no service"));
    actions.entry(service.to_owned()).or_default().insert(name.to_owned());
}

/// `create_change_set` becomes `CreateChangeSet`.
fn operation(method: &str) -> String {
    method.split('_').flat_map(|word| [word[..1].to_uppercase(), word[1..].to_owned()]).collect()
}

/// Every operation that the adapters call, by service.
fn calls() -> Actions {
    let client = Regex::new(r"aws_sdk_(\w+)::Client;").expect("a pattern");
    let call = Regex::new(r"\bclient\s*\.(\w+)\(\)").expect("a pattern");
    let mut calls = Actions::new();
    for file in files("operator/src/cloud/aws") {
        let source = std::fs::read_to_string(&file).expect("a source");
        let production = source.split("#[cfg(test)]").next().unwrap_or_default();
        let Some(service) = client.captures(production) else {
            assert!(!call.is_match(production), "{} calls a client it does not import", file.display());
            continue;
        };
        for found in call.captures_iter(production) {
            let call = format!("{}:{}", &service[1], operation(&found[1]));
            match RENAMED.iter().find(|(renamed, _)| *renamed == call) {
                Some((_, actions)) => {
                    for action in *actions {
                        add(&mut calls, action);
                    }
                }
                None => add(&mut calls, &call),
            }
        }
    }
    if text("operator/src/cloud/aws/mod.rs").contains("AssumeRoleProvider") {
        add(&mut calls, "sts:AssumeRole");
    }
    calls
}

fn allow(sid: &str, service: &str, actions: &BTreeSet<String>, resources: &[&str]) -> Value {
    let actions: Vec<String> = actions.iter().map(|name| format!("{service}:{name}")).collect();
    json!({ "Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources })
}

fn policy(statements: &[Value]) -> Value {
    let mut policy = json!({ "Version": "2012-10-17", "Statement": statements });
    policy.sort_all_objects();
    policy
}

/// `dynamodb` becomes `Dynamodb`; a statement id may contain only letters and digits.
fn sid(service: &str) -> String {
    operation(&service.replace('-', "_"))
}

/// Statements for actions on the product's resources, and one for actions that AWS cannot limit to resources.
fn statements(actions: &Actions, aws: &Reference) -> Vec<Value> {
    let mut statements = Vec::new();
    let mut unlimited = Vec::new();
    for (service, names) in actions {
        let (limited, rest): (BTreeSet<_>, BTreeSet<_>) =
            names.iter().cloned().partition(|name| aws.is_limited_to_resources(service, name));
        if !limited.is_empty() {
            statements.push(allow(&sid(service), service, &limited, resources_of(service)));
        }
        unlimited.extend(rest.into_iter().map(|name| format!("{service}:{name}")));
    }
    if !unlimited.is_empty() {
        statements.push(json!({ "Sid": "NotLimitable", "Effect": "Allow", "Action": unlimited, "Resource": "*" }));
    }
    statements
}

fn operator_policy(aws: &Reference) -> Value {
    let mut actions = calls();
    // Needs no permission ("GetCallerIdentity": no permissions are required).
    actions.get_mut("sts").expect("the adapters call STS").remove("GetCallerIdentity");
    for (service, names) in &actions {
        for name in names {
            assert!(aws.knows(service, name), "{service}:{name} is not an IAM action: see `RENAMED`");
        }
    }
    let mut own = statements(&actions, aws);
    for statement in &mut own {
        // Stacks of these names are created only with the product's tag, see `TaggedStacks`.
        if statement["Sid"] == "Cloudformation" {
            let creation = json!("cloudformation:CreateChangeSet");
            statement["Action"].as_array_mut().expect("a list").retain(|action| *action != creation);
        }
    }
    own.push(json!({
        "Sid": "TaggedStacks",
        "Effect": "Allow",
        "Action": ["cloudformation:CreateChangeSet"],
        "Resource": resources_of("cloudformation"),
        "Condition": { "StringEquals": { "aws:RequestTag/coactus:managed-by": "dispatch-operator" } },
    }));
    for (call, statement) in ALONGSIDE {
        let (service, name) = call.split_once(':').expect("a service");
        assert!(actions.get(service).is_some_and(|names| names.contains(name)), "{call} is no longer called");
        own.push(statement());
    }
    policy(&own)
}

/// The templates of all examples, which together contain every resource type.
fn templates() -> Vec<Value> {
    let examples = files("examples").into_iter().filter(|file| {
        file.extension().is_some_and(|extension| extension == "yaml")
            && file.parent().is_some_and(|folder| folder.ends_with("examples"))
    });
    examples
        .flat_map(|file| read_manifests(&std::fs::read_to_string(file).expect("an example")).expect("a manifest"))
        .map(|raw| template::render(&ValidatedSystem::try_from_raw(&raw).expect("a valid example")).body().clone())
        .collect()
}

fn resource_types(templates: &[Value]) -> BTreeSet<String> {
    templates
        .iter()
        .flat_map(|template| template["Resources"].as_object().expect("resources").values())
        .map(|resource| resource["Type"].as_str().expect("a type").to_owned())
        .collect()
}

/// Permissions of CloudFormation when it acts for the operator. `aws:CalledVia` prevents the operator from using them
/// directly ("Forward access sessions" in the IAM user guide; "FAS requests and permission evaluation" in the
/// CloudFormation user guide).
///
/// One policy covers the services that hold data and another one the rest, because a single policy would exceed IAM's
/// limit.
fn provisioning_policies(types: &BTreeSet<String>, aws: &Reference) -> [Value; 2] {
    let mut actions = Actions::new();
    for kind in types {
        for action in aws.handlers(kind).iter().filter(|action| !reference::is_unused(action)) {
            add(&mut actions, action);
        }
    }
    for action in ACCESS_LOGS {
        add(&mut actions, action);
    }
    let roles = actions.get_mut("iam").expect("templates contain roles");
    let bounded: BTreeSet<String> = roles.extract_if(.., |name| reference::BOUNDED.contains(&name.as_str())).collect();
    let linked = roles.remove("CreateServiceLinkedRole");
    let passed = roles.remove("PassRole");
    let stores = actions.extract_if(.., |service, _| reference::STORES.contains(&service.as_str())).collect();
    let mut made = statements(&actions, aws);
    // A principal that may write policies without a boundary can grant itself any permission.
    let mut within = allow("WorkerRolesWithinTheBoundary", "iam", &bounded, resources_of("iam"));
    within["Condition"] = json!({ "StringLike": { "iam:PermissionsBoundary": reference::BOUNDARY } });
    made.push(within);
    assert!(passed, "Pod Identity associations pass roles to EKS");
    let mut pass =
        allow("PassWorkerRoles", "iam", &BTreeSet::from(["PassRole".to_owned()]), &[reference::WORKER_ROLES]);
    pass["Condition"] = json!({ "StringEquals": { "iam:PassedToService": "pods.eks.amazonaws.com" } });
    made.push(pass);
    assert!(linked, "VPC links, caches and scaling need service-linked roles");
    made.push(json!({
        "Sid": "ServiceLinkedRoles",
        "Effect": "Allow",
        "Action": ["iam:CreateServiceLinkedRole"],
        "Resource": ["arn:aws:iam::*:role/aws-service-role/*"],
        "Condition": { "StringEquals": { "iam:AWSServiceName": reference::LINKED_SERVICES } },
    }));
    [statements(&stores, aws), made].map(|mut statements| {
        for statement in &mut statements {
            statement["Condition"]["ForAnyValue:StringEquals"] =
                json!({ "aws:CalledVia": ["cloudformation.amazonaws.com"] });
        }
        policy(&statements)
    })
}

/// The maximum permissions of any worker role: the union of the policies in the templates.
fn boundary(templates: &[Value], aws: &Reference) -> Value {
    let mut actions = Actions::new();
    for resource in templates.iter().flat_map(|template| template["Resources"].as_object().expect("resources").values())
    {
        let properties = &resource["Properties"];
        let inline = properties["Policies"].as_array().into_iter().flatten().map(|policy| &policy["PolicyDocument"]);
        let documents = match resource["Type"].as_str() {
            Some("AWS::IAM::ManagedPolicy") => vec![&properties["PolicyDocument"]],
            Some("AWS::IAM::Role") => inline.collect(),
            _ => continue,
        };
        for statement in
            documents.into_iter().flat_map(|document| document["Statement"].as_array().expect("statements"))
        {
            for action in strings(&statement["Action"]) {
                add(&mut actions, action);
            }
        }
    }
    policy(&statements(&actions, aws))
}

#[test]
fn the_policies_match_the_sources() {
    let templates = templates();
    let types = resource_types(&templates);
    let aws = Reference::of(&types);
    let [stores, others] = provisioning_policies(&types, &aws);
    for (file, made) in [
        ("manifests/iam/operator-policy.json", operator_policy(&aws)),
        ("manifests/iam/provisioning-data-policy.json", stores),
        ("manifests/iam/provisioning-policy.json", others),
        ("manifests/iam/workers-boundary.json", boundary(&templates, &aws)),
    ] {
        assert_generated(file, &made);
        let length = made.to_string().chars().filter(|character| !character.is_whitespace()).count();
        assert!(length <= POLICY_CHARACTERS, "{file} has {length} characters");
    }
}

#[test]
fn every_resource_type_in_the_sources_is_in_a_template() {
    let literal = Regex::new(r#""(AWS::[A-Za-z0-9]+::[A-Za-z0-9]+)""#).expect("a pattern");
    let mut written = BTreeSet::new();
    for file in files("operator/src/engine/plan/template") {
        if file.to_string_lossy().contains("tests") || file.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let source = std::fs::read_to_string(&file).expect("a source");
        written.extend(literal.captures_iter(&source).map(|found| found[1].to_owned()));
    }
    assert_eq!(written, resource_types(&templates()));
}

/// What an example names is what the policies allow.
#[test]
fn the_examples_fit_the_policies() {
    for file in ["minimal", "seoul", "production", "external-cache", "cluster"] {
        for raw in read_manifests(&text(&format!("examples/{file}.yaml"))).expect("a manifest") {
            let system = ValidatedSystem::try_from_raw(&raw).expect("a valid example");
            assert!(system.names.table.starts_with("coactus-"), "{file}: {}", system.names.table);
            if let Some(role) = &system.spec.aws.role_arn {
                assert!(role.contains(":role/coactus-"), "{file}: {role}");
            }
            if let Some(boundary) = &system.spec.aws.permissions_boundary_arn {
                assert!(boundary.ends_with(":policy/coactus-workers-boundary"), "{file}: {boundary}");
            }
        }
    }
}

/// An ARN limits what the action is authorized for; an action without resources in one of AWS's sources would be
/// allowed for none.
#[test]
fn what_may_have_no_resources_is_not_limited_to_any() {
    for (service, action) in reference::UNSURE {
        let action = format!("{service}:{action}");
        let mut found = 0;
        for file in ["operator-policy", "provisioning-data-policy", "provisioning-policy"] {
            let policy: Value = serde_json::from_str(&text(&format!("manifests/iam/{file}.json"))).expect("JSON");
            for statement in policy["Statement"].as_array().expect("statements") {
                if strings(&statement["Action"]).contains(&action.as_str()) {
                    assert_eq!(statement["Resource"], "*", "{file}: {action}");
                    found += 1;
                }
            }
        }
        assert!(found > 0, "{action} is granted nowhere");
    }
}

/// Every omitted permission must still be published for a resource type in use.
#[test]
fn every_omitted_permission_is_still_published() {
    let types = resource_types(&templates());
    let aws = Reference::of(&types);
    for (reason, actions) in UNUSED {
        for action in actions {
            let published =
                types.iter().any(|kind| aws.handlers(kind).iter().any(|found| reference::covers(action, found)));
            assert!(published, "{action} ({reason}) is not published for any resource type in use");
        }
    }
}

#[test]
fn nothing_is_granted_without_a_limit() {
    for file in ["operator-policy", "provisioning-data-policy", "provisioning-policy", "workers-boundary"] {
        let policy: Value = serde_json::from_str(&text(&format!("manifests/iam/{file}.json"))).expect("JSON");
        for statement in policy["Statement"].as_array().expect("statements") {
            let actions = strings(&statement["Action"]);
            assert!(!actions.is_empty() && actions.iter().all(|action| !action.contains('*')), "{file}: {statement}");
            if actions.contains(&"iam:PassRole") {
                assert_eq!(actions.len(), 1, "{file}: {statement}");
                assert_eq!(statement["Resource"], json!([reference::WORKER_ROLES]), "{file}");
                let service = &statement["Condition"]["StringEquals"]["iam:PassedToService"];
                assert_eq!(service, "pods.eks.amazonaws.com", "{file}: roles of workers go to Pods only");
            }
            assert!(statement["Resource"] != "*" || statement["Sid"] == "NotLimitable", "{file}: {statement}");
        }
        assert!(!policy.to_string().contains("DeleteRolePermissionsBoundary"), "{file}: boundaries are never removed");
    }
    for document in ["operator-policy", "workers-boundary"] {
        let text = text(&format!("manifests/iam/{document}.json"));
        for never in ["dynamodb:Scan", "DeleteTable", "\"iam:"] {
            assert!(!text.contains(never), "{document} grants {never}");
        }
    }
}

/// EKS Pod Identity gives the role only to this service account.
#[test]
fn the_trust_names_one_service_account() {
    let trust: Value = serde_json::from_str(&text("manifests/iam/operator-trust.json")).expect("JSON");
    let statement = &trust["Statement"][0];
    assert_eq!(statement["Principal"], json!({ "Service": "pods.eks.amazonaws.com" }));
    let tags = &statement["Condition"]["StringEquals"];
    assert_eq!(tags["aws:RequestTag/kubernetes-namespace"], "coactus-system");
    assert_eq!(tags["aws:RequestTag/kubernetes-service-account"], "dispatch-operator");
    // Another cluster may have the same namespace and service account.
    let (account, cluster) = (&tags["aws:SourceAccount"], &statement["Condition"]["ArnEquals"]["aws:SourceArn"]);
    let account = account.as_str().expect("an account");
    assert!(cluster.as_str().expect("a cluster").contains(&format!(":{account}:cluster/")), "{statement}");
}
