//! Whether the stack may be created or updated. Nothing is changed here, so that a plan says what an apply would.

use dispatch_api::conditions::Reason;
use dispatch_api::validate::ValidatedSystem;

use crate::cloud::ports::{PortError, Ports};
use crate::cloud::stack::{OnExisting, StackDescription};
use crate::cloud::{PropertyValue, Replacement, ResourceChange};
use crate::engine::observe;
use crate::engine::outcome::Verdict;
use crate::engine::plan::ownership::Adoption;
use crate::engine::plan::table_names::{self, TableNames};
use crate::engine::plan::template::outputs;
use crate::engine::plan::{ImportRefusal, RetainedData, importable};

/// The property with the name of a resource, by the types that the template names.
const NAMES: [(&str, &str); 7] = [
    ("AWS::Athena::WorkGroup", "Name"),
    ("AWS::DynamoDB::Table", "TableName"),
    (CACHE_TYPE, "ReplicationGroupId"),
    ("AWS::Logs::LogGroup", "LogGroupName"),
    ("AWS::S3::Bucket", "BucketName"),
    ("AWS::SNS::Topic", "TopicName"),
    ("AWS::SQS::Queue", "QueueName"),
];
const CACHE_TYPE: &str = "AWS::ElastiCache::ReplicationGroup";
/// ElastiCache sets, or leaves out, the AUTH token at creation only (schema of the resource type, conditional
/// create-only property). CloudFormation reports such a change as one that may replace the cache, as it does with a new
/// value, which is possible.
const AUTH_TOKEN: &str = "AuthToken";

/// The verdict that refuses changes which CloudFormation would roll back in every case: it creates the replacement of a
/// resource before it deletes the resource, so both cannot have the same name.
pub(crate) fn replacement_refusal(changes: &[ResourceChange]) -> Option<Verdict> {
    let (change, property) = changes.iter().find_map(|change| Some((change, impossible(change)?)))?;
    let way_out = if change.resource_type == CACHE_TYPE {
        ", or set spec.cache.external to any Redis, approve the plan, wait until the system is ready, and remove it \
         again: the cache, whose positions the next pings restore, is then created with the new setting"
    } else {
        ""
    };
    let (id, kind) = (&change.logical_id, &change.resource_type);
    let message = format!(
        "{property} of {id} ({kind}) cannot be changed after the creation; nothing was changed; action required: take \
         the change back{way_out}"
    );
    Some(Verdict::Refused { reason: Reason::ReplacementImpossible, message })
}

/// The property that a change would set by an impossible replacement.
fn impossible(change: &ResourceChange) -> Option<String> {
    let (_, name) = NAMES.iter().find(|(kind, _)| *kind == change.resource_type)?;
    let is_token = |value: &&PropertyValue| value.path == AUTH_TOKEN && value.before.is_none() != value.after.is_none();
    if change.resource_type == CACHE_TYPE && change.values.iter().any(|value| is_token(&value)) {
        return Some(AUTH_TOKEN.to_owned());
    }
    let keeps_its_name = !change.forcing.iter().any(|property| property == name);
    (change.replacement == Replacement::Certain && keeps_its_name).then(|| change.forcing.join(", "))
}

/// What a run may do for a system.
pub(crate) struct Rules<'a> {
    pub system: &'a ValidatedSystem,
    pub ports: &'a Ports,
    /// AWS account of the stack.
    pub account: &'a str,
    pub adoption: &'a Adoption,
    pub table_names: &'a TableNames,
}

/// How a stack is created.
pub(crate) struct Creation {
    /// Whether it imports retained data.
    pub existing: OnExisting,
    /// The retained data.
    pub kept: RetainedData,
}

impl Rules<'_> {
    /// How the stack may be created, or the verdict that refuses it. Reads table and bucket.
    pub(crate) async fn creation(&self) -> Result<Result<Creation, Verdict>, PortError> {
        let kept = observe::kept(self.system, self.ports, self.account).await?;
        // A table that exists is the system's own, or needs a consent of its own.
        if kept.table.is_none()
            && let Some(verdict) = self.table_name()
        {
            return Ok(Err(verdict));
        }
        let (reason, message) = match importable(self.system, &kept, self.adoption) {
            Ok(existing) => return Ok(Ok(Creation { existing, kept })),
            Err(ImportRefusal::Another(text)) => (Reason::OwnedByAnother, text),
            Err(ImportRefusal::Unfit(text)) => (Reason::NotAdoptable, text),
        };
        Ok(Err(Verdict::Refused { reason, message }))
    }

    /// The verdict that refuses an update of the stack; `None` if it is allowed.
    pub(crate) fn update_refusal(&self, found: Option<&StackDescription>) -> Option<Verdict> {
        // The name is immutable, but the status that records it may be lost.
        let recorded = found.and_then(|stack| stack.outputs.get(outputs::TABLE_NAME));
        if recorded == Some(&self.system.names.table) { None } else { self.table_name() }
    }

    fn table_name(&self) -> Option<Verdict> {
        let message = table_names::refusal(self.system, self.table_names)?;
        Some(Verdict::Refused { reason: Reason::TableNameNotAllowed, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::ChangeKind;

    fn replaced(kind: &str, forcing: &[&str]) -> ResourceChange {
        ResourceChange {
            kind: ChangeKind::Replace,
            replacement: Replacement::Certain,
            forcing: forcing.iter().map(|name| (*name).to_owned()).collect(),
            ..ResourceChange::added("One", kind)
        }
    }

    #[test]
    fn a_resource_is_replaced_only_under_another_name() {
        for (kind, name) in NAMES {
            assert_eq!(replacement_refusal(&[replaced(kind, &[name])]), None, "{kind}");
            assert_eq!(replacement_refusal(&[replaced(kind, &["Other", name])]), None, "{kind}");
            let Some(Verdict::Refused { reason, message }) = replacement_refusal(&[replaced(kind, &["Other"])]) else {
                panic!("{kind} is replaced under its own name")
            };
            assert_eq!(reason, Reason::ReplacementImpossible);
            assert!(message.starts_with("Other of One (") && message.contains("action required: take"), "{message}");
        }
        // Names of these are generated.
        assert_eq!(replacement_refusal(&[replaced("AWS::IAM::Role", &["Path"])]), None);
    }

    #[test]
    fn a_token_can_be_changed_but_neither_added_nor_removed() {
        let some = || Some("{\"Ref\":\"CacheAuthToken\"}".to_owned());
        let cache = |before, after| ResourceChange {
            kind: ChangeKind::Replace,
            replacement: Replacement::Possible,
            forcing: vec![AUTH_TOKEN.to_owned()],
            values: vec![PropertyValue { path: AUTH_TOKEN.to_owned(), before, after, live: None }],
            ..ResourceChange::added("ReplicationGroup", CACHE_TYPE)
        };
        assert!(replacement_refusal(&[cache(None, some())]).is_some());
        assert!(replacement_refusal(&[cache(some(), None)]).is_some());
        let rotated = ResourceChange { values: Vec::new(), ..cache(None, None) };
        assert_eq!(replacement_refusal(&[rotated]), None);
    }
}
