//! Whether the resources of the stack exist: which are checked when, and what the checks found. Pure.
//!
//! CloudFormation assumes that the resources it made exist. What rides depend on is read from its own service at every
//! check. Roles are checked through CloudFormation's drift detection at every check, all other resources in rotation,
//! so that a check of a hundred systems stays within the rate limit of AWS calls.

use std::fmt;

use jiff::Timestamp;

use crate::cloud::stack::StackResource;

const DAY_S: usize = 86_400;
/// How often a day the rotation checks each resource. Intervals vary by ten percent, so a round may skip some.
const ROUNDS_PER_DAY: usize = 2;

/// Limit of resources named in a message, which has room for some more.
const NAMED_MAX: usize = 6;

/// How the existence of a resource is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Table,
    Queue,
    Topic,
    Subscription,
    Bucket,
    ReplicationGroup,
    /// By CloudFormation's drift detection of this resource, at every check: workers cannot work without it.
    Drift,
    /// By CloudFormation's drift detection of this resource, in rotation.
    DriftInRotation,
    /// It is nothing outside CloudFormation.
    None,
}

impl Method {
    /// The method for a resource type.
    pub fn for_type(resource_type: &str) -> Self {
        match resource_type {
            "AWS::DynamoDB::Table" => Self::Table,
            "AWS::SQS::Queue" => Self::Queue,
            "AWS::SNS::Topic" => Self::Topic,
            "AWS::SNS::Subscription" => Self::Subscription,
            "AWS::S3::Bucket" => Self::Bucket,
            "AWS::ElastiCache::ReplicationGroup" => Self::ReplicationGroup,
            "AWS::IAM::Role" | "AWS::IAM::ManagedPolicy" => Self::Drift,
            "AWS::CloudFormation::WaitConditionHandle" => Self::None,
            _ => Self::DriftInRotation,
        }
    }
}

/// How many resources one check covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// All of them.
    All,
    /// Those in rotation one part at a time: the time of the check, and the interval between two checks in s.
    Rotation { now: Timestamp, interval_s: u32 },
}

/// The resources that a check covers, in the order of the listing: those of every check, and those whose turn it is.
pub fn due(resources: &[StackResource], coverage: Coverage) -> Vec<&StackResource> {
    let in_rotation: Vec<&StackResource> = resources
        .iter()
        .filter(|resource| Method::for_type(&resource.resource_type) == Method::DriftInRotation)
        .collect();
    let turn: Vec<&str> = match coverage {
        Coverage::All => in_rotation.iter().map(|resource| resource.logical_id.as_str()).collect(),
        Coverage::Rotation { now, interval_s } => {
            let count = in_rotation.len();
            let interval = usize::try_from(interval_s).unwrap_or(DAY_S).clamp(1, DAY_S);
            let share = (ROUNDS_PER_DAY * count * interval).div_ceil(DAY_S).min(count);
            let slot = usize::try_from(now.as_second()).unwrap_or_default() / interval;
            let first = slot.wrapping_mul(share).checked_rem(count).unwrap_or_default();
            in_rotation.iter().cycle().skip(first).take(share).map(|resource| resource.logical_id.as_str()).collect()
        }
    };
    let is_due = |resource: &&StackResource| match Method::for_type(&resource.resource_type) {
        Method::None => false,
        Method::DriftInRotation => turn.contains(&resource.logical_id.as_str()),
        _ => true,
    };
    resources.iter().filter(is_due).collect()
}

/// What a check of one resource found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    Exists,
    Gone,
    /// Not checked: AWS denies the access.
    Denied,
    /// Not checked: CloudFormation could not tell, or has no drift detection for the type.
    Undetectable,
    /// Not checked: the rotation covers it.
    InRotation,
}

/// One resource of the stack and what its check found. Displayed with its logical id, type and physical id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceCheck {
    pub logical_id: String,
    pub resource_type: String,
    pub physical_id: Option<String>,
    pub presence: Presence,
}

impl ResourceCheck {
    /// For a listed resource.
    pub fn new(resource: &StackResource, presence: Presence) -> Self {
        let StackResource { logical_id, resource_type, physical_id, .. } = resource.clone();
        Self { logical_id, resource_type, physical_id, presence }
    }
}

impl fmt::Display for ResourceCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.physical_id.as_deref().unwrap_or("no physical id");
        write!(f, "{} ({} {name})", self.logical_id, self.resource_type)
    }
}

/// What a check of the stack's resources found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Existence {
    /// It was not due, or the stack is not usable.
    #[default]
    NotDue,
    /// AWS denies the listing of the resources.
    Denied,
    Checked(Vec<ResourceCheck>),
}

impl Existence {
    /// Everything that was checked; empty without a check.
    pub fn checks(&self) -> &[ResourceCheck] {
        match self {
            Self::Checked(checks) => checks,
            Self::NotDue | Self::Denied => &[],
        }
    }

    /// Whether a check covered a resource.
    pub fn covers(&self, physical_id: &str) -> bool {
        self.checks().iter().any(|check| check.physical_id.as_deref() == Some(physical_id))
    }

    /// Whether AWS denied a check of every round.
    pub fn is_denied(&self) -> bool {
        *self == Self::Denied || self.checks().iter().any(|check| check.presence == Presence::Denied)
    }
}

/// Everything that was and that was not checked. It is the same in each round of the rotation.
impl fmt::Display for Existence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let checks = match self {
            Self::NotDue => return f.write_str("the existence of the stack's resources was not checked"),
            Self::Denied => {
                return f.write_str("the stack's resources were not checked, because AWS denies their listing");
            }
            Self::Checked(checks) => checks,
        };
        let count = |presence| checks.iter().filter(|check| check.presence == presence).count();
        write!(f, "{} resources of the stack exist", count(Presence::Exists))?;
        let mut denied: Vec<&ResourceCheck> =
            checks.iter().filter(|check| check.presence == Presence::Denied).collect();
        // What rides depend on comes first.
        denied.sort_by_key(|check| Method::for_type(&check.resource_type) == Method::DriftInRotation);
        if !denied.is_empty() {
            let named: Vec<String> = denied.iter().take(NAMED_MAX).map(ToString::to_string).collect();
            write!(f, "; not checked because AWS denies the access: {}", named.join(", "))?;
        }
        match denied.len().saturating_sub(NAMED_MAX) {
            0 => {}
            more => write!(f, " and {more} more")?,
        }
        match count(Presence::InRotation) {
            0 => {}
            others => write!(f, "; {others} others are checked in rotation, as far as CloudFormation can")?,
        }
        match count(Presence::Undetectable) {
            0 => Ok(()),
            others => write!(f, "; {others} were not checked, because CloudFormation cannot detect whether they exist"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn resource(logical_id: &str, resource_type: &str) -> StackResource {
        StackResource {
            logical_id: logical_id.to_owned(),
            physical_id: Some(format!("{logical_id}-1")),
            resource_type: resource_type.to_owned(),
            status: "CREATE_COMPLETE".to_owned(),
            reason: None,
        }
    }

    fn stack(alarms: usize) -> Vec<StackResource> {
        let mut all = vec![
            resource("Table", "AWS::DynamoDB::Table"),
            resource("StatusUpdateRole", "AWS::IAM::Role"),
            resource("AppliedInput", "AWS::CloudFormation::WaitConditionHandle"),
        ];
        all.extend((0..alarms).map(|n| resource(&format!("Alarm{n:02}"), "AWS::CloudWatch::Alarm")));
        all
    }

    #[test]
    fn the_rotation_checks_every_resource_within_a_day_and_few_at_a_time() {
        for (alarms, interval_s) in [(0, 600), (1, 600), (62, 600), (62, 60), (62, 86_400), (7, 7_200), (500, 600)] {
            let all = stack(alarms);
            let mut seen: BTreeMap<String, usize> = BTreeMap::new();
            let mut most = 0;
            for slot in 0..86_400 / i64::from(interval_s) {
                let now = Timestamp::from_second(1_714_618_800 + slot * i64::from(interval_s)).unwrap();
                let due = due(&all, Coverage::Rotation { now, interval_s });
                most = most.max(due.len());
                for resource in due {
                    *seen.entry(resource.logical_id.clone()).or_default() += 1;
                }
            }
            assert_eq!(seen.len(), alarms + 2, "{alarms} {interval_s}: the record of the input is no resource");
            let share = (2 * alarms * usize::try_from(interval_s).unwrap()).div_ceil(86_400).min(alarms);
            assert_eq!(most, share + 2, "{alarms} {interval_s}");
        }
        assert_eq!(due(&stack(62), Coverage::All).len(), 64);
    }

    #[test]
    fn the_words_claim_only_what_was_checked() {
        let check = |id: &str, presence| ResourceCheck::new(&resource(id, "AWS::SQS::Queue"), presence);
        let found = Existence::Checked(vec![
            check("OffersQueue", Presence::Exists),
            check("ResponsesQueue", Presence::Denied),
            check("Alarm", Presence::InRotation),
            check("Route", Presence::Undetectable),
        ]);
        assert_eq!(
            found.to_string(),
            "1 resources of the stack exist; not checked because AWS denies the access: ResponsesQueue (AWS::SQS::Queue \
             ResponsesQueue-1); 1 others are checked in rotation, as far as CloudFormation can; 1 were not checked, \
             because CloudFormation cannot detect whether they exist"
        );
        assert!(found.is_denied() && Existence::Denied.is_denied());
        assert!(!Existence::default().is_denied() && !Existence::default().to_string().contains(" exist;"));
    }
}
