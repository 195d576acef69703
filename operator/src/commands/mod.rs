//! The commands: read manifests, call the engine, print. Results go to stdout, progress to stderr.

pub mod apply;
pub mod crd;
pub mod destroy;
pub mod export;
pub mod load;
pub mod local;
pub mod options;
pub mod output;
pub mod plan;
pub mod printer;
pub mod restrictions;
pub mod run;
pub mod status;
pub mod template;
