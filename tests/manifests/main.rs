//! What is shipped in `manifests/` and `examples/fleet`, held against the rules of ARCHITECTURE.md, against the sources it speaks of,
//! and, where `KUBEBUILDER_ASSETS` names one, against a real API server.

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
