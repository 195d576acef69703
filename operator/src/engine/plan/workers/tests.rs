use dispatch_api::dispatch_system::{AutoscalingSpec, SecretKeyRef};

use super::*;
use crate::testing::system;

mod flows;

fn outputs() -> OutputsStatus {
    OutputsStatus {
        table_name: "coactus-default-seoul".to_owned(),
        stream_arn: "arn:aws:dynamodb:ap-northeast-2:000000000000:table/coactus-default-seoul/stream/1".to_owned(),
        lease_table_name: "coactus-default-seoul-leases".to_owned(),
        offers_queue_url: "https://sqs.ap-northeast-2.amazonaws.com/000000000000/coactus-default-seoul-offers"
            .to_owned(),
        responses_queue_url: "https://sqs.example/responses".to_owned(),
        notifications_queue_url: "https://sqs.example/notifications".to_owned(),
        topic_arn: "arn:aws:sns:ap-northeast-2:000000000000:coactus-default-seoul-notifications".to_owned(),
        platform_application_arn: None,
        cache_url: "rediss://master.seoul.cache.example:6379".to_owned(),
        export_bucket: "coactus-default-seoul-000000000000-ap-northeast-2-exports".to_owned(),
        api_endpoint: None,
        worker_role_arns: ["seoul-save-dispatch", "seoul-workers"]
            .map(|account| (account.to_owned(), format!("arn:aws:iam::000000000000:role/{account}")))
            .into(),
    }
}

fn in_cluster() -> ValidatedSystem {
    let mut system = system();
    system.uid = Some("3a5f1c9e-0000-4000-8000-000000000001".to_owned());
    system
}

fn build(system: &ValidatedSystem) -> Vec<Child> {
    let outputs = outputs();
    let pool = Pool {
        system,
        outputs: &outputs,
        image: "registry.example.com/coactus/dispatch-runtime:0.0.0",
        endpoint_url: None,
        cache_secret_version: None,
        clients: &WorkerClients::default(),
        environment: &WorkerEnvironment::default(),
        leaving: None,
    };
    objects(&pool).expect("objects")
}

fn one<'a>(children: &'a [Child], kind: ChildKind, name: &str) -> &'a Value {
    &children.iter().find(|child| child.kind == kind && child.name == name).expect(name).body
}

fn digest_of(children: &[Child]) -> Value {
    let deployment = one(children, ChildKind::Deployment, "seoul-save-dispatch");
    deployment["spec"]["template"]["metadata"]["annotations"][CONFIG_DIGEST].clone()
}

#[test]
fn the_objects_of_the_smallest_system() {
    let children = build(&in_cluster());
    assert_eq!(children, build(&in_cluster()), "the same input gives the same objects");
    let bodies: Vec<&Value> = children.iter().map(|child| &child.body).collect();
    insta::assert_yaml_snapshot!(bodies);
}

#[test]
fn with_an_issuer_each_service_account_names_its_role_unless_the_spec_names_another() {
    const ROLE: &str = "eks.amazonaws.com/role-arn";
    let mut system = in_cluster();
    let named = |system: &ValidatedSystem, account: &str| {
        one(&build(system), ChildKind::ServiceAccount, account)["metadata"]["annotations"][ROLE].clone()
    };
    assert_eq!(named(&system, "seoul-save-dispatch"), Value::Null);
    system.spec.aws.oidc_provider_arn = Some("arn:aws:iam::000000000000:oidc-provider/issuer.example".to_owned());
    for account in ["seoul-save-dispatch", "seoul-workers"] {
        assert_eq!(named(&system, account), format!("arn:aws:iam::000000000000:role/{account}"));
    }
    assert_eq!(named(&system, "seoul-driver-response"), Value::Null, "a stack of an earlier version");
    system.spec.workers.service_account_annotations.insert(ROLE.to_owned(), "mine".to_owned());
    assert_eq!(named(&system, "seoul-save-dispatch"), "mine");
}

#[test]
fn a_suspended_system_keeps_its_objects_and_runs_nothing() {
    let mut system = in_cluster();
    system.spec.workers.roles.save_dispatch.autoscaling =
        Some(AutoscalingSpec { min_replicas: 2, max_replicas: 8, target_cpu_percent: 70 });
    system.spec.suspend = true;
    let children = build(&system);
    for (role, _) in roles(&system) {
        let deployment = one(&children, ChildKind::Deployment, &role_name(&system, role));
        assert_eq!(deployment["spec"]["replicas"], 0);
    }
    assert!(!children.iter().any(|child| child.kind == ChildKind::HorizontalPodAutoscaler));
}

#[test]
fn an_autoscaled_role_leaves_its_replicas_to_the_autoscaler() {
    let mut system = in_cluster();
    system.spec.workers.roles.save_dispatch.autoscaling =
        Some(AutoscalingSpec { min_replicas: 3, max_replicas: 8, target_cpu_percent: 60 });
    let children = build(&system);
    assert!(one(&children, ChildKind::Deployment, "seoul-save-dispatch")["spec"].get("replicas").is_none());
    let scaler = one(&children, ChildKind::HorizontalPodAutoscaler, "seoul-save-dispatch");
    assert_eq!(scaler["spec"]["maxReplicas"], 8);
}

fn autoscaled(min_replicas: u32, max_replicas: u32) -> ValidatedSystem {
    let mut system = in_cluster();
    system.spec.workers.roles.save_dispatch.autoscaling =
        Some(AutoscalingSpec { min_replicas, max_replicas, target_cpu_percent: 60 });
    system
}

/// A Deployment with replicas that a manager applied.
fn running(replicas: u32, manager: &str) -> Value {
    json!({
        "metadata": { "managedFields": [
            { "manager": manager, "operation": "Apply", "fieldsV1": { "f:spec": { "f:replicas": {} } } },
            { "manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": { "f:spec": { "f:selector": {} } } },
        ] },
        "spec": { "replicas": replicas },
    })
}

#[test]
fn replicas_are_handed_over_as_they_run_within_the_bounds_of_the_autoscaler() {
    let of = |system: &ValidatedSystem, live: Option<&Value>| {
        let children = build(system);
        let named = |child: &&Child| child.kind == ChildKind::Deployment && child.name == "seoul-save-dispatch";
        hand_over(system, children.iter().find(named).expect("a Deployment"), live)
    };
    let system = autoscaled(2, 10);
    assert_eq!(of(&system, None), Some(HandOver::Create(2)));
    for (runs, handed_over) in [(8, 8), (1, 2), (20, 10), (0, 2)] {
        assert_eq!(of(&system, Some(&running(runs, FIELD_MANAGER))), Some(HandOver::Replicas(handed_over)), "{runs}");
    }
    assert_eq!(of(&system, Some(&running(8, "kube-controller-manager"))), None, "the autoscaler has them");
    assert_eq!(of(&in_cluster(), Some(&running(8, FIELD_MANAGER))), None, "a fixed number stays with the operator");
    let mut suspended = system.clone();
    suspended.spec.suspend = true;
    assert_eq!(of(&suspended, Some(&running(8, FIELD_MANAGER))), None);
    let children = build(&system);
    assert!(
        children
            .iter()
            .filter(|child| child.name != "seoul-save-dispatch")
            .all(|child| { hand_over(&system, child, Some(&running(8, FIELD_MANAGER))).is_none() })
    );
}

#[test]
fn workers_are_rolled_out_only_for_changes_that_they_cannot_reload() {
    let before = digest_of(&build(&in_cluster()));
    let text = format!("{}  dispatch: {{ maxCandidates: 8 }}\n", crate::testing::MANIFEST);
    let raw = dispatch_api::manifest::read_manifests(&text).expect("a manifest");
    let mut system = ValidatedSystem::try_from_raw(&raw[0]).expect("valid");
    let children = build(&system);
    assert_eq!(digest_of(&children), before, "dispatch settings are reloaded");
    let config = &one(&children, ChildKind::ConfigMap, "seoul-workers")["data"][CONFIG_FILE];
    assert!(config.as_str().is_some_and(|text| text.contains("\"maxCandidates\": 8")), "and reach the file");
    system.spec.table.gsi1_shards = 4;
    assert_ne!(digest_of(&build(&system)), before);
}

#[test]
fn workers_reach_their_router_and_are_not_rolled_out_for_it() {
    let ports = |children: &[Child]| {
        let egress = &one(children, ChildKind::NetworkPolicy, "seoul-dispatch-algorithm")["spec"]["egress"];
        egress[1]["ports"].as_array().expect("ports").iter().map(|port| port["port"].clone()).collect::<Vec<Value>>()
    };
    let without = build(&in_cluster());
    assert!(!ports(&without).contains(&json!(5000)));
    let eta = "{ provider: OSRM, url: \"http://osrm.mobility.svc:5000/\" }";
    let text = format!("{}  dispatch: {{ eta: {eta} }}\n", crate::testing::MANIFEST);
    let raw = dispatch_api::manifest::read_manifests(&text).expect("a manifest");
    let with = build(&ValidatedSystem::try_from_raw(&raw[0]).expect("valid"));
    assert!(ports(&with).contains(&json!(5000)));
    assert_eq!(digest_of(&with), digest_of(&without), "the router is reloaded");
    let config = &one(&with, ChildKind::ConfigMap, "seoul-workers")["data"][CONFIG_FILE];
    assert!(config.as_str().is_some_and(|text| text.contains("\"url\": \"http://osrm.mobility.svc:5000\"")));
}

#[test]
fn the_auth_token_is_read_from_its_own_secret_and_appears_nowhere() {
    let mut system = in_cluster();
    system.spec.cache.auth_secret_ref = Some(SecretKeyRef { name: "redis".to_owned(), key: "token".to_owned() });
    let children = build(&system);
    let pod = &one(&children, ChildKind::Deployment, "seoul-status-update")["spec"]["template"]["spec"];
    let env = pod["containers"][0]["env"].as_array().expect("env");
    let token =
        env.iter().find(|var| var["name"] == crate::engine::worker_config::CACHE_AUTH_TOKEN_ENV).expect("the token");
    assert_eq!(token["valueFrom"]["secretKeyRef"], json!({ "name": "redis", "key": "token" }));
    // The file follows a rotation while the process runs.
    let file = env.iter().find(|var| var["name"] == crate::engine::worker_config::CACHE_AUTH_TOKEN_FILE_ENV);
    assert_eq!(file.expect("the file")["value"], "/etc/dispatch-cache/token");
    let volume = pod["volumes"].as_array().expect("volumes").iter().find(|volume| volume["name"] == "cache-token");
    let secret = &volume.expect("the volume")["secret"];
    assert_eq!(*secret, json!({ "secretName": "redis", "items": [{ "key": "token", "path": "token" }] }));
    let mounts = pod["containers"][0]["volumeMounts"].as_array().expect("mounts");
    assert!(mounts.iter().any(|mount| mount["mountPath"] == "/etc/dispatch-cache" && mount["readOnly"] == true));
}

/// The profile "restricted" of the Kubernetes Pod security standards, field by field.
#[test]
fn every_pod_satisfies_the_restricted_profile() {
    for child in build(&in_cluster()).iter().filter(|child| child.kind == ChildKind::Deployment) {
        let pod = &child.body["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        for field in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(pod.get(field).is_none(), "{field}");
        }
        for container in pod["containers"].as_array().expect("containers") {
            assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
            assert_eq!(container["securityContext"]["capabilities"], json!({ "drop": ["ALL"] }));
            assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        }
    }
}
