//! Names of a system's AWS resources. They are pure functions of namespace, name and spec, so that a second operator,
//! or the same one after a crash, always means the same resources.

use crate::dispatch_system::DispatchSystemSpec;

/// Every name of one system. The export bucket and the IAM roles are named inside the template, because their names
/// carry the account and region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceNames {
    /// `coactus-<namespace>-<name>`: what all other names begin with.
    pub prefix: String,
    /// CloudFormation stack.
    pub stack: String,
    /// DynamoDB single table.
    pub table: String,
    /// DynamoDB table of the stream consumers' leases.
    pub lease_table: String,
    /// SQS queue of offer timers.
    pub offers_queue: String,
    /// SQS queue of driver responses.
    pub responses_queue: String,
    /// SQS queue of notifications.
    pub notifications_queue: String,
    /// SNS topic of notifications.
    pub topic: String,
    /// SNS platform application for FCM.
    pub platform_application: String,
    /// ElastiCache replication group; at most 40 characters.
    pub replication_group: String,
}

impl ResourceNames {
    /// What all names begin with; also the name of the stack.
    pub fn prefix(namespace: &str, name: &str) -> String {
        format!("coactus-{namespace}-{name}")
    }

    /// Derives all names.
    pub fn of(namespace: &str, name: &str, spec: &DispatchSystemSpec) -> Self {
        let prefix = Self::prefix(namespace, name);
        let table = spec.table.name.clone().unwrap_or_else(|| prefix.clone());
        Self {
            stack: prefix.clone(),
            lease_table: format!("{table}-leases"),
            table,
            offers_queue: format!("{prefix}-offers"),
            responses_queue: format!("{prefix}-responses"),
            notifications_queue: format!("{prefix}-notifications"),
            topic: format!("{prefix}-notifications"),
            platform_application: format!("{prefix}-fcm"),
            replication_group: prefix.clone(),
            prefix,
        }
    }
}
