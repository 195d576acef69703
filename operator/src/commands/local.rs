//! `local`: names the program that replaced it. `dispatch-local` is separate so that the operator contains no emulator,
//! web server or token issuer.

use clap::Args;

use crate::commands::output::Exit;

/// Arguments of `local`, which are ignored.
#[derive(Args, Clone, Debug)]
pub struct LocalArgs {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    _rest: Vec<String>,
}

pub fn run() -> Exit {
    eprintln!("error: `dispatch-operator local` has moved; run `dispatch-local run -f <manifest>`");
    Exit::Usage
}
