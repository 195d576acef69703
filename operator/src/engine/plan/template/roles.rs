//! One IAM role for each worker role, with the permissions of that role only, and one for workers that run all roles.
//! All of them exist in both layouts, because Pods of both run while the layout changes.
//!
//! Only Pods of the role's service account may assume a role: through EKS Pod Identity, through the issuer of the
//! cluster's tokens, or through a role of the cluster's own account. Every resource is named exactly, with two
//! exceptions for ids that services generate: the endpoint of a device in the platform application, and the label of a
//! stream of the table. That label changes when the stream is disabled and enabled while the earlier stream is still
//! read.

use dispatch_api::names::{self, IDENTITIES};
use dispatch_api::validate::ValidatedSystem;
use serde_json::{Value, json};

use crate::engine::plan::template::fragment::{
    Resource, TemplateFragment, allow, attribute, local_arn, policy_document, reference, sub,
};
use crate::engine::plan::template::queues::queue_arn;
use crate::engine::plan::template::table::{GSI1, GSI2, TABLE_NAME};
use crate::engine::plan::template::{ids, outputs};

/// Permissions on the table for roles that change dispatches. A transaction requires the permissions of its single
/// actions. No role scans or deletes: items that may be removed have an expiry.
const READ_WRITE: [&str; 6] = [
    "dynamodb:BatchGetItem",
    "dynamodb:ConditionCheckItem",
    "dynamodb:GetItem",
    "dynamodb:PutItem",
    "dynamodb:Query",
    "dynamodb:UpdateItem",
];
const LEASES: [&str; 5] =
    ["dynamodb:BatchGetItem", "dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"];
const STREAM: [&str; 3] = ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"];
const SEND: [&str; 1] = ["sqs:SendMessage"];
const CONSUME: [&str; 4] =
    ["sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"];

/// Policy with the permissions of all four roles: each changes dispatches, and a change writes the dispatch, its people
/// and their histories in one transaction.
const DATA_POLICY: &str = "WorkerDataPolicy";

/// Logical ids of the roles, in the order of [`IDENTITIES`].
const ROLES: [&str; 5] =
    ["SaveDispatchRole", "DispatchAlgorithmRole", "DriverResponseRole", "StatusUpdateRole", "CombinedRole"];

pub(super) fn part(system: &ValidatedSystem) -> TemplateFragment {
    let mut part = TemplateFragment::default();
    part.resource(DATA_POLICY, data_policy(system));
    let statements =
        [Vec::new(), dispatch_algorithm(system), driver_response(system), vec![publish()], combined(system)];
    for (((logical_id, output), role), statements) in
        ROLES.into_iter().zip(outputs::ROLE_ARNS).zip(IDENTITIES).zip(statements)
    {
        part.resource(logical_id, worker_role(system, role, &statements));
        part.output(output, &attribute(logical_id, "Arn"));
        if let Some(cluster) = &system.spec.aws.eks_cluster_name {
            part.resource(format!("{logical_id}Association"), association(system, cluster, role, logical_id));
        }
    }
    part
}

/// EKS gives the role to Pods of the service account.
fn association(system: &ValidatedSystem, cluster: &str, role: &str, logical_id: &str) -> Resource {
    Resource::new(
        "AWS::EKS::PodIdentityAssociation",
        json!({
            "ClusterName": cluster,
            "Namespace": system.namespace,
            "ServiceAccount": names::role_object(&system.name, role),
            "RoleArn": attribute(logical_id, "Arn"),
        }),
    )
}

/// Reads the stream and takes the timers; sends timers, stream records that cannot be processed, and outcomes of offers
/// by timeout or auto-accept.
fn dispatch_algorithm(system: &ValidatedSystem) -> Vec<Value> {
    let names = &system.names;
    vec![
        allow("Stream", &STREAM, table_arn("/stream/*")),
        allow("Leases", &LEASES, table_arn("-leases")),
        allow(
            "Send",
            &SEND,
            json!([
                queue_arn(&names.offers_queue),
                queue_arn(&format!("{}-dlq", names.offers_queue)),
                queue_arn(&names.responses_queue),
            ]),
        ),
        allow("TakeTimers", &CONSUME, queue_arn(&names.offers_queue)),
        publish(),
    ]
}

/// What all roles may do: one statement for each kind of access, to save template size.
fn combined(system: &ValidatedSystem) -> Vec<Value> {
    let (mut all, mut send, mut consume): (Vec<Value>, Vec<Value>, Vec<Value>) = Default::default();
    for statement in dispatch_algorithm(system).into_iter().chain(driver_response(system)) {
        let queues = match &statement["Action"] {
            actions if *actions == json!(SEND) => &mut send,
            actions if *actions == json!(CONSUME) => &mut consume,
            _ if all.contains(&statement) => continue,
            _ => {
                all.push(statement);
                continue;
            }
        };
        let resources = match statement["Resource"].clone() {
            Value::Array(resources) => resources,
            one => vec![one],
        };
        queues.extend(resources.into_iter().filter(|queue| !queues.contains(queue)).collect::<Vec<_>>());
    }
    all.push(allow("Send", &SEND, json!(send)));
    all.push(allow("TakeMessages", &CONSUME, json!(consume)));
    all
}

fn data_policy(system: &ValidatedSystem) -> Resource {
    let statements = [Some(table_access()), use_of_key(system)];
    Resource::new(
        "AWS::IAM::ManagedPolicy",
        json!({
            "Path": path(system),
            "Description": format!("What all workers of {}/{} may do", system.namespace, system.name),
            "PolicyDocument": policy_document(statements.into_iter().flatten()),
        }),
    )
}

fn worker_role(system: &ValidatedSystem, role: &str, statements: &[Value]) -> Resource {
    let own = json!([{ "PolicyName": role, "PolicyDocument": policy_document(statements.iter().cloned()) }]);
    Resource::new(
        "AWS::IAM::Role",
        json!({
            "Path": path(system),
            "Description": format!("{role} workers of {}/{}", system.namespace, system.name),
            "AssumeRolePolicyDocument": trust(system, role),
            "PermissionsBoundary": system.spec.aws.permissions_boundary_arn,
            "ManagedPolicyArns": [reference(DATA_POLICY)],
            "Policies": (!statements.is_empty()).then_some(own),
        }),
    )
}

/// Roles and policies have generated names, because IAM names are unique in an account and the same system can exist in
/// several regions. The path identifies the system.
fn path(system: &ValidatedSystem) -> String {
    format!("/coactus/{}/{}/", system.namespace, system.name)
}

/// Who may assume the role: Pods of its service account, by what the spec names. Pod Identity always sets these session
/// tags ("EKS Pod Identity session tags").
fn trust(system: &ValidatedSystem, role: &str) -> Value {
    let aws = &system.spec.aws;
    let account = names::role_object(&system.name, role);
    let by_pod_identity =
        aws.eks_cluster_name.is_some() || (aws.oidc_provider_arn.is_none() && aws.worker_principal_arn.is_none());
    let statements = [
        by_pod_identity.then(|| trust_in_pod_identity(system, &account)),
        aws.oidc_provider_arn.as_deref().map(|provider| trust_in_issuer(system, provider, &account)),
        aws.worker_principal_arn.as_ref().map(|principal| {
            let condition = json!({ "StringEquals": tags_of_the_pod(system, &account) });
            trust_with_tags(&json!({ "AWS": principal }), &condition)
        }),
    ];
    policy_document(statements.into_iter().flatten())
}

fn tags_of_the_pod(system: &ValidatedSystem, account: &str) -> Value {
    json!({
        "aws:RequestTag/kubernetes-namespace": system.namespace,
        "aws:RequestTag/kubernetes-service-account": account,
    })
}

fn trust_in_pod_identity(system: &ValidatedSystem, account: &str) -> Value {
    let mut equals = tags_of_the_pod(system, account);
    equals["aws:SourceAccount"] = json!({ "Ref": "AWS::AccountId" });
    let mut condition = json!({ "StringEquals": equals });
    if let Some(cluster) = &system.spec.aws.eks_cluster_name {
        condition["ArnEquals"] = json!({ "aws:SourceArn": local_arn("eks", &format!("cluster/{cluster}")) });
    }
    trust_with_tags(&json!({ "Service": "pods.eks.amazonaws.com" }), &condition)
}

/// A principal may assume the role with session tags.
fn trust_with_tags(principal: &Value, condition: &Value) -> Value {
    json!({
        "Effect": "Allow",
        "Principal": principal,
        "Action": ["sts:AssumeRole", "sts:TagSession"],
        "Condition": condition,
    })
}

/// Keys of the condition are the issuer without its scheme, which is the name of the provider ("IAM roles for service
/// accounts").
fn trust_in_issuer(system: &ValidatedSystem, provider: &str, account: &str) -> Value {
    let issuer = provider.split_once(":oidc-provider/").map_or(provider, |(_, issuer)| issuer);
    json!({
        "Effect": "Allow",
        "Principal": { "Federated": provider },
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {
            "StringEquals": {
                format!("{issuer}:aud"): "sts.amazonaws.com",
                format!("{issuer}:sub"): format!("system:serviceaccount:{}:{account}", system.namespace),
            },
        },
    })
}

fn table_access() -> Value {
    let index = |name: &str| table_arn(&format!("/index/{name}"));
    allow("Table", &READ_WRITE, json!([table_arn(""), index(GSI1), index(GSI2)]))
}

/// By the name of the table, for the reason described at [`queue_arn`], and because the roles are created before it.
fn table_arn(behind: &str) -> Value {
    local_arn("dynamodb", &format!("table/${{{TABLE_NAME}}}{behind}"))
}

/// By reading the attributes, a worker finds out at its start whether the topic exists.
fn publish() -> Value {
    allow("Publish", &["sns:GetTopicAttributes", "sns:Publish"], reference(ids::TOPIC))
}

/// Records the answers of drivers and delivers notifications to devices.
fn driver_response(system: &ValidatedSystem) -> Vec<Value> {
    let names = &system.names;
    let mut statements = vec![
        allow("SendResponses", &SEND, queue_arn(&names.responses_queue)),
        allow(
            "TakeMessages",
            &CONSUME,
            json!([queue_arn(&names.responses_queue), queue_arn(&names.notifications_queue)]),
        ),
        publish(),
    ];
    if system.spec.notifications.fcm.is_some() {
        let application = &names.platform_application;
        let application_arn = local_arn("sns", &format!("app/GCM/{application}"));
        let endpoints = local_arn("sns", &format!("endpoint/GCM/{application}/*"));
        statements.push(allow("RegisterDevices", &["sns:CreatePlatformEndpoint"], application_arn));
        statements.push(allow(
            "PushToDevices",
            &["sns:DeleteEndpoint", "sns:GetEndpointAttributes", "sns:Publish", "sns:SetEndpointAttributes"],
            endpoints,
        ));
    }
    statements
}

/// The customer managed key, only through the services that store the data of this system.
fn use_of_key(system: &ValidatedSystem) -> Option<Value> {
    let key = system.spec.aws.kms_key_arn.as_ref()?;
    let actions = [
        "kms:Decrypt",
        "kms:DescribeKey",
        "kms:Encrypt",
        "kms:GenerateDataKey",
        "kms:ReEncryptFrom",
        "kms:ReEncryptTo",
    ];
    let mut statement = allow("UseKey", &actions, json!(key));
    let services =
        ["dynamodb", "sns", "sqs"].map(|service| sub(&format!("{service}.${{AWS::Region}}.${{AWS::URLSuffix}}")));
    statement["Condition"] = json!({ "StringEquals": { "kms:ViaService": services } });
    Some(statement)
}
