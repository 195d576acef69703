//! What the engine tells, in lines for people. Pure.

use dispatch_operator::cloud::stack::StackEvent;
use dispatch_operator::cloud::{ChangeKind, ResourceChange};

/// Up to this many changes are listed one by one; a new stack's forty are not news.
const LISTED_MAX: usize = 12;

/// The lines of a plan.
pub fn changes(changes: &[ResourceChange]) -> Vec<String> {
    let count = |kind| changes.iter().filter(|change| change.kind == kind).count();
    let summary = format!(
        "plan: {} to add, {} to change, {} to replace, {} to remove",
        count(ChangeKind::Add),
        count(ChangeKind::Change),
        count(ChangeKind::Replace),
        count(ChangeKind::Remove)
    );
    let mut lines = vec![summary];
    if changes.len() <= LISTED_MAX {
        lines.extend(changes.iter().map(change));
    }
    lines
}

fn change(change: &ResourceChange) -> String {
    let sign = match change.kind {
        ChangeKind::Add => "+",
        ChangeKind::Change => "~",
        ChangeKind::Replace => "±",
        ChangeKind::Remove => "-",
    };
    let properties =
        if change.properties.is_empty() { String::new() } else { format!("  ({})", change.properties.join(", ")) };
    format!("  {sign} {}  {}{properties}", change.logical_id, change.resource_type)
}

/// Progress of a stack: how many resources have reached their end, the last one by name.
#[derive(Clone, Debug, Default)]
pub struct StackProgress {
    done: std::collections::BTreeSet<String>,
}

impl StackProgress {
    /// Takes in one event and answers with the step to show.
    pub fn take(&mut self, event: &StackEvent) -> String {
        if event.status.ends_with("_COMPLETE") {
            self.done.insert(event.logical_id.clone());
        }
        format!("{} resources done; {} {}", self.done.len(), event.logical_id, event.status)
    }
}

/// What a failed resource is said to be; nothing for one that fares well.
pub fn failure(event: &StackEvent) -> Option<String> {
    event.is_cause().then(|| {
        let reason = event.reason.as_deref().unwrap_or("AWS gives no reason");
        format!("{} ({}) is {}: {reason}", event.logical_id, event.resource_type, event.status)
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use dispatch_operator::cloud::Replacement;

    fn event(logical_id: &str, status: &str, reason: Option<&str>) -> StackEvent {
        StackEvent {
            id: logical_id.to_owned(),
            at: Timestamp::UNIX_EPOCH,
            logical_id: logical_id.to_owned(),
            physical_id: None,
            resource_type: "AWS::SQS::Queue".to_owned(),
            status: status.to_owned(),
            reason: reason.map(str::to_owned),
        }
    }

    #[test]
    fn a_small_plan_is_listed_and_a_large_one_counted() {
        let changed = ResourceChange {
            kind: ChangeKind::Change,
            logical_id: "OffersQueue".to_owned(),
            physical_id: None,
            resource_type: "AWS::SQS::Queue".to_owned(),
            replacement: Replacement::None,
            properties: vec!["MessageRetentionPeriod".to_owned(), "Tags".to_owned()],
            forcing: Vec::new(),
        };
        let small = [changed, ResourceChange::added("Topic", "AWS::SNS::Topic")];
        insta::assert_snapshot!(changes(&small).join("\n"), @r"
        plan: 1 to add, 1 to change, 0 to replace, 0 to remove
          ~ OffersQueue  AWS::SQS::Queue  (MessageRetentionPeriod, Tags)
          + Topic  AWS::SNS::Topic
        ");
        let large = vec![ResourceChange::added("Topic", "AWS::SNS::Topic"); 40];
        assert_eq!(changes(&large), ["plan: 40 to add, 0 to change, 0 to replace, 0 to remove"]);
    }

    #[test]
    fn progress_counts_each_resource_once() {
        let mut progress = StackProgress::default();
        progress.take(&event("Queue", "CREATE_IN_PROGRESS", None));
        progress.take(&event("Queue", "CREATE_COMPLETE", None));
        let step = progress.take(&event("Queue", "CREATE_COMPLETE", None));
        assert_eq!(step, "1 resources done; Queue CREATE_COMPLETE");
    }

    #[test]
    fn only_the_cause_of_a_failure_is_said() {
        assert_eq!(failure(&event("Queue", "CREATE_COMPLETE", None)), None);
        assert_eq!(failure(&event("Queue", "CREATE_FAILED", Some("Resource creation cancelled"))), None);
        assert_eq!(
            failure(&event("Queue", "CREATE_FAILED", Some("no rights"))).unwrap(),
            "Queue (AWS::SQS::Queue) is CREATE_FAILED: no rights"
        );
    }
}
