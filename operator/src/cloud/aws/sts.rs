//! The caller's account (`GetCallerIdentity`).

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_sts::Client;
use tokio::sync::OnceCell;

use crate::cloud::aws::error::port_error;
use crate::cloud::ports::{Identity, PortError, PortErrorKind};

const ACTION: &str = "get the account from STS";

/// Reads the account once: that of a set of credentials never changes.
pub(super) struct Sts {
    client: Client,
    account: OnceCell<String>,
}

impl Sts {
    pub(super) fn new(config: &SdkConfig) -> Self {
        Self { client: Client::new(config), account: OnceCell::new() }
    }
}

#[async_trait]
impl Identity for Sts {
    async fn account(&self) -> Result<String, PortError> {
        let ask = || async {
            let answer = self.client.get_caller_identity().send().await.map_err(|error| port_error(ACTION, error))?;
            answer
                .account
                .ok_or_else(|| PortError::new(ACTION, PortErrorKind::Unavailable, "the response contains no account"))
        };
        self.account.get_or_try_init(ask).await.cloned()
    }
}
