//! Changes of a stack's resources, as listed by a change set.

use std::fmt;

/// Types of resources that hold data.
const STATEFUL: [&str; 4] =
    ["AWS::DynamoDB::Table", "AWS::DynamoDB::GlobalTable", "AWS::ElastiCache::ReplicationGroup", "AWS::S3::Bucket"];

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
        }
    }

    /// Whether data may be lost: replaces or removes a table, cache or bucket.
    pub fn endangers_data(&self) -> bool {
        matches!(self.kind, ChangeKind::Replace | ChangeKind::Remove) && STATEFUL.contains(&self.resource_type.as_str())
    }
}

/// The number of changes of each kind. Displayed as `1 to add, 0 to change, 0 to replace, 0 to remove`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeCounts {
    /// New resources.
    pub add: u32,
    /// Resources changed in place.
    pub change: u32,
    /// Resources replaced for certain or possibly.
    pub replace: u32,
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
        let Self { add, change, replace, remove } = self;
        write!(f, "{add} to add, {change} to change, {replace} to replace, {remove} to remove")
    }
}
