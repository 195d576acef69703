//! `moto`, a second emulator of AWS, as a child process of the test. Unlike ministack, it writes the objects of an
//! export.

use std::process::Command;

use crate::server::{Server, answers_http, python_program};

/// A running, initially empty emulator, killed on drop.
pub struct Moto(Server);

impl Moto {
    /// Starts it on a free port and waits until it answers. The program is `DISPATCH_MOTO_SERVER`, or the one in the
    /// workspace's virtual environment.
    pub async fn start() -> anyhow::Result<Self> {
        let program = python_program("DISPATCH_MOTO_SERVER", "moto_server");
        let command = |port: u16, _: &std::path::Path| {
            let mut command = Command::new(&program);
            command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
            command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
            command
        };
        let health = |port: u16| answers_http(format!("http://127.0.0.1:{port}/moto-api/data.json"));
        Ok(Self(Server::start(command, health).await?))
    }

    /// Endpoint of every service.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.0.port())
    }
}
