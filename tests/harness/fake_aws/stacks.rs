//! Stacks, with as much detail as the operator reads.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use serde_json::{Value, json};

use super::{ACCOUNT, Behaviour};
use crate::ministack::REGION;

/// Input of a change set.
pub(super) struct Change<'a> {
    pub template: &'a str,
    pub tags: Vec<(String, String)>,
}

/// An event of a stack.
pub(super) struct Event {
    pub status: &'static str,
    pub reason: Option<&'static str>,
}

impl Event {
    /// An event with a reason is about a resource, any other about the stack itself.
    pub(super) fn logical_id<'a>(&self, stack: &'a Stack) -> &'a str {
        if self.reason.is_some() { "ReplicationGroup" } else { &stack.name }
    }

    pub(super) fn physical_id<'a>(&self, stack: &'a Stack) -> &'a str {
        if self.reason.is_some() { "" } else { &stack.arn }
    }

    pub(super) fn resource_type(&self) -> &'static str {
        if self.reason.is_some() { "AWS::ElastiCache::ReplicationGroup" } else { "AWS::CloudFormation::Stack" }
    }
}

pub(super) struct Stack {
    pub name: String,
    pub arn: String,
    pub state: &'static str,
    pub tags: Vec<(String, String)>,
    pub events: Vec<Event>,
    content: Content,
    running: Option<(Instant, &'static str)>,
}

/// What the fake uses of a template.
#[derive(Clone, Default)]
struct Content {
    outputs: BTreeMap<String, String>,
    tables: Vec<String>,
    protected: bool,
    queues: Vec<(String, BTreeMap<&'static str, String>)>,
    buckets: Vec<String>,
    resources: Vec<Resource>,
}

/// A resource of a stack.
#[derive(Clone)]
pub(super) struct Resource {
    pub logical_id: String,
    pub physical_id: String,
    pub kind: String,
}

impl Stack {
    /// Outputs; a stack that is being created has none.
    pub(super) fn outputs(&self) -> impl Iterator<Item = (&String, &String)> {
        self.content
            .outputs
            .iter()
            .filter(|_| !self.state.starts_with("CREATE_IN") && self.state != "ROLLBACK_COMPLETE")
    }

    pub(super) fn resources(&self) -> &[Resource] {
        &self.content.resources
    }

    fn tell(&mut self, status: &'static str, reason: Option<&'static str>) {
        self.events.push(Event { status, reason });
    }
}

/// Content and tags that a change set gives to a stack.
type ChangeSet = (Content, Vec<(String, String)>);

/// All stacks of the account.
pub(super) struct Stacks {
    behaviour: Behaviour,
    // Also holds deleted stacks, by name.
    all: HashMap<String, Stack>,
    sets: HashMap<(String, String), ChangeSet>,
    most: usize,
}

impl Stacks {
    pub(super) fn new(behaviour: Behaviour) -> Self {
        Self { behaviour, all: HashMap::new(), sets: HashMap::new(), most: 0 }
    }

    pub(super) fn most_operations(&self) -> usize {
        self.most
    }

    /// A stack by name or ARN, in its current state.
    pub(super) fn look(&mut self, stack: &str) -> Option<&Stack> {
        let name = name_of(stack).to_owned();
        let found = self.all.get_mut(&name)?;
        settle(found);
        if found.state == "DELETE_COMPLETE" && found.arn != stack {
            return None;
        }
        Some(found)
    }

    /// Creates a change set; `false` if it already exists.
    pub(super) fn propose(&mut self, set: (String, String), change: &Change<'_>) -> bool {
        let name = set.0.clone();
        if self.sets.contains_key(&set) {
            return false;
        }
        let template = serde_json::from_str(change.template).unwrap_or_default();
        self.sets.insert(set, (content(&template), change.tags.clone()));
        if self.look(&name).is_none() {
            let arn = format!("arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{name}/1");
            let (state, events) = ("REVIEW_IN_PROGRESS", Vec::new());
            let (tags, content, running) = (Vec::new(), Content::default(), None);
            self.all.insert(name.clone(), Stack { name, arn, state, tags, events, content, running });
        }
        true
    }

    pub(super) fn is_proposed(&self, set: &(String, String)) -> bool {
        self.sets.contains_key(&(name_of(&set.0).to_owned(), set.1.clone()))
    }

    /// Starts the operation of a change set; `false` if there is none.
    pub(super) fn execute(&mut self, set: &(String, String)) -> bool {
        let set = (name_of(&set.0).to_owned(), set.1.clone());
        let Some((content, tags)) = self.sets.remove(&set) else { return false };
        let ends = Instant::now() + self.behaviour.operation;
        let fails = set.0.contains(self.behaviour.failing);
        let Some(stack) = self.all.get_mut(&set.0) else { return false };
        let is_new = stack.state == "REVIEW_IN_PROGRESS";
        let (begun, end) = match (is_new, fails) {
            (true, true) => ("CREATE_IN_PROGRESS", "ROLLBACK_COMPLETE"),
            (true, false) => ("CREATE_IN_PROGRESS", "CREATE_COMPLETE"),
            _ => ("UPDATE_IN_PROGRESS", "UPDATE_COMPLETE"),
        };
        (stack.content, stack.tags, stack.state, stack.running) = (content, tags, begun, Some((ends, end)));
        stack.tell(begun, None);
        if end == "ROLLBACK_COMPLETE" {
            stack.tell("CREATE_FAILED", Some("no capacity for this node type"));
        }
        self.count();
        true
    }

    pub(super) fn delete(&mut self, stack: &str) {
        let ends = Instant::now() + self.behaviour.operation;
        if let Some(found) = self.all.get_mut(name_of(stack)) {
            (found.state, found.running) = ("DELETE_IN_PROGRESS", Some((ends, "DELETE_COMPLETE")));
            found.tell("DELETE_IN_PROGRESS", None);
        }
        self.count();
    }

    fn count(&mut self) {
        self.all.values_mut().for_each(settle);
        self.most = self.most.max(self.all.values().filter(|stack| stack.running.is_some()).count());
    }

    /// The table of this name, as `DescribeTable` returns it.
    pub(super) fn table(&mut self, table: &str) -> Option<Value> {
        let stack = self.living(|content| content.tables.iter().any(|name| name == table))?;
        let arn = format!("arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{table}");
        let keys = |prefix: &str| {
            json!([{ "AttributeName": format!("{prefix}PK"), "KeyType": "HASH" },
                { "AttributeName": format!("{prefix}SK"), "KeyType": "RANGE" }])
        };
        let indexes = ["GSI1", "GSI2"].map(|name| json!({ "IndexName": name, "KeySchema": keys(name) }));
        Some(json!({
            "TableName": table,
            "TableArn": arn,
            "TableStatus": "ACTIVE",
            "KeySchema": keys(""),
            "GlobalSecondaryIndexes": indexes,
            "BillingModeSummary": { "BillingMode": "PAY_PER_REQUEST" },
            "StreamSpecification": { "StreamEnabled": true, "StreamViewType": "NEW_AND_OLD_IMAGES" },
            "LatestStreamArn": format!("{arn}/stream/1"),
            "DeletionProtectionEnabled": stack.content.protected,
        }))
    }

    /// Attributes of the queue with this URL.
    pub(super) fn queue(&mut self, url: &str) -> Option<BTreeMap<&'static str, String>> {
        let stack = self.living(|content| content.queues.iter().any(|(name, _)| name == last(url)))?;
        stack.content.queues.iter().find(|(name, _)| name == last(url)).map(|(_, attributes)| attributes.clone())
    }

    /// Whether there is a bucket of this name.
    pub(super) fn has_bucket(&self, bucket: &str) -> bool {
        self.living(|content| content.buckets.iter().any(|name| name == bucket)).is_some()
    }

    fn living(&self, has: impl Fn(&Content) -> bool) -> Option<&Stack> {
        self.all.values().find(|stack| !stack.state.starts_with("DELETE") && has(&stack.content))
    }
}

fn settle(stack: &mut Stack) {
    if let Some((_, end)) = stack.running.filter(|(ends, _)| Instant::now() >= *ends) {
        (stack.state, stack.running) = (end, None);
        stack.tell(end, None);
    }
}

/// Name of a stack, given its name or its ARN.
fn name_of(stack: &str) -> &str {
    if stack.starts_with("arn:") { stack.split('/').nth(1).unwrap_or(stack) } else { stack }
}

fn last(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or(url)
}

fn content(template: &Value) -> Content {
    let resources = &template["Resources"];
    let properties = |id: &str| &resources[id]["Properties"];
    let named = |id: &str| {
        let mut names = ["TableName", "QueueName", "BucketName", "TopicName", "ReplicationGroupId"].into_iter();
        names.find_map(|name| properties(id)[name].as_str()).unwrap_or(id).to_owned()
    };
    let value = |output: &Value| match (&output["Value"], output["Value"]["Ref"].as_str()) {
        (Value::String(text), _) => text.clone(),
        (_, Some(id)) if resources[id]["Type"] == "AWS::SQS::Queue" => {
            format!("http://sqs.example/{ACCOUNT}/{}", named(id))
        }
        (_, Some(id)) => named(id),
        (other, None) => format!("{}:{other}", template["Description"]).replace('"', ""),
    };
    let physical = |id: &String| {
        let (kind, name) = (resources[id]["Type"].as_str().unwrap_or_default().to_owned(), named(id));
        let physical_id = match kind.as_str() {
            "AWS::SQS::Queue" => format!("http://sqs.example/{ACCOUNT}/{name}"),
            "AWS::SNS::Topic" => format!("arn:aws:sns:{REGION}:{ACCOUNT}:{name}"),
            _ => name,
        };
        Resource { logical_id: id.clone(), physical_id, kind }
    };
    let outputs = template["Outputs"].as_object().into_iter().flatten();
    let resources: Vec<Resource> = resources.as_object().into_iter().flatten().map(|(id, _)| physical(id)).collect();
    let of_kind =
        |kind: &str| resources.iter().filter(|one| one.kind == kind).map(|one| named(&one.logical_id)).collect();
    let queues = resources.iter().filter(|one| one.kind == "AWS::SQS::Queue").map(|one| {
        let (name, properties) = (named(&one.logical_id), properties(&one.logical_id));
        let redrive = json!({
            "deadLetterTargetArn": format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{name}-dlq"),
            "maxReceiveCount": properties["RedrivePolicy"]["maxReceiveCount"],
        });
        let number = |name: &str| properties[name].as_u64().unwrap_or_default().to_string();
        let attributes = BTreeMap::from([
            ("MessageRetentionPeriod", number("MessageRetentionPeriod")),
            ("VisibilityTimeout", number("VisibilityTimeout")),
            ("RedrivePolicy", redrive.to_string()),
        ]);
        (name, attributes)
    });
    Content {
        outputs: outputs.map(|(key, output)| (key.clone(), value(output))).collect(),
        tables: of_kind("AWS::DynamoDB::Table"),
        protected: properties("Table")["DeletionProtectionEnabled"] == true,
        queues: queues.collect(),
        buckets: of_kind("AWS::S3::Bucket"),
        resources,
    }
}
