//! Collects names and addresses for the workers from the stack's outputs and the resources managed outside
//! CloudFormation. Pure.

use std::collections::BTreeMap;

use dispatch_api::dispatch_system::OutputsStatus;
use dispatch_api::names::{self, IDENTITIES};
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
        worker_role_arns: IDENTITIES
            .into_iter()
            .zip(key::ROLE_ARNS)
            .filter_map(|(role, output)| Some((names::role_object(&system.name, role), get(output)?)))
            .collect(),
    })
}

fn cache_url(system: &ValidatedSystem, stack: &BTreeMap<String, String>, parts: &DirectResources) -> Option<String> {
    if let Some(external) = &system.spec.cache.external {
        return Some(external.url.clone());
    }
    if let Some(endpoint) = parts.cache.as_ref().and_then(|group| group.endpoint.as_ref()) {
        let scheme = if endpoint.tls { "rediss" } else { "redis" };
        return Some(format!("{scheme}://{}:{}", endpoint.host, endpoint.port));
    }
    // The template enables TLS for every cache.
    Some(format!("rediss://{}:{}", stack.get(key::CACHE_ENDPOINT)?, stack.get(key::CACHE_PORT)?))
}
