//! `ministack`, an emulator of AWS, as a child process of the test.

use std::process::Command;

use crate::server::{Server, answers_http, python_program};

/// Region of the emulator.
pub const REGION: &str = "ap-northeast-2";

/// A running, initially empty emulator with its own state directory, killed on drop.
pub struct Ministack(Server);

impl Ministack {
    /// Starts it on a free port and waits until it answers. The program is `DISPATCH_MINISTACK`, or the one in the
    /// workspace's virtual environment.
    pub async fn start() -> anyhow::Result<Self> {
        let program = python_program("DISPATCH_MINISTACK", "ministack");
        let command = |port: u16, folder: &std::path::Path| {
            let mut command = Command::new(&program);
            command
                .env("GATEWAY_PORT", port.to_string())
                .env("MINISTACK_REGION", REGION)
                .env("S3_DATA_DIR", folder.join("s3"))
                .env("STATE_DIR", folder.join("state"))
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
