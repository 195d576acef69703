//! `dispatch-simulator`: simulates a city over the public HTTP API.

use std::process::ExitCode;

use clap::Parser as _;
use dispatch_simulator::{Args, run};

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    Ok(run(Args::parse()).await?.into())
}
