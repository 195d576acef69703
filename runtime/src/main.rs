//! `dispatch-runtime`: the data plane of one city.

use clap::Parser;
use dispatch_runtime::args::{Args, Command};
use dispatch_runtime::{run, telemetry};

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    match args.command {
        Command::Serve(serve) => {
            telemetry::init(args.log_format);
            tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run::serve(serve))?;
        }
        Command::Openapi => println!("{}", dispatch_runtime::http::openapi().to_pretty_json()?),
    }
    Ok(())
}
