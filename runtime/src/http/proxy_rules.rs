//! Rules by which a proxy finds the Service of a request in the layout `Split`, where each role has one. Pure.
//!
//! All of them follow from the one list of routes and from the routers of the roles.

use std::cmp::Reverse;
use std::fmt::Write as _;

use clap::ValueEnum;
use dispatch_api::object_names::role_object;
use dispatch_http_types::Route;
use serde_json::{Value, json};

use super::router::{HttpRole, served_routes};

/// Format of the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProxyFormat {
    /// Configuration of nginx, for its context `http`
    Nginx,
    /// Conditions and priorities of an AWS Application Load Balancer, for `aws elbv2 create-rule`
    Alb,
    /// Method, path, role and Service of each route
    Json,
}

/// The system that the rules lead to.
#[derive(Debug, Clone, Copy)]
pub struct ProxyTarget<'a> {
    pub system: &'a str,
    pub namespace: &'a str,
}

impl ProxyTarget<'_> {
    fn service(self, role: HttpRole) -> String {
        role_object(self.system, role.name())
    }

    /// Name of an upstream or variable of nginx.
    fn symbol(self, suffix: &str) -> String {
        format!("{}_{suffix}", self.system).replace('-', "_")
    }
}

/// The rules, with a line break at the end.
pub fn proxy_rules(format: ProxyFormat, target: ProxyTarget<'_>) -> Result<String, serde_json::Error> {
    match format {
        ProxyFormat::Nginx => Ok(nginx(target)),
        ProxyFormat::Alb => document(&alb(target)),
        ProxyFormat::Json => document(&list(target)),
    }
}

fn document(value: &Value) -> Result<String, serde_json::Error> {
    Ok(format!("{}\n", serde_json::to_string_pretty(value)?))
}

fn list(target: ProxyTarget<'_>) -> Value {
    let row = |(route, role): (&Route, HttpRole)| {
        json!({
            "method": route.method.as_str(), "path": route.path, "operationId": route.operation_id,
            "role": role.name(), "service": target.service(role),
        })
    };
    served_routes().into_iter().map(row).collect()
}

/// An Application Load Balancer takes the first rule by priority, and its `*` includes slashes, so that longer paths
/// come first.
fn alb(target: ProxyTarget<'_>) -> Value {
    let mut routes = served_routes();
    let fixed = |route: &Route| route.path.split('/').filter(|part| !part.starts_with('{')).count();
    routes.sort_by_key(|(route, _)| (Reverse(fixed(route)), Reverse(route.path.len()), route.path, route.method));
    let rule = |(at, (route, role)): (usize, (&Route, HttpRole))| {
        json!({
            "Priority": at + 1,
            "Conditions": [
                { "Field": "http-request-method", "HttpRequestMethodConfig": { "Values": [route.method.as_str()] } },
                { "Field": "path-pattern", "PathPatternConfig": { "Values": [with_parameters(route.path, "*")] } },
            ],
            "Actions": [{ "Type": "forward", "TargetGroupArn": format!("<target group of {}>", target.service(role)) }],
        })
    };
    routes.into_iter().enumerate().map(rule).collect()
}

/// A path with each parameter replaced.
fn with_parameters(path: &str, replacement: &str) -> String {
    let parts = path.split('/').map(|part| if part.starts_with('{') { replacement } else { part });
    parts.collect::<Vec<_>>().join("/")
}

fn nginx(target: ProxyTarget<'_>) -> String {
    let workers = target.symbol("workers");
    let mut text = format!(
        "# The workers of DispatchSystem {}/{} in the layout Split, for the context http. nginx resolves the names\n# of \
         the Services once, at its start.\n",
        target.namespace, target.system
    );
    for role in HttpRole::ALL {
        let (upstream, service) = (target.symbol(role.name()), target.service(role));
        let _ = writeln!(
            text,
            "upstream {upstream} {{\n    server {service}.{}.svc:80;\n    keepalive 32;\n}}",
            target.namespace
        );
    }
    let _ = writeln!(text, "\nmap \"$request_method $uri\" ${workers} {{");
    let routes = served_routes();
    for (route, role) in &routes {
        text.push_str(&entry(target, route.method.as_str(), route.path, *role));
    }
    text.push_str("    # A method that a path does not have is refused by the role of the path.\n");
    let mut paths: Vec<&str> = Vec::new();
    for (route, role) in &routes {
        if !paths.contains(&route.path) {
            paths.push(route.path);
            text.push_str(&entry(target, "[A-Z]+", route.path, *role));
        }
    }
    let _ = writeln!(text, "    default {};\n}}\n", target.symbol(HttpRole::SaveDispatch.name()));
    let _ = write!(
        text,
        "server {{
    listen 80;
    location /v1/ {{
        proxy_pass http://${workers};
        proxy_http_version 1.1;
        proxy_set_header Connection \"\";
        proxy_set_header Host $host;
        # With api.limits.clientAddressHeader: x-forwarded-for. What a client writes into it is replaced.
        proxy_set_header X-Forwarded-For $remote_addr;
        # Event streams have a heartbeat every 15 s and ask not to be buffered.
        proxy_read_timeout 60s;
        proxy_request_buffering off;
        client_max_body_size 256k;
    }}
}}
"
    );
    text
}

/// An entry of the map: a regular expression and its upstream.
fn entry(target: ProxyTarget<'_>, method: &str, path: &str, role: HttpRole) -> String {
    let upstream = target.symbol(role.name());
    format!("    \"~^{method} {}$\" {upstream};\n", with_parameters(path, "[^/]+"))
}

#[cfg(test)]
mod tests {
    use dispatch_http_types::ROUTES;
    use regex::Regex;

    use super::*;

    const TARGET: ProxyTarget<'_> = ProxyTarget { system: "seoul-1", namespace: "mobility" };

    fn path_of(route: &Route) -> String {
        with_parameters(route.path, "01JW3Q4X5Y6Z7A8B9C0D1E2F3G")
    }

    #[test]
    fn every_route_has_a_role() {
        assert_eq!(served_routes().len(), ROUTES.len());
        let text = proxy_rules(ProxyFormat::Json, TARGET).unwrap();
        let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
        let find = |id: &str| rows.iter().find(|row| row["operationId"] == id).unwrap()["service"].clone();
        assert_eq!(find("createDispatch"), "seoul-1-save-dispatch");
        assert_eq!(find("respondToOffer"), "seoul-1-driver-response");
        assert_eq!(find("postLocation"), "seoul-1-status-update");
    }

    /// Reads the map as nginx does: the first expression that matches.
    fn by_nginx(text: &str, line: &str) -> Option<String> {
        let mut entries = text.lines().filter_map(|line| line.trim().strip_prefix("\"~"));
        entries.find_map(|entry| {
            let (expression, upstream) = entry.split_once("\" ")?;
            Regex::new(expression).ok()?.is_match(line).then(|| upstream.trim_end_matches(';').to_owned())
        })
    }

    #[test]
    fn nginx_finds_the_role_of_every_route_and_of_every_wrong_method() {
        let text = proxy_rules(ProxyFormat::Nginx, TARGET).unwrap();
        for (route, role) in served_routes() {
            let upstream = format!("seoul_1_{}", role.name().replace('-', "_"));
            let found = by_nginx(&text, &format!("{} {}", route.method, path_of(route)));
            assert_eq!(found, Some(upstream), "{}", route.key());
            assert!(by_nginx(&text, &format!("PATCH {}", path_of(route))).is_some(), "{}", route.path);
        }
        assert_eq!(by_nginx(&text, "GET /v1/other"), None);
    }

    /// Reads the rules as a load balancer does: the first rule by priority, with wildcards that include slashes.
    #[test]
    fn a_load_balancer_finds_the_role_of_every_route() {
        let rules: Vec<Value> = serde_json::from_str(&proxy_rules(ProxyFormat::Alb, TARGET).unwrap()).unwrap();
        assert!(rules.len() <= 100, "the default quota of a load balancer");
        for (route, role) in served_routes() {
            let path = path_of(route);
            let matches = |rule: &&Value| {
                let value = |at: usize, name: &str| rule["Conditions"][at][name]["Values"][0].as_str().unwrap();
                let pattern = format!("^{}$", value(1, "PathPatternConfig").replace('*', ".*"));
                value(0, "HttpRequestMethodConfig") == route.method.as_str()
                    && Regex::new(&pattern).unwrap().is_match(&path)
            };
            let found = rules.iter().find(matches).unwrap();
            let expected = format!("<target group of {}>", TARGET.service(role));
            assert_eq!(found["Actions"][0]["TargetGroupArn"], expected.as_str(), "{}", route.key());
        }
    }
}
