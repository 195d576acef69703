//! What the Pods of a system say about its workers. Pure.

use std::collections::{BTreeMap, BTreeSet};

use dispatch_api::conditions::{ConditionStatus, Reason};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use crate::engine::status::Finding;
use crate::sanitize::{shortened, shown};

/// Number of Pods that are asked what they wait for. All Pods of a revision usually wait for the same.
const ASKED_MAX: usize = 4;
/// Longest text of a Pod in a message, in characters.
const TEXT_MAX: usize = 300;
/// What the admin port answers before it says what the worker waits for.
const NOT_READY: &str = "not ready: ";
/// What a worker waits for that is no dependency.
const OWN_STATES: [&str; 2] = ["starting", "draining"];
/// Exit code of a process that got SIGKILL.
const KILLED: i32 = 137;

/// A Pod of a worker role.
#[derive(Clone, Debug)]
pub struct WorkerPod {
    /// Name of the role.
    pub role: &'static str,
    pod: Pod,
}

impl WorkerPod {
    /// Wraps a Pod of a role.
    pub fn new(role: &'static str, pod: Pod) -> Self {
        Self { role, pod }
    }

    /// Name of the Pod.
    pub fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    /// Node that it runs on.
    fn node(&self) -> Option<&str> {
        self.pod.spec.as_ref()?.node_name.as_deref()
    }

    fn container(&self) -> Option<&ContainerStatus> {
        self.pod.status.as_ref()?.container_statuses.as_ref()?.first()
    }

    fn is_ready(&self) -> bool {
        self.condition("Ready").is_some_and(|(status, _)| status == "True")
    }

    /// Status and message of a condition.
    fn condition(&self, kind: &str) -> Option<(&str, &str)> {
        let conditions = self.pod.status.as_ref()?.conditions.as_ref()?;
        let found = conditions.iter().find(|condition| condition.type_ == kind)?;
        Some((&found.status, found.message.as_deref().unwrap_or_default()))
    }

    /// Address of a worker that runs and is not ready: its admin port says what it waits for.
    fn address_to_ask(&self) -> Option<&str> {
        let state = self.container()?.state.as_ref()?;
        if state.running.is_none() || self.is_ready() {
            return None;
        }
        self.pod.status.as_ref()?.pod_ip.as_deref()
    }
}

/// The Pods that belong to the newest revision of a Deployment of this system, and do not terminate. Labels do not
/// count: the author of a Pod chooses them. The controllers of Kubernetes are named by UID.
pub fn of_newest_revisions(
    pods: Vec<Pod>,
    sets: &[ObjectMeta],
    deployments: &BTreeMap<String, &'static str>,
) -> Vec<WorkerPod> {
    let mut newest = BTreeMap::<&str, (u64, &str)>::new();
    for set in sets {
        let (Some(owner), Some(uid)) = (controller(set), set.uid.as_deref()) else { continue };
        let revision = revision(set);
        if deployments.contains_key(owner) && newest.get(owner).is_none_or(|(known, _)| *known < revision) {
            newest.insert(owner, (revision, uid));
        }
    }
    let roles: BTreeMap<&str, &'static str> =
        newest.iter().filter_map(|(owner, (_, set))| Some((*set, *deployments.get(*owner)?))).collect();
    let mut found: Vec<WorkerPod> = pods
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .filter_map(|pod| {
            let role = *roles.get(controller(&pod.metadata)?)?;
            Some(WorkerPod::new(role, pod))
        })
        .collect();
    found.sort_by(|left, right| (left.role, left.name()).cmp(&(right.role, right.name())));
    found
}

/// UID of the controller of an object.
fn controller(metadata: &ObjectMeta) -> Option<&str> {
    let owners = metadata.owner_references.as_ref()?;
    owners.iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str())
}

/// Revision that the Deployment controller gave to a `ReplicaSet`.
fn revision(set: &ObjectMeta) -> u64 {
    let annotations = set.annotations.as_ref();
    annotations.and_then(|all| all.get("deployment.kubernetes.io/revision")?.parse().ok()).unwrap_or_default()
}

/// Names and addresses of the Pods to ask what they wait for.
pub fn to_ask(pods: &[WorkerPod]) -> Vec<(String, String)> {
    let waiting = pods.iter().filter_map(|pod| Some((pod.name().to_owned(), pod.address_to_ask()?.to_owned())));
    waiting.take(ASKED_MAX).collect()
}

/// What a Pod waits for, from the body of its `/readyz`; `None` if it names no dependency.
pub fn waits_for(body: &str) -> Option<String> {
    let said = body.trim().strip_prefix(NOT_READY)?;
    (!OWN_STATES.contains(&said)).then(|| short(said))
}

/// Why workers are not ready: what Kubernetes or a Pod says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    pub reason: Reason,
    /// The role, the Pod, what happened, and what to do.
    pub message: String,
}

/// What the Pods of a system say; nothing if they could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodsFinding {
    pub cause: Option<Cause>,
    /// The condition `WorkersSpread`.
    pub spread: Option<Finding>,
}

/// The most severe cause among the Pods, of the first Pod that shows it. `answers` has what Pods said that they wait
/// for, by name.
pub fn cause(pods: &[WorkerPod], answers: &BTreeMap<String, String>) -> Option<Cause> {
    let found = pods.iter().filter(|pod| !pod.is_ready()).filter_map(|pod| {
        let (severity, reason, message) = obstacle(pod, answers.get(pod.name()))?;
        Some((severity, Cause { reason, message: format!("{}: Pod {} {message}", pod.role, pod.name()) }))
    });
    found.min_by_key(|(severity, _)| *severity).map(|(_, cause)| cause)
}

/// Severity (0 is the worst), reason, and what follows the name of the Pod.
fn obstacle(pod: &WorkerPod, answer: Option<&String>) -> Option<(u8, Reason, String)> {
    if let Some(container) = pod.container()
        && let Some(found) = of_container(container)
    {
        return Some(found);
    }
    if let Some((status, message)) = pod.condition("PodScheduled")
        && status == "False"
    {
        return Some((3, Reason::PodsUnschedulable, format!("cannot be scheduled: {}", short(message))));
    }
    let answer = answer?;
    Some((4, Reason::WaitingForDependency, format!("waits for {answer}")))
}

fn of_container(container: &ContainerStatus) -> Option<(u8, Reason, String)> {
    let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
    let states = [&container.state, &container.last_state];
    let ended = states.into_iter().flatten().find_map(|state| state.terminated.as_ref());
    if let Some(ended) = ended.filter(|ended| ended.exit_code != 0) {
        return Some(crashed(ended, container.restart_count));
    }
    let waiting = waiting?;
    let (why, message) = (waiting.reason.as_deref()?, waiting.message.as_deref().unwrap_or_default());
    match why {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "RegistryUnavailable" => {
            Some((1, Reason::ImageNotPulled, format!("cannot start: {why}: {}", short(message))))
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" | "CreatePodSandboxError" => {
            Some((2, Reason::ContainerNotStarted, format!("cannot start: {why}: {}", short(message))))
        }
        // A worker that ends without an error is restarted as well.
        "CrashLoopBackOff" => {
            Some((0, Reason::WorkersCrashing, format!("ends again and again (restarts: {})", container.restart_count)))
        }
        _ => None,
    }
}

fn crashed(ended: &ContainerStateTerminated, restarts: i32) -> (u8, Reason, String) {
    let again = if restarts == 0 { String::new() } else { format!(" (restarts: {restarts})") };
    if ended.reason.as_deref() == Some("OOMKilled") {
        let remedy = "raise spec.workers.resources.memoryLimit";
        return (0, Reason::OutOfMemory, format!("was killed at its memory limit{again}; {remedy}"));
    }
    let how = match (ended.exit_code, ended.signal) {
        (KILLED, _) => "was killed".to_owned(),
        (_, Some(signal)) => format!("ended by signal {signal}"),
        (code, None) => format!("exited with code {code}"),
    };
    let last = ended.message.as_deref().and_then(last_words);
    let last = last.map(|last| format!(": {last}")).unwrap_or_default();
    (0, Reason::WorkersCrashing, format!("{how}{again}{last}"))
}

/// What a program said last: its error with all causes, or its last line. A line of the log is reduced to its message.
fn last_words(log: &str) -> Option<String> {
    if let Some(at) = log.rfind("Error: ") {
        let lines = log.get(at + "Error: ".len()..)?.lines().map(str::trim);
        let parts: Vec<&str> = lines.filter(|line| !line.is_empty() && *line != "Caused by:").collect();
        return Some(short(&parts.join(": ")));
    }
    let line = log.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    let fields = serde_json::from_str::<Value>(line).ok();
    let message = fields.as_ref().and_then(|line| {
        let nested = line["fields"]["message"].as_str();
        nested.or_else(|| line["message"].as_str())
    });
    Some(short(message.unwrap_or(line)))
}

/// One line of printable text of limited length.
fn short(text: &str) -> String {
    shortened(&shown(text.trim()), TEXT_MAX)
}

/// Whether each role with several Pods runs on several nodes. Kubernetes spreads Pods when it starts them, and does not
/// move them later. `None` if no role has several scheduled Pods.
pub fn spread(pods: &[WorkerPod]) -> Option<Finding> {
    let mut nodes = BTreeMap::<&str, (usize, BTreeSet<&str>)>::new();
    for (role, node) in pods.iter().filter_map(|pod| Some((pod.role, pod.node()?))) {
        let (count, on) = nodes.entry(role).or_default();
        *count += 1;
        on.insert(node);
    }
    nodes.retain(|_, (count, _)| *count > 1);
    if nodes.is_empty() {
        return None;
    }
    let crowded: Vec<String> = nodes
        .iter()
        .filter(|(_, (_, on))| on.len() == 1)
        .map(|(role, (count, on))| format!("all {count} Pods of {role} on {}", on.iter().copied().collect::<String>()))
        .collect();
    if crowded.is_empty() {
        let message = "the Pods of each role run on several nodes".to_owned();
        return Some((ConditionStatus::True, Reason::Spread, message));
    }
    let remedy = "the loss of the node stops the role; to move a Pod, delete it while another node has room";
    Some((ConditionStatus::False, Reason::OneNode, format!("{}; {remedy}", crowded.join(", "))))
}

#[cfg(test)]
mod tests;
