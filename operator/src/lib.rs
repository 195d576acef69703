//! The control plane of Coactus Dispatch: turns a `DispatchSystem` into its AWS environment and keeps it that way.
//!
//! The engine is `observe -> validate -> plan -> apply -> status`, one module each. `plan` and `status` are pure; only `observe`
//! and `apply` (and their siblings `destroy` and `export`) make calls, through the [`ports`]; only [`aws`] holds SDK clients. The
//! command line and the Kubernetes controller drive the same [`reconcile::reconcile`].

pub mod apply;
pub mod args;
pub mod aws;
pub mod commands;
pub mod desired;
pub mod destroy;
pub mod export;
pub mod images;
pub mod kubernetes;
pub mod local;
pub mod observe;
pub mod outputs;
pub mod plan;
pub mod ports;
pub mod print;
pub mod progress;
pub mod reconcile;
pub mod secrets;
#[cfg(test)]
mod sequences;
pub mod stack;
pub mod status;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod text;
pub mod worker_config;
