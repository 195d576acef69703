//! Whether SNS accepts push notifications. A disabled platform application does not affect dispatching, so the phase
//! does not change: apps receive their notifications through the event streams. Pure.

use dispatch_api::conditions::{ConditionStatus, ConditionType, Reason};
use dispatch_api::dispatch_system::FcmSpec;

use crate::cloud::ports::PushStatus;
use crate::engine::status::Facts;

/// The condition; `None` if the spec has no push notifications.
pub(super) fn condition(facts: &Facts<'_>) -> Option<(ConditionType, ConditionStatus, Reason, String)> {
    let fcm = facts.system.spec.notifications.fcm.as_ref()?;
    let (status, reason, message) = match facts.parts.push {
        Some(PushStatus::Enabled) => {
            let message = "the SNS platform application is enabled";
            (ConditionStatus::True, Reason::PushEnabled, message.to_owned())
        }
        Some(PushStatus::Disabled) => (ConditionStatus::False, Reason::PushDisabled, disabled(facts, fcm)),
        None if facts.stack.is_some_and(|stack| stack.state.serves()) => {
            let message = "the SNS platform application does not exist";
            (ConditionStatus::False, Reason::DirectResourcesNotReady, message.to_owned())
        }
        None => {
            let message = "the SNS platform application is created once the stack is complete";
            (ConditionStatus::Unknown, Reason::StackNotReady, message.to_owned())
        }
    };
    Some((ConditionType::PushReady, status, reason, message))
}

fn disabled(facts: &Facts<'_>, fcm: &FcmSpec) -> String {
    let (arn, secret) = (&facts.parts.push_arn, &fcm.service_account_secret_ref.name);
    format!(
        "the SNS platform application {arn} is disabled, because FCM rejects its service account key or a person \
         disabled it; no device receives push notifications, and rides continue; action required: put a valid key into \
         Secret {secret}, or enable the application if its key is valid"
    )
}

#[cfg(test)]
mod tests {
    use dispatch_api::dispatch_system::{OutputsStatus, SecretKeyRef};
    use jiff::Timestamp;

    use super::*;
    use crate::engine::outcome::Verdict;
    use crate::engine::plan::{Approval, DirectFinding, DirectResources, Plan, StackStep};
    use crate::engine::status::from_facts;
    use crate::testing::{stack_in, system};

    #[test]
    fn the_condition_says_why_no_push_is_sent_and_what_to_do() {
        let (without, mut with_push) = (system(), system());
        let reference = SecretKeyRef { name: "fcm-key".to_owned(), key: "key.json".to_owned() };
        with_push.spec.notifications.fcm = Some(FcmSpec { service_account_secret_ref: reference });
        let plan = Plan::new("h", StackStep::UpToDate, Vec::new(), Vec::new());
        let shown = |system, push, state: &str| {
            let parts = DirectResources { push, push_arn: "arn:aws:sns:::app/GCM/x".to_owned(), ..Default::default() };
            let status = from_facts(&Facts {
                system,
                verdict: &Verdict::Settled,
                stack: Some(&stack_in(state)),
                applied_hash: None,
                attempted_hash: None,
                skipped: &[],
                approval: &Approval::None,
                approver: crate::engine::settings::Approver::Author,
                account: "000000000000",
                index_steps: None,
                outputs: Some(&OutputsStatus::default()),
                parts: &parts,
                finding: &DirectFinding::default(),
                plan: &plan,
                previous: None,
                now: Timestamp::UNIX_EPOCH,
            });
            let ready = status.conditions.iter().any(|c| c.type_ == ConditionType::Ready && c.status == "True");
            let push = status.conditions.into_iter().find(|c| c.type_ == ConditionType::PushReady);
            (push.map(|c| (c.status, c.reason, c.message)), ready)
        };
        let reason = |system, push, state| {
            let (condition, ready) = shown(system, push, state);
            (condition.map(|(status, reason, _)| format!("{status} {reason}")), ready)
        };
        let complete = "CREATE_COMPLETE";
        assert_eq!(reason(&without, None, complete), (None, true));
        assert_eq!(
            reason(&with_push, Some(PushStatus::Enabled), complete),
            (Some("True PushEnabled".to_owned()), true)
        );
        assert_eq!(
            reason(&with_push, Some(PushStatus::Disabled), complete),
            (Some("False PushDisabled".to_owned()), true)
        );
        assert_eq!(reason(&with_push, None, complete).0.as_deref(), Some("False DirectResourcesNotReady"));
        assert_eq!(reason(&with_push, None, "CREATE_IN_PROGRESS").0.as_deref(), Some("Unknown StackNotReady"));
        let (condition, _) = shown(&with_push, Some(PushStatus::Disabled), complete);
        let (_, _, message) = condition.expect("a condition");
        assert!(message.contains("arn:aws:sns:::app/GCM/x") && message.contains("Secret fcm-key"), "{message}");
    }
}
