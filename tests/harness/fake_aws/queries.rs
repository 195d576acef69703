//! The services with the query protocol (form fields in, XML out): CloudFormation, SNS, ElastiCache, STS.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::http::StatusCode;

use super::ACCOUNT;
use super::stacks::{Change, Stack, Stacks};

pub(super) type Fields = BTreeMap<String, String>;
type Refusal = (StatusCode, &'static str, String);

/// Parses the fields of a form. Templates are long, and a general URL parser is slow in a debug build.
pub(super) fn fields(body: &[u8]) -> Fields {
    let pairs = body.split(|byte| *byte == b'&').filter_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        Some((decoded(&pair[..at]), decoded(&pair[at + 1..])))
    });
    pairs.collect()
}

fn decoded(text: &[u8]) -> String {
    let digit = |at: usize| {
        let digit = text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        digit.and_then(|digit| u8::try_from(digit).ok()).unwrap_or_default()
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'%' => {
                bytes.push(digit(at + 1) * 16 + digit(at + 2));
                at += 2;
            }
            b'+' => bytes.push(b' '),
            other => bytes.push(other),
        }
        at += 1;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The content of the operation's result element.
pub(super) fn answer(stacks: &mut Stacks, operation: &str, fields: &Fields) -> Result<String, Refusal> {
    let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    let stack = field("StackName");
    let set = (stack.to_owned(), field("ChangeSetName").to_owned());
    match operation {
        "GetCallerIdentity" => Ok(format!("<Account>{ACCOUNT}</Account>")),
        "GetPlatformApplicationAttributes" => {
            Err((StatusCode::NOT_FOUND, "NotFound", "no such application".to_owned()))
        }
        "DescribeReplicationGroups" => {
            let group = field("ReplicationGroupId");
            Ok(format!(
                "<ReplicationGroups><ReplicationGroup><TransitEncryptionEnabled>true</TransitEncryptionEnabled><NodeGroups>\
                 <NodeGroup><PrimaryEndpoint><Address>{group}.cache.example</Address><Port>6379</Port></PrimaryEndpoint>\
                 </NodeGroup></NodeGroups></ReplicationGroup></ReplicationGroups>"
            ))
        }
        "DescribeStacks" => stacks.look(stack).map(describe).ok_or_else(|| absent(stack)),
        "DescribeStackEvents" => stacks.look(stack).map(events).ok_or_else(|| absent(stack)),
        "CreateChangeSet" => {
            let change = Change { template: field("TemplateBody"), tags: tags(fields) };
            if !stacks.propose(set, &change) {
                return Err((StatusCode::BAD_REQUEST, "AlreadyExistsException", "it exists".to_owned()));
            }
            Ok("<Id>set</Id><StackId>stack</StackId>".to_owned())
        }
        "DescribeChangeSet" if stacks.is_proposed(&set) => {
            Ok("<Status>CREATE_COMPLETE</Status><ExecutionStatus>AVAILABLE</ExecutionStatus><Changes></Changes>"
                .to_owned())
        }
        "ExecuteChangeSet" if stacks.execute(&set) => Ok(String::new()),
        "DescribeChangeSet" | "ExecuteChangeSet" => {
            Err((StatusCode::NOT_FOUND, "ChangeSetNotFound", "no such change set".to_owned()))
        }
        "DeleteStack" => {
            stacks.delete(stack);
            Ok(String::new())
        }
        "ListStackResources" => stacks.look(stack).map(resources).ok_or_else(|| absent(stack)),
        "DetectStackResourceDrift" => Ok(format!(
            "<StackResourceDrift><StackId>{stack}</StackId><LogicalResourceId>{}</LogicalResourceId><ResourceType>-\
             </ResourceType><StackResourceDriftStatus>IN_SYNC</StackResourceDriftStatus>\
             <Timestamp>2024-05-02T03:00:00Z</Timestamp></StackResourceDrift>",
            field("LogicalResourceId")
        )),
        // The topic has the name of the queue that subscribes to it.
        "ListSubscriptionsByTopic" => {
            let queue = field("TopicArn").replace(":sns:", ":sqs:");
            Ok(format!(
                "<Subscriptions><member><TopicArn>{}</TopicArn><Protocol>sqs</Protocol><Endpoint>{queue}</Endpoint>\
                 </member></Subscriptions>",
                field("TopicArn")
            ))
        }
        "DescribeEvents" => Ok("<OperationEvents></OperationEvents>".to_owned()),
        _ => Ok(String::new()),
    }
}

fn absent(stack: &str) -> Refusal {
    (StatusCode::BAD_REQUEST, "ValidationError", format!("Stack with id {stack} does not exist"))
}

fn tags(fields: &Fields) -> Vec<(String, String)> {
    let key = |at: usize| fields.get(&format!("Tags.member.{at}.Key")).cloned();
    let value = |at: usize| fields.get(&format!("Tags.member.{at}.Value")).cloned().unwrap_or_default();
    (1..).map_while(|at| key(at).map(|key| (key, value(at)))).collect()
}

fn describe(stack: &Stack) -> String {
    let mut text = format!(
        "<Stacks><member><StackName>{}</StackName><StackId>{}</StackId><StackStatus>{}</StackStatus>\
         <CreationTime>2024-05-02T03:00:00Z</CreationTime><Tags>",
        stack.name, stack.arn, stack.state
    );
    for (key, value) in &stack.tags {
        // Writing to a string cannot fail.
        let _ = write!(text, "<member><Key>{}</Key><Value>{}</Value></member>", escaped(key), escaped(value));
    }
    text.push_str("</Tags><Outputs>");
    for (key, value) in stack.outputs() {
        let _ =
            write!(text, "<member><OutputKey>{key}</OutputKey><OutputValue>{}</OutputValue></member>", escaped(value));
    }
    text.push_str("</Outputs></member></Stacks>");
    text
}

fn resources(stack: &Stack) -> String {
    let mut text = "<StackResourceSummaries>".to_owned();
    for resource in stack.resources() {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "<member><LogicalResourceId>{}</LogicalResourceId><PhysicalResourceId>{}</PhysicalResourceId><ResourceType>\
             {}</ResourceType><LastUpdatedTimestamp>2024-05-02T03:00:00Z</LastUpdatedTimestamp><ResourceStatus>\
             CREATE_COMPLETE</ResourceStatus></member>",
            resource.logical_id, resource.physical_id, resource.kind
        );
    }
    text.push_str("</StackResourceSummaries>");
    text
}

/// Newest first, like CloudFormation.
fn events(stack: &Stack) -> String {
    let mut text = "<StackEvents>".to_owned();
    for (at, event) in stack.events.iter().enumerate().rev() {
        let reason = event.reason.map(|reason| format!("<ResourceStatusReason>{reason}</ResourceStatusReason>"));
        let _ = write!(
            text,
            "<member><StackId>{0}</StackId><StackName>{1}</StackName><EventId>{1}-{at}</EventId><LogicalResourceId>{2}\
             </LogicalResourceId><PhysicalResourceId>{3}</PhysicalResourceId><ResourceType>{4}</ResourceType>\
             <Timestamp>2024-05-02T03:00:00Z</Timestamp><ResourceStatus>{5}</ResourceStatus>{6}</member>",
            stack.arn,
            stack.name,
            event.logical_id(stack),
            event.physical_id(stack),
            event.resource_type(),
            event.status,
            reason.unwrap_or_default(),
        );
    }
    text.push_str("</StackEvents>");
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
