//! The operator's IAM policies, made from what it does: its own calls are read off the adapters' sources, CloudFormation's calls
//! off the resource types of the rendered templates and the permissions their handlers are published with.

mod reference;

use std::collections::{BTreeMap, BTreeSet};

use dispatch_api::manifest::read_manifests;
use dispatch_api::validate::ValidatedSystem;
use dispatch_operator::engine::plan::template;
use regex::Regex;
use serde_json::{Value, json};

use self::reference::{ACCESS_LOGS, ALONGSIDE, RENAMED, Reference, UNUSED, resources_of};
use crate::objects::{assert_generated, files, strings, text};

/// IAM's limit on a managed policy, in characters without white space ("IAM and AWS STS quotas").
const POLICY_CHARACTERS: usize = 6_144;

type Actions = BTreeMap<String, BTreeSet<String>>;

fn add(actions: &mut Actions, action: &str) {
    let (service, name) = action.split_once(':').unwrap_or_else(|| panic!("{action} names no service"));
    actions.entry(service.to_owned()).or_default().insert(name.to_owned());
}

/// `create_change_set` is `CreateChangeSet`.
fn operation(method: &str) -> String {
    method.split('_').flat_map(|word| [word[..1].to_uppercase(), word[1..].to_owned()]).collect()
}

/// Every operation the adapters send, by service.
fn calls() -> Actions {
    let client = Regex::new(r"aws_sdk_(\w+)::Client;").expect("a pattern");
    let call = Regex::new(r"\bclient\s*\.(\w+)\(\)").expect("a pattern");
    let mut calls = Actions::new();
    for file in files("operator/src/aws") {
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
    if text("operator/src/aws.rs").contains("AssumeRoleProvider") {
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

/// `dynamodb` is `Dynamodb`; a statement id has letters and digits only.
fn sid(service: &str) -> String {
    operation(&service.replace('-', "_"))
}

/// Statements for actions on the product's own resources, and one for those AWS cannot limit to resources.
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
    // Anybody may ask who they are ("GetCallerIdentity": no permissions are required).
    actions.get_mut("sts").expect("the account is asked for").remove("GetCallerIdentity");
    for (service, names) in &actions {
        for name in names {
            assert!(aws.knows(service, name), "{service}:{name} is no action: see `RENAMED`");
        }
    }
    let mut own = statements(&actions, aws);
    for statement in &mut own {
        // A stack without the product's tag is never made under these names.
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
        assert!(actions.get(service).is_some_and(|names| names.contains(name)), "{call} is not called any more");
        own.push(statement());
    }
    policy(&own)
}

/// Every example, so that every resource type a template can have is there.
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

/// What CloudFormation does in the operator's name. `aws:CalledVia` keeps these rights out of the operator's own hands
/// ("Forward access sessions" in the IAM user guide; "FAS requests and permission evaluation" in CloudFormation's).
///
/// One policy for what holds data and one for the rest, because a single one would be over IAM's limit.
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
    let roles = actions.get_mut("iam").expect("roles are made");
    let bounded: BTreeSet<String> = roles.extract_if(.., |name| reference::BOUNDED.contains(&name.as_str())).collect();
    let linked = roles.remove("CreateServiceLinkedRole");
    let stores = actions.extract_if(.., |service, _| reference::STORES.contains(&service.as_str())).collect();
    let mut made = statements(&actions, aws);
    // Whoever may write policies without a boundary may write themselves any right.
    let mut within = allow("WorkerRolesWithinTheBoundary", "iam", &bounded, resources_of("iam"));
    within["Condition"] = json!({ "StringLike": { "iam:PermissionsBoundary": reference::BOUNDARY } });
    made.push(within);
    assert!(linked, "VPC links, caches and scaling have roles of their services");
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

/// What any worker role of any city can have at most: the union of the policies the templates write.
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
fn the_policies_are_what_the_sources_ask_for() {
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
fn every_resource_type_of_the_builders_is_in_a_template() {
    let literal = Regex::new(r#""(AWS::[A-Za-z0-9]+::[A-Za-z0-9]+)""#).expect("a pattern");
    let mut written = BTreeSet::new();
    for file in files("operator/src/plan/template") {
        if file.to_string_lossy().contains("tests") || file.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let source = std::fs::read_to_string(&file).expect("a source");
        written.extend(literal.captures_iter(&source).map(|found| found[1].to_owned()));
    }
    assert_eq!(written, resource_types(&templates()));
}

/// A permission that is left out for a reason is still published for a type that is used.
#[test]
fn what_is_left_out_is_still_there_to_be_left_out() {
    let types = resource_types(&templates());
    let aws = Reference::of(&types);
    for (reason, actions) in UNUSED {
        for action in actions {
            let published =
                types.iter().any(|kind| aws.handlers(kind).iter().any(|found| reference::covers(action, found)));
            assert!(published, "{action} ({reason}) is asked for by no type");
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
            assert!(!actions.contains(&"iam:PassRole"), "{file}: no service is handed a role");
            assert!(statement["Resource"] != "*" || statement["Sid"] == "NotLimitable", "{file}: {statement}");
        }
        assert!(!policy.to_string().contains("DeleteRolePermissionsBoundary"), "{file}: a boundary stays");
    }
    for document in ["operator-policy", "workers-boundary"] {
        let text = text(&format!("manifests/iam/{document}.json"));
        for never in ["dynamodb:Scan", "DeleteTable", "\"iam:"] {
            assert!(!text.contains(never), "{document} grants {never}");
        }
    }
}

/// EKS Pod Identity hands the role to this service account alone.
#[test]
fn the_trust_names_one_service_account() {
    let trust: Value = serde_json::from_str(&text("manifests/iam/operator-trust.json")).expect("JSON");
    let statement = &trust["Statement"][0];
    assert_eq!(statement["Principal"], json!({ "Service": "pods.eks.amazonaws.com" }));
    let tags = &statement["Condition"]["StringEquals"];
    assert_eq!(tags["aws:RequestTag/kubernetes-namespace"], "coactus-system");
    assert_eq!(tags["aws:RequestTag/kubernetes-service-account"], "dispatch-operator");
}
