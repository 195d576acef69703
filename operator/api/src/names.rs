//! Names of the AWS resources of a system. They are pure functions of namespace, name and spec, so that another
//! operator, or the same one after a crash, refers to the same resources.

use crate::dispatch_system::DispatchSystemSpec;

/// The names of one system. Export bucket and IAM roles are named in the template, because their names contain account
/// and region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceNames {
    /// `coactus-<namespace>-<name>`: the prefix of all other names.
    pub prefix: String,
    /// Name of the CloudFormation stack.
    pub stack: String,
    /// Name of the DynamoDB single table.
    pub table: String,
    /// Name of the DynamoDB table of stream leases.
    pub lease_table: String,
    /// Name of the SQS queue of offer timers.
    pub offers_queue: String,
    /// Name of the SQS queue of driver responses.
    pub responses_queue: String,
    /// Name of the SQS queue of notifications.
    pub notifications_queue: String,
    /// Name of the SNS topic of notifications.
    pub topic: String,
    /// Name of the SNS platform application for FCM.
    pub platform_application: String,
    /// Identifier of the ElastiCache replication group, at most 40 characters.
    pub replication_group: String,
}

impl ResourceNames {
    /// The prefix of all names, which is also the name of the stack.
    pub fn prefix(namespace: &str, name: &str) -> String {
        format!("coactus-{namespace}-{name}")
    }

    /// Derives all names.
    pub fn new(namespace: &str, name: &str, spec: &DispatchSystemSpec) -> Self {
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
