//! `dispatch-runtime`: the worker that dispatches the rides of one city.

use std::process::ExitCode;

use clap::Parser;
use dispatch_runtime::args::{Args, Command};
use dispatch_runtime::http::{ProxyTarget, proxy_rules};
use dispatch_runtime::{explain, run, telemetry};

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    match args.command {
        Command::Serve(serve) => {
            telemetry::init(args.log_format);
            async_runtime()?.block_on(run::serve(serve))?;
        }
        Command::Explain(args) => return Ok(explain::run(&args)?),
        Command::Routes(args) => {
            let target = ProxyTarget { system: &args.system, namespace: &args.namespace };
            print!("{}", proxy_rules(args.output, target)?);
        }
        Command::Openapi => println!("{}", dispatch_runtime::http::openapi().to_pretty_json()?),
    }
    Ok(ExitCode::SUCCESS)
}

fn async_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}
