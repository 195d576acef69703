//! Deployments.

use std::collections::BTreeMap;

use dispatch_api::dispatch_system::{NodeAffinitySpec, NodeRequirement, RoleScaling, SchedulingSpec};
use dispatch_api::validate::ValidatedSystem;
use dispatch_api::worker_config::IMAGE_ENV;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction,
    KeyToPath, LocalObjectReference, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
    PodAffinityTerm, PodAntiAffinity, PodSecurityContext, PodSpec, PodTemplateSpec, PreferredSchedulingTerm, Probe,
    ResourceRequirements, SeccompProfile, SecretKeySelector, SecretVolumeSource, SecurityContext, Toleration,
    TopologySpreadConstraint, Volume, VolumeMount, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::engine::plan::workers::{
    CONFIG_DIGEST, CONFIG_FILE, Pool, Role, labels, metadata, role_name, selector, workers_name,
};
use crate::engine::worker_config::{CACHE_AUTH_TOKEN_ENV, CACHE_AUTH_TOKEN_FILE_ENV};

/// Port of the HTTP API, the default of the runtime.
pub(super) const HTTP_PORT: i32 = 8080;
/// Port of `/livez`, `/readyz` and `/metrics`, the default of the runtime.
pub const ADMIN_PORT: u16 = 9090;
/// Time that a terminating Pod still accepts requests, s. The endpoints of the Service are updated concurrently with
/// the termination. The worker itself lingers, so that it reports that it is not ready meanwhile, which a `preStop`
/// hook could not.
const LINGER_S: u16 = 5;
/// Time from SIGTERM to SIGKILL, s. A worker lingers, then drains for at most 10 s; the rest is slack for a loaded
/// node.
const GRACE_S: i64 = 30;
/// Replicas if the manifest sets none: one can terminate while the other serves.
const REPLICAS: u32 = 2;
/// Time that a roll-out may make no progress before Kubernetes reports it as failed, s. Pulling an image takes less.
const PROGRESS_DEADLINE_S: i32 = 300;
/// Time that a new worker has to be ready before an old one is stopped, s. A worker that crashes under its first
/// requests stops the roll-out.
const MIN_READY_S: i32 = 5;
/// Number of old `ReplicaSet`s for `kubectl rollout undo`.
const REVISIONS: i32 = 3;
/// User and group of the image: any number except 0.
const USER: i64 = 65_532;
const CONFIG_DIR: &str = "/etc/dispatch";
const CONFIG_VOLUME: &str = "config";
const TOKEN_DIR: &str = "/etc/dispatch-cache";
const TOKEN_FILE: &str = "token";
const TOKEN_VOLUME: &str = "cache-token";
const CA_DIR: &str = "/etc/dispatch-ca";
const CA_VOLUME: &str = "ca-bundle";
/// Programs read only files with such names from a folder of certificates (OpenSSL's `rehash`): eight hexadecimal
/// digits and a number.
const CA_FILE: &str = "00000000.0";

pub(super) fn deployment(pool: &Pool<'_>, role: Role, scaling: &RoleScaling, digest: &str) -> Deployment {
    let system = pool.system;
    let name = role_name(system, role);
    let component = Some(role.name);
    Deployment {
        metadata: metadata(system, name, component),
        spec: Some(DeploymentSpec {
            replicas: replicas(pool, scaling),
            revision_history_limit: Some(REVISIONS),
            progress_deadline_seconds: Some(PROGRESS_DEADLINE_S),
            min_ready_seconds: Some(MIN_READY_S),
            selector: selector(system, component),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels(system, component)),
                    annotations: Some(BTreeMap::from([(CONFIG_DIGEST.to_owned(), digest.to_owned())])),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod(pool, role)),
            },
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

/// `None` if an autoscaler controls the replicas.
fn replicas(pool: &Pool<'_>, scaling: &RoleScaling) -> Option<i32> {
    if pool.system.spec.suspend {
        return Some(0);
    }
    if scaling.autoscaling.is_some() {
        return None;
    }
    Some(i32::try_from(scaling.replicas.unwrap_or(REPLICAS)).unwrap_or(i32::MAX))
}

fn arguments(role: Role) -> Vec<String> {
    let config = format!("{CONFIG_DIR}/{CONFIG_FILE}");
    let mut arguments = ["serve", "--config", &config, "--role", role.runs].map(str::to_owned).to_vec();
    if role.http {
        arguments.extend(["--linger-seconds".to_owned(), LINGER_S.to_string()]);
    }
    arguments
}

fn pod(pool: &Pool<'_>, role: Role) -> PodSpec {
    let system = pool.system;
    let scheduling = &system.spec.workers.scheduling;
    let zones = scheduling.spread_over_zones.then(|| TopologySpreadConstraint {
        label_selector: Some(selector(system, Some(role.name))),
        match_label_keys: Some(of_one_revision()),
        max_skew: 1,
        topology_key: "topology.kubernetes.io/zone".to_owned(),
        // Two workers in one place are better than one worker.
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        ..TopologySpreadConstraint::default()
    });
    PodSpec {
        service_account_name: Some(role_name(system, role)),
        automount_service_account_token: Some(false),
        termination_grace_period_seconds: Some(GRACE_S),
        node_selector: (!scheduling.node_selector.is_empty()).then(|| scheduling.node_selector.clone()),
        priority_class_name: scheduling.priority_class_name.clone(),
        affinity: Some(Affinity {
            node_affinity: node_affinity(&scheduling.node_affinity),
            pod_anti_affinity: Some(apart_on_nodes(system, role)),
            ..Affinity::default()
        }),
        topology_spread_constraints: zones.map(|zones| vec![zones]),
        runtime_class_name: scheduling.runtime_class_name.clone(),
        image_pull_secrets: pull_secrets(pool),
        tolerations: Some(tolerations(scheduling)),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            // The projected AWS token is readable by this group.
            fs_group: Some(USER),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
            ..PodSecurityContext::default()
        }),
        volumes: Some(volumes(pool)),
        containers: vec![container(pool, role)],
        ..PodSpec::default()
    }
}

/// The Pods of the previous revision, which a rolling update replaces, must not count.
fn of_one_revision() -> Vec<String> {
    vec!["pod-template-hash".to_owned()]
}

/// Prefers nodes without a worker of this role. As a spread constraint beside that of the zones, this would have no
/// effect where nodes have no label of a zone: the scheduler ignores a node that lacks the label of any constraint.
fn apart_on_nodes(system: &ValidatedSystem, role: Role) -> PodAntiAffinity {
    let term = WeightedPodAffinityTerm {
        weight: 100,
        pod_affinity_term: PodAffinityTerm {
            label_selector: Some(selector(system, Some(role.name))),
            match_label_keys: Some(of_one_revision()),
            topology_key: "kubernetes.io/hostname".to_owned(),
            ..PodAffinityTerm::default()
        },
    };
    PodAntiAffinity {
        preferred_during_scheduling_ignored_during_execution: Some(vec![term]),
        ..PodAntiAffinity::default()
    }
}

/// `None` without conditions.
fn node_affinity(spec: &NodeAffinitySpec) -> Option<NodeAffinity> {
    let term = |requirements: &[NodeRequirement]| NodeSelectorTerm {
        match_expressions: Some(requirements.iter().map(node_requirement).collect()),
        ..NodeSelectorTerm::default()
    };
    let preferred = spec.preferred.iter().map(|preference| PreferredSchedulingTerm {
        weight: preference.weight.into(),
        preference: term(&preference.match_expressions),
    });
    (*spec != NodeAffinitySpec::default()).then(|| NodeAffinity {
        required_during_scheduling_ignored_during_execution: (!spec.required.is_empty())
            .then(|| NodeSelector { node_selector_terms: vec![term(&spec.required)] }),
        preferred_during_scheduling_ignored_during_execution: (!spec.preferred.is_empty()).then(|| preferred.collect()),
    })
}

fn node_requirement(requirement: &NodeRequirement) -> NodeSelectorRequirement {
    NodeSelectorRequirement {
        key: requirement.key.clone(),
        operator: format!("{:?}", requirement.operator),
        values: (!requirement.values.is_empty()).then(|| requirement.values.clone()),
    }
}

fn pull_secrets(pool: &Pool<'_>) -> Option<Vec<LocalObjectReference>> {
    let named = &pool.system.spec.workers.image_pull_secrets;
    let references = named.iter().map(|secret| LocalObjectReference { name: secret.name.clone() });
    (!named.is_empty()).then(|| references.collect())
}

/// Those of the spec, which may name the taints of lost nodes itself, then those of lost nodes.
fn tolerations(scheduling: &SchedulingSpec) -> Vec<Toleration> {
    let of_spec = scheduling.tolerations.iter().map(|toleration| Toleration {
        key: Some(toleration.key.clone()),
        operator: Some(if toleration.value.is_some() { "Equal" } else { "Exists" }.to_owned()),
        value: toleration.value.clone(),
        effect: toleration.effect.map(|effect| format!("{effect:?}")),
        ..Toleration::default()
    });
    of_spec.chain(lost_node_tolerations(scheduling.lost_node_seconds)).collect()
}

/// How long a Pod stays on a node that does not answer. Without them, Kubernetes adds the same with 300 s.
fn lost_node_tolerations(seconds: u32) -> Vec<Toleration> {
    let taints = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
    taints
        .map(|key| Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some("NoExecute".to_owned()),
            toleration_seconds: Some(seconds.into()),
            ..Toleration::default()
        })
        .to_vec()
}

fn container(pool: &Pool<'_>, role: Role) -> Container {
    let workers = &pool.system.spec.workers;
    let port = |name: &str, number| ContainerPort {
        name: Some(name.to_owned()),
        container_port: number,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    let mut ports = vec![port("admin", ADMIN_PORT.into())];
    if role.http {
        ports.push(port("http", HTTP_PORT));
    }
    let quantity = |text: &str| Quantity(text.to_owned());
    let resources = &workers.resources;
    Container {
        name: "runtime".to_owned(),
        image: Some(image(pool).to_owned()),
        args: Some(arguments(role)),
        env: Some(environment(pool)),
        ports: Some(ports),
        resources: Some(ResourceRequirements {
            requests: Some(BTreeMap::from([
                ("cpu".to_owned(), quantity(&resources.cpu_request)),
                ("memory".to_owned(), quantity(&resources.memory_request)),
            ])),
            limits: Some(BTreeMap::from([("memory".to_owned(), quantity(&resources.memory_limit))])),
            ..ResourceRequirements::default()
        }),
        liveness_probe: Some(probe("/livez", 6)),
        readiness_probe: Some(probe("/readyz", 2)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(mounts(pool)),
        // The last lines of a worker that crashed show in its Pod's status.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

fn image<'a>(pool: &Pool<'a>) -> &'a str {
    pool.system.spec.workers.image.as_deref().unwrap_or(pool.image)
}

/// The configuration, and the token of the cache: unlike an environment variable, a mounted Secret follows a rotation
/// while the process runs.
fn volumes(pool: &Pool<'_>) -> Vec<Volume> {
    let config = Volume {
        name: CONFIG_VOLUME.to_owned(),
        config_map: Some(ConfigMapVolumeSource { name: workers_name(pool.system), ..ConfigMapVolumeSource::default() }),
        ..Volume::default()
    };
    let token = pool.system.spec.cache.auth_secret_ref.as_ref().map(|reference| Volume {
        name: TOKEN_VOLUME.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(reference.name.clone()),
            items: Some(vec![KeyToPath { key: reference.key.clone(), path: TOKEN_FILE.to_owned(), mode: None }]),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    });
    let bundle = pool.system.spec.workers.ca_bundle.as_ref().map(|reference| Volume {
        name: CA_VOLUME.to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: reference.name.clone(),
            items: Some(vec![KeyToPath { key: reference.key.clone(), path: CA_FILE.to_owned(), mode: None }]),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    });
    std::iter::once(config).chain(token).chain(bundle).collect()
}

fn mounts(pool: &Pool<'_>) -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    let token = pool.system.spec.cache.auth_secret_ref.as_ref().map(|_| mount(TOKEN_VOLUME, TOKEN_DIR));
    let bundle = pool.system.spec.workers.ca_bundle.as_ref().map(|_| mount(CA_VOLUME, CA_DIR));
    std::iter::once(mount(CONFIG_VOLUME, CONFIG_DIR)).chain(token).chain(bundle).collect()
}

fn environment(pool: &Pool<'_>) -> Vec<EnvVar> {
    let plain =
        |name: &str, value: &str| EnvVar { name: name.to_owned(), value: Some(value.to_owned()), value_from: None };
    let mut all = vec![
        plain("DISPATCH_LOG_FORMAT", "json"),
        // A worker that starts while a dependency is silent asks whether this image has worked before.
        plain(IMAGE_ENV, image(pool)),
        // The credentials of the node are not a worker's, even where no network policy is enforced.
        plain("AWS_EC2_METADATA_DISABLED", "true"),
    ];
    let own = pool.environment.variables(&pool.system.spec.workers.env);
    if !own.iter().any(|variable| variable.name == "RUST_LOG") {
        all.push(plain("RUST_LOG", "info"));
    }
    all.extend(own);
    if pool.system.spec.workers.ca_bundle.is_some() {
        // Besides SSL_CERT_FILE, which the image sets.
        all.push(plain("SSL_CERT_DIR", CA_DIR));
    }
    // The token stays in the Secret of its owner; no worker object contains a copy.
    if let Some(reference) = &pool.system.spec.cache.auth_secret_ref {
        let source = SecretKeySelector { name: reference.name.clone(), key: reference.key.clone(), optional: None };
        all.push(EnvVar {
            name: CACHE_AUTH_TOKEN_ENV.to_owned(),
            value: None,
            value_from: Some(EnvVarSource { secret_key_ref: Some(source), ..EnvVarSource::default() }),
        });
        all.push(plain(CACHE_AUTH_TOKEN_FILE_ENV, &format!("{TOKEN_DIR}/{TOKEN_FILE}")));
    }
    all
}

fn probe(path: &str, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("admin".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(5),
        timeout_seconds: Some(2),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}
