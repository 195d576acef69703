//! The engine: `observe -> validate -> plan -> apply -> status`, one module each. `plan` and `status` are pure; only
//! `former_names`, `observe`, `preview`, `apply`, `destroy` and `export` make calls, through the
//! [ports](crate::cloud::ports). The command line and the Kubernetes controller both use [`reconcile::reconcile`].

pub mod apply;
pub mod arn;
pub mod blockage;
pub mod comparison;
pub mod destroy;
pub mod error;
pub mod export;
pub mod former_names;
pub mod images;
pub mod inspection;
pub mod observe;
pub mod outcome;
pub mod outputs;
pub mod plan;
pub mod preview;
pub mod progress;
pub mod reconcile;
pub mod secrets;
pub mod settings;
pub mod stack_input;
pub mod status;
pub mod worker_config;
