//! Changes of a stack's resources, as listed by a change set.

use std::fmt;

/// Types of resources that hold data.
const STATEFUL: [&str; 4] =
    ["AWS::DynamoDB::Table", "AWS::DynamoDB::GlobalTable", "AWS::ElastiCache::ReplicationGroup", "AWS::S3::Bucket"];

/// Properties of those types that CloudFormation updates in place, as their documentation says ("Update requires: No
/// interruption" or "Some interruptions"). Any other property may replace the resource.
const IN_PLACE: [(&str, &[&str]); 3] = [
    (
        "AWS::DynamoDB::Table",
        &[
            "BillingMode",
            "DeletionProtectionEnabled",
            "GlobalSecondaryIndexes",
            "PointInTimeRecoverySpecification",
            "ProvisionedThroughput",
            "SSESpecification",
            "StreamSpecification",
            "Tags",
            "TimeToLiveSpecification",
        ],
    ),
    (
        "AWS::ElastiCache::ReplicationGroup",
        &[
            "AutomaticFailoverEnabled",
            "CacheNodeType",
            "CacheParameterGroupName",
            "MultiAZEnabled",
            "PreferredMaintenanceWindow",
            "SecurityGroupIds",
            "Tags",
        ],
    ),
    (
        "AWS::S3::Bucket",
        &[
            "BucketEncryption",
            "LifecycleConfiguration",
            "OwnershipControls",
            "PublicAccessBlockConfiguration",
            "Tags",
            "VersioningConfiguration",
        ],
    ),
];

/// What happens to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Add,
    /// Update in place.
    Change,
    /// A new resource replaces, or may replace, the existing one.
    Replace,
    Remove,
}

impl ChangeKind {
    /// Name in the status.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Change => "change",
            Self::Replace => "replace",
            Self::Remove => "remove",
        }
    }
}

/// CloudFormation's `Replacement`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replacement {
    /// `False`
    None,
    /// `Conditional`: decided only during the update.
    Possible,
    /// `True`
    Certain,
}

impl Replacement {
    /// Name in CloudFormation.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "False",
            Self::Possible => "Conditional",
            Self::Certain => "True",
        }
    }
}

/// A property whose value in the template changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PropertyValue {
    /// Path in the resource: `RedrivePolicy.maxReceiveCount`.
    pub path: String,
    /// The value that was last applied; `None` if there was none.
    pub before: Option<String>,
    /// The desired value; `None` if there is none.
    pub after: Option<String>,
    /// The value of the resource, if a person or a program changed it.
    pub live: Option<String>,
}

/// A resource that was changed or deleted outside CloudFormation. Displayed with its differences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveDrift {
    pub logical_id: String,
    pub resource_type: String,
    pub deleted: bool,
    pub values: Vec<LiveValue>,
}

/// A property that was changed outside CloudFormation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveValue {
    /// Path in the resource: `RedrivePolicy.maxReceiveCount`.
    pub path: String,
    /// The value that was last applied; `None` if there was none.
    pub applied: Option<String>,
    /// The value of the resource; `None` if it has none.
    pub live: Option<String>,
}

impl fmt::Display for LiveDrift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.logical_id, self.resource_type)?;
        if self.deleted {
            return f.write_str(": deleted");
        }
        let absent = |value: &Option<String>| value.clone().unwrap_or_else(|| "absent".to_owned());
        let values = self.values.iter().map(|LiveValue { path, applied, live }| {
            format!(" {path}: {} instead of {}", absent(live), absent(applied))
        });
        f.write_str(&values.collect::<Vec<_>>().join(","))
    }
}

impl fmt::Display for PropertyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "absent".to_owned());
        write!(f, "{}: {} -> {}", self.path, shown(&self.before), shown(&self.after))?;
        self.live.as_ref().map_or(Ok(()), |live| write!(f, " (live: {live})"))
    }
}

/// What a change adds to the charges of a month that do not depend on use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MonthlyCost {
    /// The resource is not charged by time, or as much as before.
    #[default]
    Unchanged,
    /// In millionths of a US dollar; negative if it becomes less.
    By(i64),
    /// What is not known: `the price of cache.x9.large`.
    Unknown(String),
}

/// The change of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceChange {
    pub kind: ChangeKind,
    pub logical_id: String,
    /// `None` for a resource that does not exist yet.
    pub physical_id: Option<String>,
    pub resource_type: String,
    pub replacement: Replacement,
    /// Properties (or `Tags`, `DeletionPolicy`, …) that differ, sorted.
    pub properties: Vec<String>,
    /// The properties that force, or may force, the replacement.
    pub forcing: Vec<String>,
    /// Values that differ between the last template and the desired one; empty if the last one could not be read.
    pub values: Vec<PropertyValue>,
    pub cost: MonthlyCost,
}

impl ResourceChange {
    /// A resource to add.
    pub fn added(logical_id: &str, resource_type: &str) -> Self {
        Self {
            kind: ChangeKind::Add,
            logical_id: logical_id.to_owned(),
            physical_id: None,
            resource_type: resource_type.to_owned(),
            replacement: Replacement::None,
            properties: Vec::new(),
            forcing: Vec::new(),
            values: Vec::new(),
            cost: MonthlyCost::Unchanged,
        }
    }

    /// CloudFormation reports a change as possibly a replacement wherever it cannot predict a value. A table, cache or
    /// bucket of which only properties differ that are updated in place is not replaced.
    #[must_use]
    pub fn settled(self) -> Self {
        let judged = if self.forcing.is_empty() { &self.properties } else { &self.forcing };
        let in_place = IN_PLACE.iter().find(|(resource_type, _)| *resource_type == self.resource_type);
        let is_in_place = in_place.is_some_and(|(_, properties)| {
            !judged.is_empty() && judged.iter().all(|name| properties.contains(&name.as_str()))
        });
        if self.kind == ChangeKind::Replace && self.replacement == Replacement::Possible && is_in_place {
            return Self { kind: ChangeKind::Change, replacement: Replacement::None, forcing: Vec::new(), ..self };
        }
        self
    }

    /// Whether it is only possible that the resource is replaced.
    pub fn may_replace(&self) -> bool {
        self.kind == ChangeKind::Replace && self.replacement == Replacement::Possible
    }

    /// Whether data may be lost: replaces, or may replace, or removes a table, cache or bucket.
    pub fn endangers_data(&self) -> bool {
        matches!(self.kind, ChangeKind::Replace | ChangeKind::Remove) && STATEFUL.contains(&self.resource_type.as_str())
    }
}

/// The number of changes of each kind. Displayed as `1 to add, 0 to change, 0 to replace, 0 to remove`, followed by
/// `2 may be replaced` if there are such.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeCounts {
    /// New resources.
    pub add: u32,
    /// Resources changed in place.
    pub change: u32,
    /// Resources replaced for certain.
    pub replace: u32,
    /// Resources of which CloudFormation decides only during the update whether it replaces them.
    pub may_replace: u32,
    /// Resources removed.
    pub remove: u32,
}

impl ChangeCounts {
    /// Counts the changes of a plan.
    pub fn from_changes(changes: &[ResourceChange]) -> Self {
        let mut counts = Self::default();
        for change in changes {
            let count = match change.kind {
                ChangeKind::Add => &mut counts.add,
                ChangeKind::Change => &mut counts.change,
                ChangeKind::Replace if change.may_replace() => &mut counts.may_replace,
                ChangeKind::Replace => &mut counts.replace,
                ChangeKind::Remove => &mut counts.remove,
            };
            *count = count.saturating_add(1);
        }
        counts
    }
}

impl fmt::Display for ChangeCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { add, change, replace, may_replace, remove } = self;
        write!(f, "{add} to add, {change} to change, {replace} to replace, {remove} to remove")?;
        if *may_replace > 0 { write!(f, ", {may_replace} may be replaced") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maybe(resource_type: &str, properties: &[&str], forcing: &[&str]) -> ResourceChange {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        ResourceChange {
            kind: ChangeKind::Replace,
            replacement: Replacement::Possible,
            properties: names(properties),
            forcing: names(forcing),
            ..ResourceChange::added("Thing", resource_type)
        }
    }

    #[test]
    fn a_change_that_happens_in_place_is_no_danger_to_data() {
        let bucket = "AWS::S3::Bucket";
        let retention = maybe(bucket, &["LifecycleConfiguration"], &["LifecycleConfiguration"]).settled();
        assert_eq!((retention.kind, retention.endangers_data()), (ChangeKind::Change, false));
        // Everything that is not known to be in place stays a danger.
        for change in [
            maybe(bucket, &["BucketName", "LifecycleConfiguration"], &["BucketName"]),
            maybe(bucket, &["LifecycleConfiguration", "SomethingNew"], &[]),
            maybe(bucket, &[], &[]),
            maybe("AWS::DynamoDB::Table", &["KeySchema"], &["KeySchema"]),
            ResourceChange {
                replacement: Replacement::Certain,
                ..maybe(bucket, &["LifecycleConfiguration"], &["LifecycleConfiguration"])
            },
        ] {
            let settled = change.clone().settled();
            assert!(settled.endangers_data(), "{settled:?}");
            assert_eq!(settled, change);
        }
    }

    #[test]
    fn what_may_be_replaced_is_not_counted_as_replaced() {
        let certain =
            ResourceChange { replacement: Replacement::Certain, ..maybe("AWS::SQS::Queue", &["QueueName"], &[]) };
        let counts = ChangeCounts::from_changes(&[maybe("AWS::CloudWatch::Alarm", &["Dimensions"], &[]), certain]);
        assert_eq!(counts.to_string(), "0 to add, 0 to change, 1 to replace, 0 to remove, 1 may be replaced");
    }
}
