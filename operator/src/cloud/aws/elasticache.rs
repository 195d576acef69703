//! The cache's endpoint (`DescribeReplicationGroups`): the primary endpoint of the only node group (cluster mode
//! disabled).

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_elasticache::Client;

use crate::cloud::aws::error::port_error;
use crate::cloud::ports::{CacheEndpoint, CacheGroup, Caches, PortError, PortErrorKind};

/// Used if the response contains no port.
const DEFAULT_PORT: u16 = 6379;

pub(super) struct ElastiCache {
    client: Client,
}

impl ElastiCache {
    pub(super) fn new(config: &SdkConfig) -> Self {
        Self { client: Client::new(config) }
    }
}

#[async_trait]
impl Caches for ElastiCache {
    async fn group(&self, replication_group: &str) -> Result<Option<CacheGroup>, PortError> {
        let request = self.client.describe_replication_groups().replication_group_id(replication_group);
        let answer = match request.send().await.map_err(|e| port_error("describe the replication group", e)) {
            Ok(answer) => answer,
            Err(error) if error.kind == PortErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(group) = answer.replication_groups().first() else { return Ok(None) };
        let primary = group.node_groups().first().and_then(|node| node.primary_endpoint());
        let found = primary.and_then(|endpoint| Some((endpoint.address()?, endpoint.port())));
        let endpoint = found.map(|(host, port)| CacheEndpoint {
            host: host.to_owned(),
            port: port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0).unwrap_or(DEFAULT_PORT),
            tls: group.transit_encryption_enabled().unwrap_or(false),
        });
        Ok(Some(CacheGroup { endpoint }))
    }
}
