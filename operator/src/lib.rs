//! The control plane of Coactus Dispatch: reconciles a `DispatchSystem` into its AWS environment and keeps it in sync.
//!
//! | module | contents |
//! | --- | --- |
//! | [`engine`] | `observe -> validate -> plan -> apply -> status`, shared by the command line and the controller |
//! | [`cloud`] | the ports to AWS, CloudFormation's states, and all SDK clients |
//! | [`kubernetes`] | the controller: watches objects, calls the engine, runs the workers |
//! | [`commands`], [`args`], [`render`] | the command line |

pub mod allow_list;
pub mod args;
pub mod cloud;
pub mod commands;
pub mod engine;
pub mod kubernetes;
pub mod render;
pub mod sanitize;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
