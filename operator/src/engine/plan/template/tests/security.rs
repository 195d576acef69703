//! Security properties of every template, for any manifest: the policies, and the protection of the data.

use std::collections::BTreeSet;

use dispatch_api::names::IDENTITIES;
use dispatch_api::validate::ValidatedSystem;
use serde_json::{Value, json};

use crate::engine::plan::template::tests::{all, external_cache, of_type, production, properties, seoul};
use crate::engine::plan::template::{Template, render};

const KEY: &str = "arn:aws:kms:ap-northeast-2:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab";

/// Every statement of every policy of a template, with the logical id of its resource.
fn statements(template: &Template) -> Vec<(String, Value)> {
    fn collect(id: &str, value: &Value, found: &mut Vec<(String, Value)>) {
        match value {
            Value::Object(map) if map.contains_key("Effect") => found.push((id.to_owned(), value.clone())),
            Value::Object(map) => map.values().for_each(|child| collect(id, child, found)),
            Value::Array(items) => items.iter().for_each(|child| collect(id, child, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    for (id, resource) in template.body()["Resources"].as_object().unwrap() {
        collect(id, resource, &mut found);
    }
    assert!(found.len() > 20, "only {} statements were found", found.len());
    found
}

/// All strings in a value, at any depth.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(map) => map.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

fn arn(service: &str, resource: &str) -> Value {
    json!({ "Fn::Sub": format!("arn:${{AWS::Partition}}:{service}:${{AWS::Region}}:${{AWS::AccountId}}:{resource}") })
}

#[test]
fn allowed_actions_and_resources_are_explicit() {
    for (name, template) in all() {
        for (id, statement) in statements(&template).iter().filter(|(_, statement)| statement["Effect"] == "Allow") {
            for action in texts(&statement["Action"]) {
                assert!(!action.contains('*'), "{name}/{id} allows {action}");
                for forbidden in
                    ["dynamodb:Scan", "dynamodb:DeleteTable", "sns:DeleteTopic", "sqs:PurgeQueue", "iam:PassRole"]
                {
                    assert_ne!(action, forbidden, "{name}/{id}");
                }
            }
            for resource in texts(&statement["Resource"]) {
                // SNS generates the id of an endpoint, DynamoDB the label of a stream; everything else is explicit.
                let endpoint = resource.ends_with(":endpoint/GCM/coactus-cities-busan-fcm/*");
                let stream = resource.ends_with(":table/${TableName}/stream/*");
                assert!(endpoint || stream || !resource.contains('*'), "{name}/{id} allows on {resource}");
            }
            assert!(!texts(&statement["Principal"]).contains(&"*"), "{name}/{id} allows everyone");
        }
    }
}

#[test]
fn only_leases_can_be_deleted_by_a_worker() {
    for (id, statement) in statements(&render(&production())) {
        if texts(&statement["Action"]).contains(&"dynamodb:DeleteItem") {
            assert!(["CombinedRole", "DispatchAlgorithmRole"].contains(&id.as_str()), "{id}");
            assert_eq!(statement["Resource"], arn("dynamodb", "table/${TableName}-leases"));
        }
    }
}

#[test]
fn queues_topic_and_bucket_refuse_requests_without_tls() {
    for (name, template) in all() {
        let guards: Vec<Value> = statements(&template)
            .into_iter()
            .map(|(_, statement)| statement)
            .filter(|statement| statement["Effect"] == "Deny" && statement["Principal"] == "*")
            .filter(|statement| statement["Condition"] == json!({ "Bool": { "aws:SecureTransport": "false" } }))
            .map(|statement| statement["Resource"].clone())
            .collect();
        for (id, queue) in of_type(&template, "AWS::SQS::Queue") {
            let by_name = arn("sqs", queue["Properties"]["QueueName"].as_str().unwrap());
            let by_id = json!({ "Fn::GetAtt": [id, "Arn"] });
            assert!(guards.contains(&by_name) || guards.contains(&by_id), "{name}/{id}");
        }
        assert!(guards.contains(&json!({ "Ref": "Topic" })), "{name}");
        let bucket = "arn:${AWS::Partition}:s3:::${ExportBucket}";
        let bucket = json!([{ "Fn::Sub": bucket }, { "Fn::Sub": format!("{bucket}/*") }]);
        assert!(guards.contains(&bucket), "{name}");
    }
}

#[test]
fn only_the_topic_may_send_notifications() {
    for (name, template) in all() {
        for (id, statement) in statements(&template) {
            let queue_policy = template.body()["Resources"][&id]["Type"] == "AWS::SQS::QueuePolicy";
            if queue_policy && statement["Effect"] == "Allow" {
                assert_eq!(statement["Principal"], json!({ "Service": "sns.amazonaws.com" }), "{name}/{id}");
                assert_eq!(statement["Action"], "sqs:SendMessage", "{name}/{id}");
                let topic = json!({ "ArnEquals": { "aws:SourceArn": { "Ref": "Topic" } } });
                assert_eq!(statement["Condition"], topic, "{name}/{id}");
            }
            let sends = texts(&statement["Action"]).contains(&"sqs:SendMessage");
            if !queue_policy && sends {
                let resources = texts(&statement["Resource"]);
                assert!(!resources.iter().any(|resource| resource.ends_with("-notifications")), "{name}/{id}");
            }
        }
    }
}

/// The statements of the trust policies, by the service account they are for.
fn trusts(system: &ValidatedSystem) -> Vec<(String, Vec<Value>)> {
    let template = render(system);
    let roles = ["SaveDispatchRole", "DispatchAlgorithmRole", "DriverResponseRole", "StatusUpdateRole", "CombinedRole"];
    assert_eq!(of_type(&template, "AWS::IAM::Role").len(), roles.len());
    let of = |(role, id): (&str, &str)| {
        let trust = properties(&template, id)["AssumeRolePolicyDocument"]["Statement"].as_array().unwrap().clone();
        (format!("{}-{role}", system.name), trust)
    };
    IDENTITIES.into_iter().zip(roles).map(of).collect()
}

#[test]
fn a_role_trusts_the_pods_of_its_service_account_only() {
    for (account, trust) in trusts(&seoul()) {
        let tags = json!({
            "aws:SourceAccount": { "Ref": "AWS::AccountId" },
            "aws:RequestTag/kubernetes-namespace": "cities",
            "aws:RequestTag/kubernetes-service-account": account,
        });
        assert_eq!(trust.len(), 1, "{account}");
        assert_eq!(trust[0]["Principal"], json!({ "Service": "pods.eks.amazonaws.com" }), "{account}");
        assert_eq!(trust[0]["Condition"], json!({ "StringEquals": tags }), "{account}");
    }
}

#[test]
fn a_named_cluster_is_the_only_one_that_is_trusted_and_gets_the_roles() {
    let mut system = production();
    system.spec.aws.eks_cluster_name = Some("blue".to_owned());
    for (account, trust) in trusts(&system) {
        assert_eq!(trust.len(), 1, "{account}");
        let cluster = json!({ "aws:SourceArn": arn("eks", "cluster/blue") });
        assert_eq!(trust[0]["Condition"]["ArnEquals"], cluster, "{account}");
    }
    let template = render(&system);
    let associations = of_type(&template, "AWS::EKS::PodIdentityAssociation");
    let made: Vec<(&Value, &Value)> = associations
        .iter()
        .map(|(_, found)| (&found["Properties"]["ServiceAccount"], &found["Properties"]["RoleArn"]["Fn::GetAtt"][0]))
        .collect();
    let (account, role) = (json!("busan-workers"), json!("CombinedRole"));
    assert_eq!(made.len(), 5);
    assert!(made.contains(&(&account, &role)), "{made:?}");
    for (_, found) in associations {
        assert_eq!(
            (&found["Properties"]["ClusterName"], &found["Properties"]["Namespace"]),
            (&json!("blue"), &json!("cities"))
        );
    }
}

#[test]
fn an_issuer_is_trusted_for_one_service_account_and_the_audience_of_sts() {
    let mut system = seoul();
    let issuer = "oidc.eks.ap-northeast-2.amazonaws.com/id/0A1B";
    let provider = format!("arn:aws:iam::123456789012:oidc-provider/{issuer}");
    system.spec.aws.oidc_provider_arn = Some(provider.clone());
    for (account, trust) in trusts(&system) {
        assert_eq!(trust.len(), 1, "{account}");
        assert_eq!(trust[0]["Principal"], json!({ "Federated": provider }), "{account}");
        assert_eq!(trust[0]["Action"], "sts:AssumeRoleWithWebIdentity", "{account}");
        let claims = json!({
            format!("{issuer}:aud"): "sts.amazonaws.com",
            format!("{issuer}:sub"): format!("system:serviceaccount:cities:{account}"),
        });
        assert_eq!(trust[0]["Condition"], json!({ "StringEquals": claims }), "{account}");
    }
}

#[test]
fn a_principal_of_another_account_assumes_a_role_for_its_service_account_only() {
    let mut system = seoul();
    let principal = "arn:aws:iam::999988887777:role/pods";
    system.spec.aws.worker_principal_arn = Some(principal.to_owned());
    for (account, trust) in trusts(&system) {
        assert_eq!(trust.len(), 1, "{account}");
        assert_eq!(trust[0]["Principal"], json!({ "AWS": principal }), "{account}");
        // The session tags of Pod Identity are passed on.
        assert_eq!(trust[0]["Action"], json!(["sts:AssumeRole", "sts:TagSession"]), "{account}");
        let tags = &trust[0]["Condition"]["StringEquals"];
        assert_eq!(tags["aws:RequestTag/kubernetes-service-account"], account.as_str());
    }
}

#[test]
fn every_role_has_the_boundary() {
    for (id, role) in of_type(&render(&production()), "AWS::IAM::Role") {
        let boundary = "arn:aws:iam::123456789012:policy/dispatch-boundary";
        assert_eq!(role["Properties"]["PermissionsBoundary"], boundary, "{id}");
    }
}

/// Workers of all roles may do what each role may, and nothing else.
#[test]
fn the_combined_role_is_the_union_of_the_others() {
    let template = render(&production());
    let granted = |ids: &[&str]| -> BTreeSet<(String, String)> {
        let of = |(_, statement): &(String, Value)| {
            let pair = |action: &str, resource: &str| (action.to_owned(), resource.to_owned());
            let resources: Vec<String> = match &statement["Resource"] {
                Value::Array(all) => all.iter().map(Value::to_string).collect(),
                one => vec![one.to_string()],
            };
            texts(&statement["Action"])
                .into_iter()
                .flat_map(|action| resources.iter().map(move |resource| pair(action, resource)))
                .collect::<Vec<_>>()
        };
        let of_roles =
            |(id, statement): &(String, Value)| ids.contains(&id.as_str()) && statement["Resource"] != Value::Null;
        statements(&template).iter().filter(|found| of_roles(found)).flat_map(of).collect()
    };
    let single = ["SaveDispatchRole", "DispatchAlgorithmRole", "DriverResponseRole", "StatusUpdateRole"];
    assert_eq!(granted(&["CombinedRole"]), granted(&single));
    assert!(granted(&single).len() > 10);
}

#[test]
fn data_outlives_the_stack_unless_the_manifest_says_otherwise() {
    for (system, deletion, replacement) in [
        (production(), "RetainExceptOnCreate", "Retain"),
        (external_cache(), "RetainExceptOnCreate", "Retain"),
        (seoul(), "Delete", "Delete"),
    ] {
        let template = render(&system);
        for id in ["Table", "ExportBucket"] {
            let resource = &template.body()["Resources"][id];
            assert_eq!(resource["DeletionPolicy"], deletion, "{}/{id}", system.name);
            assert_eq!(resource["UpdateReplacePolicy"], replacement, "{}/{id}", system.name);
        }
        for id in ["LeaseTable", "ExportBucketPolicy"] {
            assert_eq!(template.body()["Resources"][id]["DeletionPolicy"], "Delete", "{}/{id}", system.name);
        }
    }
    assert_eq!(properties(&render(&production()), "Table")["DeletionProtectionEnabled"], true);
    assert_eq!(properties(&render(&seoul()), "Table")["DeletionProtectionEnabled"], false);
}

#[test]
fn the_table_is_backed_up_continuously_and_streams_both_images() {
    for (name, template) in all() {
        let table = properties(&template, "Table");
        assert_eq!(table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"], true, "{name}");
        assert_eq!(table["StreamSpecification"]["StreamViewType"], "NEW_AND_OLD_IMAGES", "{name}");
        assert_eq!(table["GlobalSecondaryIndexes"].as_array().unwrap().len(), 2, "{name}");
    }
}

#[test]
fn the_export_bucket_blocks_public_access_and_expires_objects() {
    for (name, template) in all() {
        let bucket = properties(&template, "ExportBucket");
        let access = bucket["PublicAccessBlockConfiguration"].as_object().unwrap();
        assert_eq!(access.len(), 4, "{name}");
        assert!(access.values().all(|blocked| blocked == true), "{name}");
        assert_eq!(
            bucket["OwnershipControls"],
            json!({ "Rules": [{ "ObjectOwnership": "BucketOwnerEnforced" }] }),
            "{name}"
        );
        assert_eq!(bucket["VersioningConfiguration"]["Status"], "Enabled", "{name}");
        assert_eq!(bucket["LifecycleConfiguration"]["Rules"].as_array().unwrap().len(), 3, "{name}");
    }
    let production = render(&production());
    let expiry = &properties(&production, "ExportBucket")["LifecycleConfiguration"]["Rules"][0];
    assert_eq!((&expiry["Prefix"], &expiry["ExpirationInDays"]), (&json!("exports/"), &json!(730)));
}

#[test]
fn everything_at_rest_is_encrypted_with_the_named_key() {
    let template = render(&production());
    let places = [
        ("AWS::DynamoDB::Table", "/SSESpecification/KMSMasterKeyId", 2),
        ("AWS::SQS::Queue", "/KmsMasterKeyId", 7),
        ("AWS::SNS::Topic", "/KmsMasterKeyId", 1),
        (
            "AWS::S3::Bucket",
            "/BucketEncryption/ServerSideEncryptionConfiguration/0/ServerSideEncryptionByDefault/KMSMasterKeyID",
            1,
        ),
        ("AWS::ElastiCache::ReplicationGroup", "/KmsKeyId", 1),
        ("AWS::Logs::LogGroup", "/KmsKeyId", 2),
        ("AWS::Athena::WorkGroup", "/WorkGroupConfiguration/ResultConfiguration/EncryptionConfiguration/KmsKey", 1),
    ];
    for (kind, pointer, count) in places {
        let resources = of_type(&template, kind);
        assert_eq!(resources.len(), count, "{kind}");
        for (id, resource) in resources {
            assert_eq!(resource["Properties"].pointer(pointer), Some(&json!(KEY)), "{id}");
        }
    }
}

#[test]
fn without_a_key_the_services_own_encryption_is_on() {
    let template = render(&seoul());
    assert_eq!(properties(&template, "Table")["SSESpecification"], json!({ "SSEEnabled": true, "SSEType": "KMS" }));
    for (id, queue) in of_type(&template, "AWS::SQS::Queue") {
        assert_eq!(queue["Properties"]["SqsManagedSseEnabled"], true, "{id}");
    }
    let group = properties(&template, "ReplicationGroup");
    assert_eq!((&group["AtRestEncryptionEnabled"], &group["TransitEncryptionEnabled"]), (&json!(true), &json!(true)));
    assert!(!template.to_json().contains("arn:aws:kms"));
}

#[test]
fn dead_letters_are_kept_two_weeks_and_come_from_one_queue() {
    let template = render(&seoul());
    for (queue, name) in
        [("OffersQueue", "offers"), ("ResponsesQueue", "responses"), ("NotificationsQueue", "notifications")]
    {
        let target = &properties(&template, queue)["RedrivePolicy"]["deadLetterTargetArn"];
        assert_eq!(*target, json!({ "Fn::GetAtt": [format!("{queue}DeadLetters"), "Arn"] }));
        let dead_letters = properties(&template, &format!("{queue}DeadLetters"));
        assert_eq!(dead_letters["MessageRetentionPeriod"], 14 * 24 * 3600);
        let source = arn("sqs", &format!("coactus-cities-seoul-{name}"));
        assert_eq!(
            dead_letters["RedriveAllowPolicy"],
            json!({ "redrivePermission": "byQueue", "sourceQueueArns": [source] })
        );
    }
}

#[test]
fn the_auth_token_is_a_parameter_that_is_never_shown() {
    let template = render(&production());
    assert_eq!(template.body()["Parameters"]["CacheAuthToken"]["NoEcho"], true);
    assert!(template.body()["Parameters"]["CacheAuthToken"].get("Default").is_none());
    assert_eq!(properties(&template, "ReplicationGroup")["AuthToken"], json!({ "Ref": "CacheAuthToken" }));
    let uses = template.to_json().matches("CacheAuthToken").count();
    assert_eq!(uses, 2, "the parameter and the cache, no output");
}

#[test]
fn access_logs_hold_no_path_no_address_and_no_claim() {
    let template = render(&production());
    let format = properties(&template, "DefaultStage")["AccessLogSettings"]["Format"].as_str().unwrap();
    let line: Value = serde_json::from_str(format).unwrap();
    assert!(line.as_object().unwrap().len() > 5);
    for variable in texts(&line) {
        for forbidden in ["path", "identity", "claims", "request.", "querystring"] {
            assert!(!variable.contains(forbidden), "{variable}");
        }
    }
}
