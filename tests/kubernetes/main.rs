//! The operator as it runs in a cluster: the program itself on a real API server, with the rights that are shipped, and an emulated
//! AWS. `kubectl` is the person.
//!
//! Needs `KUBEBUILDER_ASSETS`; `scripts/test.sh` names these tests as skipped where it is not to be had.

#![cfg(test)]

mod crash;
mod deletion;
mod failures;
mod fleet;
mod install;
mod lifecycle;
mod mutation;
mod person;
mod replicas;
mod secrets;
mod shown;
mod stage;
mod steady;
