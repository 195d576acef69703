//! The network policies as a table of connections, because no network plugin runs in the tests.

use crate::allow_list::AllowList;
use crate::testing::flows::{Direction, Flow, Peer, allowed};

use super::*;

const INGRESS: [&str; 3] = ["save-dispatch", "driver-response", "status-update"];
const ALL: [&str; 4] = ["save-dispatch", "dispatch-algorithm", "driver-response", "status-update"];
const ALGORITHM: [&str; 1] = ["dispatch-algorithm"];
const NONE: [&str; 0] = [];

/// A system whose cache, router and issuer have ports of their own.
fn with_ports() -> ValidatedSystem {
    let more = "  cache: { external: { url: \"rediss://redis.example:6380\" } }\n  dispatch: { eta: { provider: OSRM, \
                url: \"http://osrm.mobility.svc:5000\" } }\n  api: { auth: { issuer: \"https://login.example:8443/x\", \
                audiences: [app] } }\n";
    let raw = dispatch_api::manifest::read_manifests(&format!("{}{more}", crate::testing::MANIFEST)).expect("YAML");
    ValidatedSystem { uid: Some("u".to_owned()), ..ValidatedSystem::try_from_raw(&raw[0]).expect("valid") }
}

struct Workers(Vec<Child>);

impl Workers {
    fn new(system: &ValidatedSystem, clients: &WorkerClients, endpoint_url: Option<&str>) -> Self {
        let mut outputs = outputs();
        if let Some(external) = &system.spec.cache.external {
            outputs.cache_url.clone_from(&external.url);
        }
        let pool = Pool {
            system,
            outputs: &outputs,
            image: "runtime",
            endpoint_url,
            cache_secret_version: None,
            clients,
            environment: &WorkerEnvironment::default(),
            leaving: None,
        };
        Self(objects(&pool).expect("objects"))
    }

    /// The roles that may have a connection.
    fn roles(&self, flow: Flow<'_>) -> Vec<&'static str> {
        let of_kind = |kind| self.0.iter().filter(move |child| child.kind == kind).map(|child| &child.body);
        let policies: Vec<&Value> = of_kind(ChildKind::NetworkPolicy).collect();
        let may = |role: &&str| {
            let name = format!("seoul-{role}");
            let deployment = of_kind(ChildKind::Deployment).find(|body| body["metadata"]["name"] == name.as_str());
            let labels = &deployment.expect("a Deployment")["spec"]["template"]["metadata"]["labels"];
            allowed(&policies, labels, &[], flow)
        };
        ALL.into_iter().filter(may).collect()
    }

    fn to(&self, address: &str, port: u16) -> Vec<&'static str> {
        self.roles(Flow { direction: Direction::Egress, peer: Peer::Address(address), protocol: "TCP", port })
    }

    fn from(&self, peer: Peer<'_>, port: u16) -> Vec<&'static str> {
        self.roles(Flow { direction: Direction::Ingress, peer, protocol: "TCP", port })
    }
}

const OUTSIDE: [&str; 4] = ["52.95.0.1", "10.0.3.4", "192.168.0.9", "2600:1f14::1"];

#[test]
fn a_role_reaches_what_it_calls_and_nothing_else() {
    let workers = Workers::new(&with_ports(), &WorkerClients::default(), Some("http://aws.local:4566"));
    for address in OUTSIDE {
        for (port, roles) in [
            (443, &ALL[..]),
            (6380, &ALL),
            (4566, &ALL),
            (53, &ALL),
            (5000, &ALGORITHM),
            (8443, &INGRESS),
            (80, &NONE),
            (6379, &NONE),
            (22, &NONE),
            (5432, &NONE),
            (10_250, &NONE),
        ] {
            assert_eq!(workers.to(address, port), roles, "{address}:{port}");
        }
    }
    let pod = |port| Flow {
        direction: Direction::Egress,
        peer: Peer::Pod("mobility", &[("app", "osrm")]),
        protocol: "TCP",
        port,
    };
    assert_eq!(workers.roles(pod(5000)), ALGORITHM, "a router in the cluster");
    assert_eq!(workers.roles(pod(6380)), ALL, "a cache in the cluster");
    assert_eq!(workers.roles(pod(8080)), NONE);
    let names = Flow { protocol: "UDP", ..pod(53) };
    assert_eq!(workers.roles(names), ALL);
    assert_eq!(workers.roles(Flow { protocol: "UDP", ..pod(443) }), NONE);
}

#[test]
fn no_role_reaches_the_metadata_of_the_node_and_every_role_its_credentials() {
    let mut system = with_ports();
    // Even with a router at the port of the metadata service.
    system.spec.dispatch.eta.url = Some("http://osrm.mobility.svc/".to_owned());
    let workers = Workers::new(&system, &WorkerClients::default(), None);
    for address in ["169.254.169.254", "fd00:ec2::254", "169.254.170.2", "169.254.0.1", "fe80::1"] {
        for port in [80, 443, 8080, 6380, 5000] {
            assert_eq!(workers.to(address, port), NONE, "{address}:{port}");
        }
    }
    for agent in ["169.254.170.23", "fd00:ec2::23"] {
        assert_eq!(workers.to(agent, 80), ALL, "{agent}");
        assert_eq!(workers.to(agent, 443), NONE, "{agent}");
    }
    assert_eq!(workers.to("169.254.20.10", 53), ALL, "a cache of DNS on the node");
    assert_eq!(workers.to("10.0.3.4", 80), ALGORITHM, "the router, at the default port of its scheme");
    for child in workers.0.iter().filter(|child| child.kind == ChildKind::Deployment) {
        let env = child.body["spec"]["template"]["spec"]["containers"][0]["env"].as_array().expect("env");
        let off = json!({ "name": "AWS_EC2_METADATA_DISABLED", "value": "true" });
        assert!(env.contains(&off), "{}", child.name);
    }
}

#[test]
fn an_existing_system_keeps_its_cache_its_router_and_its_issuer() {
    for (cache, port) in [("redis://r.example", 6379), ("rediss://r.example:6380", 6380), ("redis://[fd00::1]:7", 7)] {
        let mut system = with_ports();
        system.spec.cache.external.as_mut().expect("external").url = cache.to_owned();
        let workers = Workers::new(&system, &WorkerClients::default(), None);
        assert_eq!(workers.to("10.0.3.4", port), ALL, "{cache}");
    }
    let managed = Workers::new(&in_cluster(), &WorkerClients::default(), None);
    assert_eq!(managed.to("10.0.3.4", 6379), ALL);
    assert_eq!(managed.to("10.0.3.4", 5000), NONE, "no router");
    let local = Workers::new(&in_cluster(), &WorkerClients::default(), Some("http://aws.local"));
    assert_eq!(local.to("10.0.3.4", 80), ALL, "the default port of the endpoint");
    let mut gateway = in_cluster();
    gateway.spec.api.gateway.jwt = Some(dispatch_api::dispatch_system::JwtSpec {
        issuer: "https://login.example:9443/x".to_owned(),
        audiences: vec!["app".to_owned()],
    });
    let workers = Workers::new(&gateway, &WorkerClients::default(), None);
    assert_eq!(workers.to("10.0.3.4", 9443), INGRESS, "the issuer of the gateway");
}

#[test]
fn the_api_and_the_metrics_have_the_clients_that_the_operator_names() {
    let ingress = Peer::Pod("ingress", &[]);
    let monitoring = Peer::Pod("monitoring", &[("app", "prometheus")]);
    let open = Workers::new(&with_ports(), &WorkerClients::default(), None);
    for client in [Peer::Address("203.0.113.9"), ingress, monitoring] {
        assert_eq!(open.from(client, 8080), INGRESS, "{client:?}");
    }
    assert_eq!(open.from(monitoring, 9090), ALL);
    for client in [Peer::Address("203.0.113.9"), Peer::Address("10.0.3.4"), ingress] {
        assert_eq!(open.from(client, 9090), NONE, "{client:?}");
    }
    for port in [22, 6379, 443] {
        assert_eq!(open.from(ingress, port), NONE);
    }
    let named = WorkerClients {
        api: AllowList::parse("ingress"),
        metrics: AllowList::parse("observability,ops"),
        operator: None,
    };
    let closed = Workers::new(&with_ports(), &named, None);
    assert_eq!(closed.from(ingress, 8080), INGRESS);
    assert_eq!(closed.from(monitoring, 8080), NONE);
    assert_eq!(closed.from(Peer::Address("203.0.113.9"), 8080), NONE);
    assert_eq!(
        (closed.from(Peer::Pod("ops", &[]), 9090), closed.from(monitoring, 9090)),
        (ALL.to_vec(), NONE.to_vec())
    );
    let no_clients = WorkerClients { api: AllowList::parse("None"), metrics: AllowList::parse(""), operator: None };
    let isolated = Workers::new(&with_ports(), &no_clients, None);
    for port in [8080, 9090] {
        assert_eq!(isolated.from(monitoring, port), NONE, "{port}");
    }
    let operator_only = WorkerClients { operator: Some("coactus-system".to_owned()), ..no_clients };
    let probed = Workers::new(&with_ports(), &operator_only, None);
    let operator = [("app.kubernetes.io/name", "dispatch-operator")];
    assert_eq!(probed.from(Peer::Pod("coactus-system", &operator), 9090), ALL);
    assert_eq!(probed.from(Peer::Pod("coactus-system", &operator), 8080), NONE);
    for other in [Peer::Pod("coactus-system", &[]), Peer::Pod("mobility", &operator), monitoring] {
        assert_eq!(probed.from(other, 9090), NONE, "{other:?}");
    }
    let anyone = WorkerClients { api: AllowList::Any, metrics: AllowList::Any, operator: None };
    let readable = Workers::new(&with_ports(), &anyone, None);
    assert_eq!(readable.from(Peer::Address("203.0.113.9"), 9090), ALL);
}
