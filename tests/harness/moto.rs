//! `moto`, a second emulator of AWS, as a child of the test: it writes the objects of an export, which ministack does
//! not.

use std::path::Path;
use std::process::Command;

use crate::server::{Server, answers_http, python_program, python_sibling};

/// A running, initially empty emulator, killed on drop.
pub struct Moto(Server);

impl Moto {
    /// Starts one on a free port and waits until it answers. The program is `DISPATCH_MOTO_SERVER`, or the one of the
    /// workspace's virtual environment; `moto_server.py` reduces it to the services that a test uses.
    pub async fn start() -> anyhow::Result<Self> {
        let python = python_sibling(&python_program("DISPATCH_MOTO_SERVER", "moto_server"), "python")?;
        let server = concat!(env!("CARGO_MANIFEST_DIR"), "/harness/moto_server.py");
        let command = |port: u16, folder: &Path| {
            let mut command = Command::new(&python);
            command.args([server, "-H", "127.0.0.1", "-p", &port.to_string()]);
            command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
            // No page in a browser may read the answers, and no container is started.
            command.env("MOTO_DISABLE_GLOBAL_CORS", "true");
            command.env("DOCKER_HOST", format!("unix://{}", folder.join("no-docker.sock").display()));
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

#[cfg(test)]
mod tests {
    use reqwest::{Client, StatusCode};

    use super::*;

    #[tokio::test]
    async fn the_emulator_creates_no_function() -> anyhow::Result<()> {
        let moto = Moto::start().await?;
        let functions = format!("{}/2015-03-31/functions", moto.endpoint());
        let client = Client::builder().no_proxy().build()?;
        let signature = "AWS4-HMAC-SHA256 Credential=test/20250525/ap-northeast-2/lambda/aws4_request";
        let signed = client.post(&functions).header("authorization", signature).body("{}").send().await?;
        assert_eq!(signed.status(), StatusCode::FORBIDDEN);
        let unsigned = client.post(&functions).body("{}").send().await?;
        assert!(!unsigned.status().is_success(), "{}", unsigned.status());
        Ok(())
    }
}
