//! Checks `manifests/` and `examples/fleet` against the rules of ARCHITECTURE.md and against the sources they refer to.
//! `tests/kubernetes` applies them to a real API server.

#[cfg(test)]
mod argocd;
#[cfg(test)]
mod chart;
#[cfg(test)]
mod fleet;
#[cfg(test)]
mod iam;
#[cfg(test)]
mod images;
#[cfg(test)]
mod monitoring;
#[cfg(test)]
mod objects;
#[cfg(test)]
mod pods;
#[cfg(test)]
mod rbac;
#[cfg(test)]
mod restrictions;
