//! The API types of Coactus Dispatch: the contract between users, operator and workers.
//!
//! * [`DispatchSystem`](dispatch_system::DispatchSystem): the Kubernetes resource, one per city (feature `crd`).
//! * [`validate`]: the only way from a raw manifest to a [`ValidatedSystem`](validate::ValidatedSystem). All later
//!   steps use validated values (feature `crd`).
//! * [`conditions`], [`annotations`]: names that are part of the API (feature `crd`).
//! * [`worker_config`]: the document that the operator writes and a worker reads. Workers never read the resource.
//!
//! This crate does no I/O.

#![warn(missing_docs)]
#![allow(unreachable_pub, reason = "`KubeSchema` generates a public copy of every struct that carries rules")]

#[cfg(feature = "crd")]
pub mod annotations;
#[cfg(feature = "crd")]
pub mod conditions;
#[cfg(feature = "crd")]
pub mod crd;
#[cfg(feature = "crd")]
pub mod dispatch_system;
#[cfg(feature = "crd")]
pub mod manifest;
#[cfg(feature = "crd")]
pub mod names;
pub mod object_names;
#[cfg(feature = "crd")]
pub mod schedule;
#[cfg(feature = "crd")]
pub mod validate;
pub mod worker_config;
