use serde_json::json;

use super::*;

fn pod(value: Value) -> Pod {
    serde_json::from_value(value).unwrap()
}

/// A Pod of `dispatch-algorithm` with this status.
fn worker(status: Value) -> WorkerPod {
    let mut value = json!({ "metadata": { "name": "seoul-dispatch-algorithm-x" } });
    value["status"] = status;
    WorkerPod::new("dispatch-algorithm", pod(value))
}

/// A Pod whose container has this state.
fn container(container: &Value) -> WorkerPod {
    let mut full = json!({ "name": "runtime", "image": "runtime", "imageID": "", "ready": false, "restartCount": 0 });
    full.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
    worker(json!({ "containerStatuses": [full] }))
}

fn said(pods: &[WorkerPod]) -> Option<(Reason, String)> {
    cause(pods, &BTreeMap::new()).map(|cause| (cause.reason, cause.message))
}

#[test]
fn each_kind_of_failure_has_its_reason_and_the_words_of_kubernetes() {
    let waiting = |reason: &str, message: &str| {
        container(&json!({ "state": { "waiting": { "reason": reason, "message": message } } }))
    };
    let ended = |terminated: Value| {
        container(&json!({ "restartCount": 3, "lastState": { "terminated": terminated },
            "state": { "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 40s" } } }))
    };
    let cases = vec![
        (
            waiting("ErrImagePull", "manifest for runtime:9 not found"),
            Some((Reason::ImageNotPulled, "cannot start: ErrImagePull: manifest for runtime:9 not found")),
        ),
        (
            waiting("CreateContainerConfigError", "secret \"cache\" not found"),
            Some((Reason::ContainerNotStarted, "cannot start: CreateContainerConfigError: secret \"cache\" not found")),
        ),
        (waiting("ContainerCreating", ""), None),
        (
            ended(json!({ "exitCode": 137, "reason": "OOMKilled" })),
            Some((
                Reason::OutOfMemory,
                "was killed at its memory limit (restarts: 3); raise spec.workers.resources.memoryLimit",
            )),
        ),
        (
            ended(json!({ "exitCode": 1, "reason": "Error",
                "message": "{\"level\":\"INFO\"}\nError: cannot read the configuration\n\nCaused by:\n    no such file\n" })),
            Some((
                Reason::WorkersCrashing,
                "exited with code 1 (restarts: 3): cannot read the configuration: no such file",
            )),
        ),
        (
            ended(json!({ "exitCode": 101, "reason": "Error",
                "message": "{\"level\":\"ERROR\",\"fields\":{\"message\":\"the table is gone\"}}" })),
            Some((Reason::WorkersCrashing, "exited with code 101 (restarts: 3): the table is gone")),
        ),
        (
            ended(json!({ "exitCode": 0, "reason": "Completed" })),
            Some((Reason::WorkersCrashing, "ends again and again (restarts: 3)")),
        ),
        (
            worker(json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": "0/2 nodes are available: 2 Insufficient memory." }] })),
            Some((Reason::PodsUnschedulable, "cannot be scheduled: 0/2 nodes are available: 2 Insufficient memory.")),
        ),
    ];
    for (pod, expected) in cases {
        let expected = expected
            .map(|(reason, text)| (reason, format!("dispatch-algorithm: Pod seoul-dispatch-algorithm-x {text}")));
        assert_eq!(said(&[pod]), expected);
    }
}

#[test]
fn the_worst_cause_is_reported_and_ready_pods_have_none() {
    let unschedulable = worker(json!({ "conditions": [{ "type": "PodScheduled", "status": "False" }] }));
    let crashed = container(&json!({ "state": { "terminated": { "exitCode": 2 } } }));
    let reason = |pods: &[WorkerPod]| said(pods).map(|(reason, _)| reason);
    assert_eq!(reason(&[unschedulable.clone(), crashed]), Some(Reason::WorkersCrashing));
    assert_eq!(reason(&[unschedulable]), Some(Reason::PodsUnschedulable));
    // It crashed once, long ago.
    let healed = worker(json!({ "conditions": [{ "type": "Ready", "status": "True" }], "containerStatuses": [{
        "name": "runtime", "image": "", "imageID": "", "ready": true, "restartCount": 1,
        "lastState": { "terminated": { "exitCode": 1 } }, "state": { "running": {} } }] }));
    assert_eq!(reason(&[healed]), None);
}

#[test]
fn a_running_worker_is_asked_what_it_waits_for() {
    let running = |ready: &str| {
        worker(json!({ "podIP": "10.0.0.7", "conditions": [{ "type": "Ready", "status": ready }],
            "containerStatuses": [{ "name": "runtime", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": { "running": {} } }] }))
    };
    let name = "seoul-dispatch-algorithm-x".to_owned();
    assert_eq!(to_ask(&[running("False"), running("True")]), [(name.clone(), "10.0.0.7".to_owned())]);
    assert_eq!(to_ask(&vec![running("False"); 9]).len(), ASKED_MAX);
    let answer = waits_for("not ready: the cache (refused: WRONGPASS)\n").unwrap();
    let found = cause(&[running("False")], &BTreeMap::from([(name, answer)])).unwrap();
    assert_eq!(found.reason, Reason::WaitingForDependency);
    let message = "dispatch-algorithm: Pod seoul-dispatch-algorithm-x waits for the cache (refused: WRONGPASS)";
    assert_eq!(found.message, message);
    for body in ["ok\n", "not ready: starting\n", "not ready: draining\n", "<html>"] {
        assert_eq!(waits_for(body), None, "{body}");
    }
    // The body comes from whatever has the address.
    let hostile = waits_for(&format!("not ready: \u{1b}[2J{}", "x".repeat(5000))).unwrap();
    assert!(!hostile.contains('\u{1b}') && hostile.chars().count() <= TEXT_MAX + 1, "{hostile}");
}

#[test]
fn pods_of_others_of_older_revisions_and_terminating_ones_do_not_count() {
    let owned = |name: &str, owner: &str| {
        json!({ "metadata": { "name": name, "uid": name, "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "any",
            "name": owner, "uid": owner, "controller": true }] } })
    };
    let set = |name: &str, owner: &str, revision: &str| {
        let mut set = owned(name, owner);
        set["metadata"]["annotations"] = json!({ "deployment.kubernetes.io/revision": revision });
        pod(set).metadata
    };
    let sets = [set("old", "mine", "9"), set("new", "mine", "10"), set("foreign", "other", "11")];
    let mut terminating = owned("terminating", "new");
    terminating["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let pods = [owned("b", "new"), owned("a", "new"), owned("c", "old"), owned("d", "foreign"), terminating];
    let pods = pods.into_iter().chain([json!({ "metadata": { "name": "bare" } })]).map(pod).collect();
    let deployments = BTreeMap::from([("mine".to_owned(), "save-dispatch")]);
    let found = of_newest_revisions(pods, &sets, &deployments);
    let names: Vec<(&str, &str)> = found.iter().map(|pod| (pod.role, pod.name())).collect();
    assert_eq!(names, [("save-dispatch", "a"), ("save-dispatch", "b")]);
}

#[test]
fn a_role_on_one_node_is_not_spread() {
    let on = |role: &'static str, node: &str| {
        WorkerPod::new(role, pod(json!({ "spec": { "containers": [], "nodeName": node } })))
    };
    let status = |pods: &[WorkerPod]| spread(pods).map(|(status, _, message)| (status, message));
    assert_eq!(status(&[]), None);
    assert_eq!(status(&[on("save-dispatch", "n1"), on("location-update", "n1")]), None, "one Pod each");
    let several = [on("save-dispatch", "n1"), on("save-dispatch", "n2"), on("location-update", "n1")];
    assert_eq!(status(&several).unwrap().0, ConditionStatus::True);
    let (status, message) = status(&[on("save-dispatch", "n1"), on("save-dispatch", "n1")]).unwrap();
    assert_eq!(status, ConditionStatus::False);
    assert!(message.starts_with("all 2 Pods of save-dispatch on n1; "), "{message}");
}
