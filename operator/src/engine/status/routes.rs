//! The condition `RoutesAccepted`: what the proxies of the cluster say of the objects that lead to the API. Pure.

use dispatch_api::conditions::{ConditionStatus, Reason};
use dispatch_api::names;
use dispatch_api::validate::ValidatedSystem;
use serde_json::Value;

use crate::engine::plan::workers::ChildKind;
use crate::engine::status::cluster::{Finding, condition};
use crate::sanitize::shown;

/// An object that the spec asks for, as found.
#[derive(Clone, Debug)]
pub struct FoundRoute {
    pub kind: ChildKind,
    /// Whether the cluster has the kind.
    pub is_served: bool,
    /// The object, if it exists.
    pub live: Option<Value>,
}

/// The condition `RoutesAccepted`: the worst of the objects. `None` without any.
pub fn finding(system: &ValidatedSystem, found: &[FoundRoute]) -> Option<Finding> {
    let all = found.iter().map(|route| accepted(system, route));
    // A message of each, the worst first.
    let mut all: Vec<Finding> = all.collect();
    all.sort_by_key(|(status, reason, _)| {
        (*status == ConditionStatus::True, !matches!(reason, Reason::RouteRejected | Reason::KindMissing))
    });
    let messages: Vec<String> = all.iter().map(|(_, _, message)| message.clone()).collect();
    all.into_iter().next().map(|(status, reason, _)| (status, reason, messages.join("; ")))
}

fn accepted(system: &ValidatedSystem, route: &FoundRoute) -> Finding {
    let name = names::api_object(&system.name);
    let kind = route.kind.names().2;
    if !route.is_served {
        let message = format!(
            "the cluster has no {kind} ({}); action required: install the Gateway API, or remove spec.api.httpRoute",
            route.kind.resource().api_version
        );
        return (ConditionStatus::False, Reason::KindMissing, message);
    }
    let pending = |what: &str| (ConditionStatus::False, Reason::RoutePending, format!("{kind} {name}: {what}"));
    let Some(live) = &route.live else { return pending("being created") };
    match route.kind {
        ChildKind::Ingress => {
            let balancers = live["status"]["loadBalancer"]["ingress"].as_array().into_iter().flatten();
            let address = |at: &Value| at["hostname"].as_str().or_else(|| at["ip"].as_str()).map(shown);
            let addresses: Vec<String> = balancers.filter_map(address).collect();
            if addresses.is_empty() {
                return pending("no proxy has given it an address; action required, if that lasts: check className");
            }
            let message = format!("{kind} {name} has the address {}", addresses.join(", "));
            (ConditionStatus::True, Reason::RoutesAccepted, message)
        }
        _ => parents(system, live).unwrap_or_else(|| pending("no Gateway has answered yet")),
    }
}

/// What the gateways say of an `HTTPRoute`; `None` while one has not answered.
fn parents(system: &ValidatedSystem, live: &Value) -> Option<Finding> {
    let (name, kind) = (names::api_object(&system.name), "HTTPRoute");
    let asked = system.spec.api.http_route.as_ref().map_or(0, |route| route.gateways.len());
    let answers = live["status"]["parents"].as_array()?;
    for answer in answers {
        let gateway = shown(answer["parentRef"]["name"].as_str().unwrap_or("a Gateway"));
        let mut judged = ["Accepted", "ResolvedRefs"].into_iter().filter_map(|kind| condition(answer, kind));
        if let Some(refused) = judged.find(|condition| condition["status"] == "False") {
            let text = |field: &str| shown(refused[field].as_str().unwrap_or_default());
            let message = format!("Gateway {gateway} rejects {kind} {name}: {}: {}", text("reason"), text("message"));
            return Some((ConditionStatus::False, Reason::RouteRejected, message));
        }
    }
    let accepts = |answer: &&Value| condition(answer, "Accepted").is_some_and(|accepted| accepted["status"] == "True");
    let accepted = answers.iter().filter(accepts).count();
    let message = format!("{kind} {name} is accepted");
    (asked > 0 && accepted >= asked).then_some((ConditionStatus::True, Reason::RoutesAccepted, message))
}

#[cfg(test)]
mod tests {
    use dispatch_api::dispatch_system::{GatewayRef, HttpRouteSpec};
    use serde_json::json;

    use super::*;
    use crate::testing::system;

    fn gateway(name: &str) -> GatewayRef {
        GatewayRef { name: name.to_owned(), namespace: None, listener: None }
    }

    fn routed() -> ValidatedSystem {
        let mut system = system();
        let hosts = vec!["seoul.example.com".to_owned()];
        system.spec.api.http_route = Some(HttpRouteSpec { gateways: vec![gateway("public")], hosts });
        system
    }

    fn seen(kind: ChildKind, status: &Value) -> FoundRoute {
        FoundRoute { kind, is_served: true, live: Some(json!({ "status": status })) }
    }

    fn answer(accepted: &str, resolved: &str) -> Value {
        let condition = |kind: &str, status: &str| json!({ "type": kind, "status": status, "reason": "NotAllowedByListeners", "message": "of another namespace" });
        let conditions = [condition("Accepted", accepted), condition("ResolvedRefs", resolved)];
        json!({ "parents": [{ "parentRef": { "name": "public" }, "conditions": conditions }] })
    }

    #[test]
    fn the_condition_says_what_the_proxies_say() {
        let system = routed();
        let verdict = |found: &[FoundRoute]| finding(&system, found).map(|(_, reason, _)| reason);
        assert_eq!(finding(&system, &[]), None);
        let address = json!({ "loadBalancer": { "ingress": [{ "ip": "203.0.113.7" }] } });
        let (ingress, route) = (ChildKind::Ingress, ChildKind::HttpRoute);
        assert_eq!(verdict(&[seen(ingress, &address)]), Some(Reason::RoutesAccepted));
        assert_eq!(verdict(&[seen(ingress, &json!({}))]), Some(Reason::RoutePending));
        assert_eq!(verdict(&[seen(route, &answer("True", "True"))]), Some(Reason::RoutesAccepted));
        assert_eq!(verdict(&[seen(route, &json!({}))]), Some(Reason::RoutePending));
        for refused in [answer("False", "True"), answer("True", "False")] {
            let (status, reason, message) =
                finding(&system, &[seen(ingress, &address), seen(route, &refused)]).unwrap();
            assert_eq!((status, reason), (ConditionStatus::False, Reason::RouteRejected));
            let first =
                "Gateway public rejects HTTPRoute seoul-api: NotAllowedByListeners: of another namespace; Ingress";
            assert!(message.starts_with(first), "{message}");
        }
        let without = FoundRoute { kind: route, is_served: false, live: None };
        assert_eq!(verdict(&[without]), Some(Reason::KindMissing));
        let absent = FoundRoute { kind: ingress, is_served: true, live: None };
        assert_eq!(verdict(&[absent]), Some(Reason::RoutePending));
    }

    #[test]
    fn every_gateway_has_to_accept_the_route() {
        let mut system = routed();
        let route = system.spec.api.http_route.as_mut().unwrap();
        route.gateways.push(gateway("internal"));
        let found = seen(ChildKind::HttpRoute, &answer("True", "True"));
        assert_eq!(finding(&system, &[found]).map(|(_, reason, _)| reason), Some(Reason::RoutePending));
    }
}
