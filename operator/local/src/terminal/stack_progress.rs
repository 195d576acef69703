//! Progress of a stack, as text. Pure.

use std::collections::BTreeSet;

use dispatch_operator::cloud::stack::StackEvent;
use dispatch_operator::cloud::{ChangeCounts, ResourceChange};
use dispatch_operator::render;

/// A plan with more changes is summarized: the resources of a new stack are no news.
const LISTED_MAX: usize = 12;

/// The lines of a plan.
pub(crate) fn plan_lines(changes: &[ResourceChange]) -> String {
    let mut lines = format!("plan: {}", ChangeCounts::from_changes(changes));
    if changes.len() <= LISTED_MAX {
        lines.push('\n');
        lines.push_str(render::changes(changes).trim_end());
    }
    lines
}

/// The resources of a stack that are complete.
#[derive(Clone, Debug, Default)]
pub(crate) struct StackProgress {
    complete: BTreeSet<String>,
}

impl StackProgress {
    /// Records an event and returns the step to show.
    pub(crate) fn record(&mut self, event: &StackEvent) -> String {
        if event.status.ends_with("_COMPLETE") {
            self.complete.insert(event.logical_id.clone());
        }
        format!("{} resources complete; {} {}", self.complete.len(), event.logical_id, event.status)
    }
}

/// The line for a resource that failed; `None` for other events, and for resources that failed because of another one.
pub(crate) fn failure_line(event: &StackEvent) -> Option<String> {
    event.is_cause().then(|| {
        let reason = event.reason.as_deref().unwrap_or("AWS gives no reason");
        format!("{} ({}) {}: {reason}", event.logical_id, event.resource_type, event.status)
    })
}

#[cfg(test)]
mod tests {
    use dispatch_operator::cloud::ChangeKind;
    use jiff::Timestamp;

    use super::*;

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
            properties: vec!["MessageRetentionPeriod".to_owned(), "Tags".to_owned()],
            ..ResourceChange::added("OffersQueue", "AWS::SQS::Queue")
        };
        let small = [changed, ResourceChange::added("Topic", "AWS::SNS::Topic")];
        insta::assert_snapshot!(plan_lines(&small), @r"
        plan: 1 to add, 1 to change, 0 to replace, 0 to remove
          +   AWS::SNS::Topic  Topic
          ~   AWS::SQS::Queue  OffersQueue  MessageRetentionPeriod, Tags
        ");
        let large = vec![ResourceChange::added("Topic", "AWS::SNS::Topic"); 40];
        assert_eq!(plan_lines(&large), "plan: 40 to add, 0 to change, 0 to replace, 0 to remove");
    }

    #[test]
    fn progress_counts_each_resource_once() {
        let mut progress = StackProgress::default();
        progress.record(&event("Queue", "CREATE_IN_PROGRESS", None));
        progress.record(&event("Queue", "CREATE_COMPLETE", None));
        let step = progress.record(&event("Queue", "CREATE_COMPLETE", None));
        assert_eq!(step, "1 resources complete; Queue CREATE_COMPLETE");
    }

    #[test]
    fn only_the_cause_of_a_failure_is_reported() {
        assert_eq!(failure_line(&event("Queue", "CREATE_COMPLETE", None)), None);
        assert_eq!(failure_line(&event("Queue", "CREATE_FAILED", Some("Resource creation cancelled"))), None);
        assert_eq!(
            failure_line(&event("Queue", "CREATE_FAILED", Some("no rights"))).unwrap(),
            "Queue (AWS::SQS::Queue) CREATE_FAILED: no rights"
        );
    }
}
