//! How the roles are divided among Deployments, and the change from one layout to the other. Pure.
//!
//! A change of the layout loses no request: the new Deployments start beside the old ones, the Services select them
//! when they are complete, and then the old ones are removed. Workers that stop accept requests until the Services
//! have forgotten them.

use dispatch_api::dispatch_system::{RoleScaling, WorkersLayout};
use dispatch_api::names;
use dispatch_api::validate::ValidatedSystem;
use serde_json::Value;

/// What the workers of a Deployment run: one role, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    /// Name of the role, or of the Deployment of all roles.
    pub name: &'static str,
    /// Value of `--role`.
    pub runs: &'static str,
    /// Whether it serves the HTTP API.
    pub http: bool,
    /// Whether it searches for drivers.
    pub searches: bool,
}

impl Role {
    const fn single(name: &'static str, http: bool) -> Self {
        Self { name, runs: name, http, searches: !http }
    }

    /// All roles in one process.
    const COMBINED: Self = Self { name: names::COMBINED, runs: "all", http: true, searches: true };
}

/// The Deployments of a layout with their numbers of replicas.
pub fn roles_of(system: &ValidatedSystem, layout: WorkersLayout) -> Vec<(Role, &RoleScaling)> {
    let workers = &system.spec.workers;
    let [save_dispatch, dispatch_algorithm, driver_response, status_update] = names::ROLES;
    match layout {
        WorkersLayout::Split => vec![
            (Role::single(save_dispatch, true), &workers.roles.save_dispatch),
            (Role::single(dispatch_algorithm, false), &workers.roles.dispatch_algorithm),
            (Role::single(driver_response, true), &workers.roles.driver_response),
            (Role::single(status_update, true), &workers.roles.status_update),
        ],
        WorkersLayout::Combined => vec![(Role::COMBINED, &workers.combined)],
    }
}

/// The Deployments of the system's layout.
pub fn roles(system: &ValidatedSystem) -> Vec<(Role, &RoleScaling)> {
    roles_of(system, system.spec.workers.layout)
}

/// The layout that the system does not have.
pub fn other(layout: WorkersLayout) -> WorkersLayout {
    match layout {
        WorkersLayout::Split => WorkersLayout::Combined,
        WorkersLayout::Combined => WorkersLayout::Split,
    }
}

/// Name of the Deployment of a role and of its related objects.
pub fn role_name(system: &ValidatedSystem, role: Role) -> String {
    names::role_object(&system.name, role.name)
}

/// The Deployment of a role among those that exist.
pub fn find<'a>(system: &ValidatedSystem, deployments: &'a [Value], role: Role) -> Option<&'a Value> {
    let name = role_name(system, role);
    deployments.iter().find(|deployment| deployment["metadata"]["name"] == name.as_str())
}

/// Number of ready Pods of a Deployment, of any revision.
pub fn ready(deployment: &Value) -> i64 {
    deployment["status"]["readyReplicas"].as_i64().unwrap_or(0)
}

/// Whether all replicas of a Deployment have its newest revision and are available (`kubectl rollout status`).
pub fn is_complete(deployment: &Value) -> bool {
    let count = |field: &str| deployment["status"][field].as_i64().unwrap_or(0);
    let wanted = deployment["spec"]["replicas"].as_i64().unwrap_or(1);
    let updated = count("updatedReplicas");
    count("observedGeneration") >= deployment["metadata"]["generation"].as_i64().unwrap_or(0)
        && updated >= wanted
        && count("replicas") == updated
        && count("availableReplicas") >= wanted
}

/// The layout whose workers still serve because those of the system's layout are not complete yet; `None` if the
/// Services select the system's own.
pub fn leaving(system: &ValidatedSystem, deployments: &[Value]) -> Option<WorkersLayout> {
    let (layout, former) = (system.spec.workers.layout, other(system.spec.workers.layout));
    let all = |layout, holds: fn(&Value) -> bool| {
        roles_of(system, layout).into_iter().all(|(role, _)| find(system, deployments, role).is_some_and(holds))
    };
    // New workers without replicas serve no one.
    let arrived = all(layout, |deployment| is_complete(deployment) && ready(deployment) > 0);
    let serves = !system.spec.suspend && all(former, |deployment| ready(deployment) > 0);
    (serves && !arrived).then_some(former)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::system;

    fn deployments(system: &ValidatedSystem, layout: WorkersLayout, ready: i64) -> Vec<Value> {
        let one = |(role, _): (Role, _)| {
            json!({
                "metadata": { "name": role_name(system, role), "generation": 1 }, "spec": { "replicas": 2 },
                "status": { "observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": ready,
                    "readyReplicas": ready },
            })
        };
        roles_of(system, layout).into_iter().map(one).collect()
    }

    #[test]
    fn the_former_workers_serve_until_the_new_ones_are_complete() {
        for (layout, former) in
            [(WorkersLayout::Combined, WorkersLayout::Split), (WorkersLayout::Split, WorkersLayout::Combined)]
        {
            let mut system = system();
            system.spec.workers.layout = layout;
            let both = |new, old| [deployments(&system, layout, new), deployments(&system, former, old)].concat();
            assert_eq!(leaving(&system, &deployments(&system, former, 2)), Some(former), "the new ones do not exist");
            assert_eq!(leaving(&system, &both(0, 2)), Some(former));
            assert_eq!(leaving(&system, &both(1, 2)), Some(former), "one of two");
            assert_eq!(leaving(&system, &both(2, 2)), None);
            assert_eq!(leaving(&system, &both(1, 0)), None, "the old ones serve no one");
            assert_eq!(leaving(&system, &deployments(&system, layout, 1)), None, "there are no old ones");
            let mut suspended = system.clone();
            suspended.spec.suspend = true;
            assert_eq!(leaving(&suspended, &both(0, 2)), None);
        }
    }
}
