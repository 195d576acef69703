//! Durations derived from two statuses, so that a restart between them loses nothing. Pure.

use std::time::Duration;

use dispatch_api::conditions::ConditionType;
use dispatch_api::dispatch_system::DispatchSystemStatus;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::engine::status;
use crate::kubernetes::infra::metric_labels::After;

/// If `Ready` last changed within this time after the creation, the system has never been ready.
const JUST_CREATED: SignedDuration = SignedDuration::from_mins(1);

/// Time until the system became ready; `None` unless `after` is the first status that is ready.
pub fn time_to_ready(
    before: Option<&DispatchSystemStatus>,
    after: &DispatchSystemStatus,
    created: Timestamp,
) -> Option<(After, Duration)> {
    let became = condition(Some(after), ConditionType::Ready).filter(|now| now.status == "True")?;
    if before.is_some_and(|before| status::is_true(before, ConditionType::Ready)) {
        return None;
    }
    let since = condition(before, ConditionType::Ready).map_or(created, |was| was.last_transition_time.0);
    let (kind, begin) =
        if since.duration_since(created) < JUST_CREATED { (After::Creation, created) } else { (After::Change, since) };
    Some((kind, positive(became.last_transition_time.0.duration_since(begin))))
}

/// Time that drift persisted; `None` unless `after` is the first status without drift.
pub fn time_drifted(before: Option<&DispatchSystemStatus>, after: &DispatchSystemStatus) -> Option<Duration> {
    let was = condition(before, ConditionType::Drifted).filter(|was| was.status == "True")?;
    let now = condition(Some(after), ConditionType::Drifted).filter(|now| now.status == "False")?;
    Some(positive(now.last_transition_time.0.duration_since(was.last_transition_time.0)))
}

/// Converts a duration; a negative one becomes zero, because the clocks of two machines may differ.
pub fn positive(took: SignedDuration) -> Duration {
    Duration::try_from(took).unwrap_or_default()
}

fn condition(status: Option<&DispatchSystemStatus>, kind: ConditionType) -> Option<&Condition> {
    status?.conditions.iter().find(|condition| condition.type_ == kind)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn status(kind: ConditionType, value: &str, since: i64) -> DispatchSystemStatus {
        let condition = Condition {
            type_: kind.to_string(),
            status: value.to_owned(),
            reason: "R".to_owned(),
            message: String::new(),
            observed_generation: Some(1),
            last_transition_time: Time(at(since)),
        };
        DispatchSystemStatus { conditions: vec![condition], ..DispatchSystemStatus::default() }
    }

    #[test]
    fn time_to_ready_is_measured_once_from_the_creation_or_from_the_loss_of_readiness() {
        let ready = status(ConditionType::Ready, "True", 1000);
        let took = |before: Option<&DispatchSystemStatus>| time_to_ready(before, &ready, at(100));
        assert_eq!(took(None), Some((After::Creation, Duration::from_mins(15))));
        assert_eq!(
            took(Some(&status(ConditionType::Ready, "False", 102))),
            Some((After::Creation, Duration::from_mins(15)))
        );
        assert_eq!(
            took(Some(&status(ConditionType::Ready, "False", 950))),
            Some((After::Change, Duration::from_secs(50)))
        );
        assert_eq!(took(Some(&status(ConditionType::Ready, "True", 950))), None);
        assert_eq!(time_to_ready(None, &status(ConditionType::Ready, "False", 1000), at(100)), None);
        assert_eq!(
            time_to_ready(None, &status(ConditionType::Ready, "True", 50), at(100)),
            Some((After::Creation, Duration::ZERO))
        );
    }

    #[test]
    fn drift_is_measured_when_it_ends() {
        let (drifted, in_sync) =
            (status(ConditionType::Drifted, "True", 100), status(ConditionType::Drifted, "False", 160));
        assert_eq!(time_drifted(Some(&drifted), &in_sync), Some(Duration::from_mins(1)));
        assert_eq!(time_drifted(Some(&drifted), &drifted), None);
        assert_eq!(time_drifted(Some(&in_sync), &in_sync), None);
        assert_eq!(time_drifted(None, &in_sync), None);
    }
}
