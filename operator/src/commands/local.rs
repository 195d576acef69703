//! `local`: a hint. A city on this machine is a program of its own, so that this one holds no emulator, web server or token issuer.

use clap::Args;

use crate::commands::output::Exit;

/// Arguments of `local`, which are not read.
#[derive(Args, Clone, Debug)]
pub struct LocalArgs {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    _rest: Vec<String>,
}

/// Names the program to use instead.
pub fn run() -> Exit {
    eprintln!("error: `dispatch-operator local` is now a program of its own; run `dispatch-local run -f <manifest>`");
    Exit::Usage
}
