//! Collects names and addresses for the workers from the stack's outputs and the resources managed outside
//! CloudFormation. Pure.

use std::collections::BTreeMap;

use dispatch_api::dispatch_system::OutputsStatus;
use dispatch_api::validate::ValidatedSystem;

use crate::engine::plan::DirectResources;
use crate::engine::plan::template::outputs as key;

/// Reads the outputs; `None` while a required one is missing.
pub fn read(
    system: &ValidatedSystem,
    stack: &BTreeMap<String, String>,
    parts: &DirectResources,
) -> Option<OutputsStatus> {
    let get = |name: &str| stack.get(name).filter(|value| !value.is_empty()).cloned();
    Some(OutputsStatus {
        table_name: get(key::TABLE_NAME)?,
        // The stack's output is outdated after the stream was disabled and enabled outside CloudFormation.
        stream_arn: parts.table.as_ref().and_then(|table| table.stream_arn.clone()).or_else(|| get(key::STREAM_ARN))?,
        lease_table_name: get(key::LEASE_TABLE_NAME)?,
        offers_queue_url: get(key::OFFERS_QUEUE_URL)?,
        responses_queue_url: get(key::RESPONSES_QUEUE_URL)?,
        notifications_queue_url: get(key::NOTIFICATIONS_QUEUE_URL)?,
        topic_arn: get(key::TOPIC_ARN)?,
        platform_application_arn: parts.push.map(|_| parts.push_arn.clone()),
        cache_url: cache_url(system, stack, parts)?,
        export_bucket: get(key::EXPORT_BUCKET)?,
        api_endpoint: get(key::API_ENDPOINT),
    })
}

fn cache_url(system: &ValidatedSystem, stack: &BTreeMap<String, String>, parts: &DirectResources) -> Option<String> {
    if let Some(external) = &system.spec.cache.external {
        return Some(external.url.clone());
    }
    if let Some(endpoint) = &parts.cache {
        let scheme = if endpoint.tls { "rediss" } else { "redis" };
        return Some(format!("{scheme}://{}:{}", endpoint.host, endpoint.port));
    }
    // The template enables TLS for every cache.
    Some(format!("rediss://{}:{}", stack.get(key::CACHE_ENDPOINT)?, stack.get(key::CACHE_PORT)?))
}

/// The components that all ARNs of a system share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArnBase<'a> {
    /// `aws`, `aws-cn`, …
    pub partition: &'a str,
    pub region: &'a str,
    pub account: &'a str,
}

impl<'a> ArnBase<'a> {
    /// Parses `arn:<partition>:<service>:<region>:<account>:…`.
    pub fn parse(arn: &'a str) -> Option<Self> {
        let mut parts = arn.splitn(6, ':');
        let (Some("arn"), Some(partition), Some(_), Some(region), Some(account), Some(_)) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        Some(Self { partition, region, account })
    }

    /// ARN of an FCM platform application.
    pub fn platform_application(&self, name: &str) -> String {
        format!("arn:{}:sns:{}:{}:app/GCM/{name}", self.partition, self.region, self.account)
    }

    /// ARN of the dead-letter queue that the template creates for a queue.
    pub fn dead_letter_queue(&self, queue: &str) -> String {
        format!("arn:{}:sqs:{}:{}:{queue}-dlq", self.partition, self.region, self.account)
    }

    pub fn table(&self, name: &str) -> String {
        format!("arn:{}:dynamodb:{}:{}:table/{name}", self.partition, self.region, self.account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_of_one_system_share_partition_region_and_account() {
        let base = ArnBase::parse("arn:aws-cn:cloudformation:cn-north-1:123456789012:stack/s/1").expect("an ARN");
        assert_eq!(base.platform_application("p"), "arn:aws-cn:sns:cn-north-1:123456789012:app/GCM/p");
        assert_eq!(base.table("t"), "arn:aws-cn:dynamodb:cn-north-1:123456789012:table/t");
        assert_eq!(ArnBase::parse("stack/s/1"), None);
    }
}
