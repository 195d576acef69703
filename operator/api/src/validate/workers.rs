//! Formats and rules of `spec.workers`.

use super::errors::Findings;
use super::text;
use crate::dispatch_system::{ENV_NAMES, NodeOperator, NodeRequirement, ResourceList, SchedulingSpec, WorkersSpec};

/// Longest value of an environment variable, in characters.
const ENV_VALUE_MAX: usize = 256;
const LABEL_VALUE: &str = "a label value, at most 63 of A-Z a-z 0-9 - _ .";

/// Checks the worker pool.
pub(super) fn check(spec: &WorkersSpec, found: &mut Findings) {
    if let Some(image) = &spec.image {
        found.at("spec.workers.image").require(
            text::is_image(image),
            image,
            "a container image such as registry/name:tag",
        );
    }
    scaling(spec, found);
    environment(spec, found);
    resources(&spec.resources, found);
    for key in spec.service_account_annotations.keys().filter(|key| !text::is_qualified_name(key)) {
        found.say(&format!("spec.workers.serviceAccountAnnotations.{key}"), "the key must be name or domain/name");
    }
    for (at, reference) in spec.image_pull_secrets.iter().enumerate() {
        object_name(&format!("spec.workers.imagePullSecrets[{at}].name"), &reference.name, found);
    }
    scheduling(&spec.scheduling, found);
}

fn resources(resources: &ResourceList, found: &mut Findings) {
    let mut size = |name: &str, value: &str| {
        let size = text::quantity(value);
        let path = format!("spec.workers.resources.{name}");
        found.at(&path).require(size.is_some(), value, "a Kubernetes quantity above zero such as 100m or 64Mi");
        size
    };
    size("cpuRequest", &resources.cpu_request);
    let (request, limit) =
        (size("memoryRequest", &resources.memory_request), size("memoryLimit", &resources.memory_limit));
    if let (Some(request), Some(limit)) = (request, limit)
        && request > limit
    {
        let allowed = format!("at least memoryRequest ({})", resources.memory_request);
        found.refuse("spec.workers.resources.memoryLimit", &resources.memory_limit, allowed);
    }
}

fn scheduling(spec: &SchedulingSpec, found: &mut Findings) {
    const PATH: &str = "spec.workers.scheduling";
    for (key, value) in &spec.node_selector {
        let path = format!("{PATH}.nodeSelector.{key}");
        if !text::is_qualified_name(key) {
            found.say(&path, "the key must be name or domain/name");
        }
        found.at(&path).require(text::is_label_value(value), value, LABEL_VALUE);
    }
    let affinity = &spec.node_affinity;
    for (at, requirement) in affinity.required.iter().enumerate() {
        node_requirement(&format!("{PATH}.nodeAffinity.required[{at}]"), requirement, found);
    }
    for (at, preference) in affinity.preferred.iter().enumerate() {
        for (expression, requirement) in preference.match_expressions.iter().enumerate() {
            let path = format!("{PATH}.nodeAffinity.preferred[{at}].matchExpressions[{expression}]");
            node_requirement(&path, requirement, found);
        }
    }
    for (at, toleration) in spec.tolerations.iter().enumerate() {
        let path = format!("{PATH}.tolerations[{at}]");
        let is_name = text::is_qualified_name(&toleration.key);
        found.at(&format!("{path}.key")).require(is_name, &toleration.key, "name or domain/name");
        if let Some(value) = &toleration.value {
            found.at(&format!("{path}.value")).require(text::is_label_value(value), value, LABEL_VALUE);
        }
    }
    for (field, kind, class) in [
        ("runtimeClassName", "RuntimeClass", &spec.runtime_class_name),
        ("priorityClassName", "PriorityClass", &spec.priority_class_name),
    ] {
        let Some(class) = class else { continue };
        let allowed = format!("the name of a {kind}");
        found.at(&format!("{PATH}.{field}")).require(text::is_dns_subdomain(class), class, &allowed);
    }
}

fn node_requirement(path: &str, requirement: &NodeRequirement, found: &mut Findings) {
    let (key, values) = (&requirement.key, &requirement.values);
    found.at(&format!("{path}.key")).require(text::is_qualified_name(key), key, "name or domain/name");
    for (at, value) in values.iter().enumerate() {
        let is_value = !value.is_empty() && text::is_label_value(value);
        found.at(&format!("{path}.values[{at}]")).require(is_value, value, LABEL_VALUE);
    }
    let is_integer = |value: &String| value.len() <= 19 && value.parse::<i64>().is_ok();
    let (fits, rule) = match requirement.operator {
        NodeOperator::In | NodeOperator::NotIn => (!values.is_empty(), "In and NotIn require values"),
        NodeOperator::Gt | NodeOperator::Lt => {
            (values.len() == 1 && values.iter().all(is_integer), "Gt and Lt require one integer")
        }
        NodeOperator::Exists | NodeOperator::DoesNotExist => {
            (values.is_empty(), "Exists and DoesNotExist take no values")
        }
    };
    if !fits {
        found.say(&format!("{path}.values"), rule);
    }
}

fn environment(spec: &WorkersSpec, found: &mut Findings) {
    let settable = ENV_NAMES.join(", ");
    for (name, value) in &spec.env {
        let path = format!("spec.workers.env.{name}");
        if !ENV_NAMES.contains(&name.as_str()) {
            found.say(&path, format!("only these variables can be set: {settable}"));
        }
        let is_short = value.chars().count() <= ENV_VALUE_MAX && !value.contains('\0');
        found.at(&path).require(is_short, value, &format!("at most {ENV_VALUE_MAX} characters"));
    }
    for (at, source) in spec.env_from.iter().enumerate() {
        let path = format!("spec.workers.envFrom[{at}]");
        if source.secret_ref.is_some() == source.config_map_ref.is_some() {
            found.say(&path, "exactly one of secretRef and configMapRef is required");
        }
        for (field, reference) in [("secretRef", &source.secret_ref), ("configMapRef", &source.config_map_ref)] {
            if let Some(reference) = reference {
                object_name(&format!("{path}.{field}.name"), &reference.name, found);
            }
        }
    }
    if let Some(bundle) = &spec.ca_bundle {
        object_name("spec.workers.caBundle.name", &bundle.name, found);
    }
}

pub(super) fn object_name(path: &str, name: &str, found: &mut Findings) {
    found.at(path).require(text::is_dns_subdomain(name), name, "an object name");
}

fn scaling(spec: &WorkersSpec, found: &mut Findings) {
    let roles = &spec.roles;
    for (path, role) in [
        ("spec.workers.roles.saveDispatch", &roles.save_dispatch),
        ("spec.workers.roles.dispatchAlgorithm", &roles.dispatch_algorithm),
        ("spec.workers.roles.driverResponse", &roles.driver_response),
        ("spec.workers.roles.statusUpdate", &roles.status_update),
        ("spec.workers.combined", &spec.combined),
    ] {
        let Some(autoscaling) = &role.autoscaling else { continue };
        if role.replicas.is_some() {
            found.say(path, "only one of replicas and autoscaling is allowed, both are set");
        }
        let (least, most) = (autoscaling.min_replicas, autoscaling.max_replicas);
        found.at(&format!("{path}.autoscaling.maxReplicas")).require(
            least <= most,
            most,
            &format!("at least minReplicas ({least})"),
        );
    }
}
