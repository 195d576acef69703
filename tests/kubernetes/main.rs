//! The operator as it runs in a cluster: the program itself on a real API server, with the shipped permissions and an
//! emulated AWS, driven by `kubectl`.
//!
//! Every test fails where `KUBEBUILDER_ASSETS` names no API server, unless `DISPATCH_SKIP_ENVTEST=1` is set.
//! `scripts/test.sh` finds a server, or lists these tests as skipped.

#![cfg(test)]

mod admission;
mod causes;
mod crash;
mod deletion;
mod failures;
mod fleet;
mod install;
mod layout;
mod lifecycle;
mod mutation;
mod person;
mod reading;
mod refusals;
mod replicas;
mod routes;
mod rules;
mod scaling;
mod secrets;
mod shown;
mod stage;
mod steady;
mod tenants;
mod upgrade;
