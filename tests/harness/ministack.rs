//! `ministack`, an emulator of AWS, as a child of the test, reduced to what a city needs as in a local run.

use std::path::Path;
use std::process::Command;

use crate::server::{Server, answers_http, python_program, python_sibling};

/// Region of the emulator.
pub const REGION: &str = "ap-northeast-2";

/// Services that it serves: those that the operator and the workers call.
const SERVICES: &str = "cloudformation,dynamodb,dynamodbstreams,elasticache,s3,sns,sqs,sts";

/// A running emulator, empty, with its state in a directory of its own. Killed when dropped.
pub struct Ministack(Server);

impl Ministack {
    /// Starts it on a free port and waits until it answers. The program is `DISPATCH_MINISTACK`, or the one in the
    /// workspace's virtual environment.
    pub async fn start() -> anyhow::Result<Self> {
        let program = python_sibling(&python_program("DISPATCH_MINISTACK", "ministack"), "hypercorn")?;
        let app = concat!(env!("CARGO_MANIFEST_DIR"), "/../operator/local/emulator/city_emulator.py:app");
        let command = |port: u16, folder: &Path| {
            let mut command = Command::new(&program);
            command
                .args([app, "--workers", "0", "--keep-alive", "75", "--bind", &format!("127.0.0.1:{port}")])
                .env("SERVICES", SERVICES)
                .env("GATEWAY_PORT", port.to_string())
                .env("MINISTACK_REGION", REGION)
                .env("S3_DATA_DIR", folder.join("s3"))
                .env("STATE_DIR", folder.join("state"))
                .env("TMPDIR", folder)
                .env("DOCKER_HOST", format!("unix://{}", folder.join("no-docker.sock").display()))
                .env("AWS_ACCESS_KEY_ID", "test")
                .env("AWS_SECRET_ACCESS_KEY", "test");
            command
        };
        let health = |port: u16| answers_http(format!("http://127.0.0.1:{port}/_ministack/health"));
        Ok(Self(Server::start(command, health).await?))
    }

    /// Endpoint of every service.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.0.port())
    }
}

#[cfg(test)]
mod tests {
    use reqwest::{Client, StatusCode};

    use super::*;

    #[tokio::test]
    async fn the_emulator_creates_no_function() -> anyhow::Result<()> {
        let ministack = Ministack::start().await?;
        let functions = format!("{}/2015-03-31/functions", ministack.endpoint());
        let client = Client::builder().no_proxy().build()?;
        for service in ["lambda", "cloudformation"] {
            let signature = format!("AWS4-HMAC-SHA256 Credential=test/20250525/{REGION}/{service}/aws4_request");
            let signed = client.post(&functions).header("authorization", signature).body("{}").send().await?;
            assert!(signed.status().is_client_error(), "{service}: {}", signed.status());
        }
        assert_eq!(client.post(&functions).body("{}").send().await?.status(), StatusCode::FORBIDDEN);
        Ok(())
    }
}
