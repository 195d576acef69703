//! The public HTTP API: an API Gateway HTTP API with one route for each path of the workers.
//!
//! Routes are per path and not per method, because a route costs some 300 bytes of a template that CloudFormation
//! limits to 51,200. A method that a path does not have reaches a worker, which answers 405 with `Allow`.
//!
//! An HTTP API ends a request after 30 seconds, so clients reconnect to `GET /v1/events` twice a minute. Clients of
//! server-sent events do so automatically (`Last-Event-ID`).

use dispatch_api::dispatch_system::{GatewaySpec, JwtSpec, UpstreamSpec, VpcLinkSpec};
use dispatch_api::validate::ValidatedSystem;
use dispatch_http_types::{ROUTES, Route};
use serde_json::{Value, json};

use crate::engine::plan::template::fragment::{Resource, TemplateFragment, attribute, reference, sub};
use crate::engine::plan::template::{logs, outputs};
use crate::engine::worker_config::CLIENT_ADDRESS_HEADER;

pub(super) const VPC_LINK: &str = "VpcLink";
const API: &str = "HttpApi";
const API_LOGS: &str = "ApiLogGroup";
const AUTHORIZER: &str = "JwtAuthorizer";
const INTEGRATION: &str = "WorkersIntegration";

/// Maximum integration timeout of an HTTP API.
const INTEGRATION_TIMEOUT_MS: u32 = 30_000;

/// Paths of operations' endpoints. One route serves them all.
const OPERATIONS_PATHS: &str = "/v1/operations/";

/// Fields of an access log entry. Path, address and claims are excluded; the route key and the method name the
/// operation without the ids in the path.
const ACCESS_LOG_FIELDS: [(&str, &str); 10] = [
    ("authorizerError", "$context.authorizer.error"),
    ("error", "$context.error.responseType"),
    ("httpMethod", "$context.httpMethod"),
    ("integrationLatencyMs", "$context.integrationLatency"),
    ("integrationStatus", "$context.integrationStatus"),
    ("latencyMs", "$context.responseLatency"),
    ("requestId", "$context.requestId"),
    ("responseBytes", "$context.responseLength"),
    ("routeKey", "$context.routeKey"),
    ("status", "$context.status"),
];

/// The settings of an enabled gateway, which validation guarantees.
struct Gateway<'a> {
    spec: &'a GatewaySpec,
    upstream: &'a UpstreamSpec,
    jwt: &'a JwtSpec,
}

fn enabled(system: &ValidatedSystem) -> Option<Gateway<'_>> {
    let spec = &system.spec.api.gateway;
    let (upstream, jwt) = spec.upstream.as_ref().zip(spec.jwt.as_ref())?;
    spec.enabled.then_some(Gateway { spec, upstream, jwt })
}

pub(super) fn has_vpc_link(system: &ValidatedSystem) -> bool {
    enabled(system).is_some_and(|gateway| gateway.upstream.vpc_link.is_some())
}

pub(super) fn part(system: &ValidatedSystem) -> TemplateFragment {
    let mut part = TemplateFragment::default();
    let Some(gateway) = enabled(system) else { return part };
    // With this prefix, the log deliveries of all APIs share one statement of the log resource policy of the account,
    // whose size is limited ("Enable logging from AWS services").
    let logs = logs::log_group(system, &format!("/aws/vendedlogs/{}/api", logs::path(system)));
    part.resource(API_LOGS, logs);
    part.resource(
        API,
        Resource::new("AWS::ApiGatewayV2::Api", json!({ "Name": system.names.prefix, "ProtocolType": "HTTP" })),
    );
    part.resource(AUTHORIZER, authorizer(gateway.jwt));
    if let Some(link) = &gateway.upstream.vpc_link {
        part.resource(VPC_LINK, vpc_link(system, link));
    }
    part.resource(INTEGRATION, integration(gateway.upstream));
    for route in gateway_routes() {
        part.resource(route.logical_id, resource_of(&route.key));
    }
    part.resource("DefaultStage", stage(gateway.spec));
    part.output(outputs::API_ENDPOINT, &attribute(API, "ApiEndpoint"));
    part
}

fn authorizer(jwt: &JwtSpec) -> Resource {
    Resource::new(
        "AWS::ApiGatewayV2::Authorizer",
        json!({
            "ApiId": reference(API),
            "Name": "jwt",
            "AuthorizerType": "JWT",
            "IdentitySource": ["$request.header.Authorization"],
            "JwtConfiguration": { "Issuer": jwt.issuer, "Audience": jwt.audiences },
        }),
    )
}

fn vpc_link(system: &ValidatedSystem, link: &VpcLinkSpec) -> Resource {
    Resource::new(
        "AWS::ApiGatewayV2::VpcLink",
        json!({
            "Name": system.names.prefix,
            "SubnetIds": link.subnet_ids,
            "SecurityGroupIds": (!link.security_group_ids.is_empty()).then_some(&link.security_group_ids),
        }),
    )
}

/// One integration serves all routes. `overwrite:path` passes the path of the request. The address of the client is
/// passed in a separate header, which replaces any value that the client sent.
fn integration(upstream: &UpstreamSpec) -> Resource {
    let (uri, link) = match &upstream.vpc_link {
        Some(link) => (json!(link.listener_arn), Some(reference(VPC_LINK))),
        None => (json!(upstream.url), None),
    };
    Resource::new(
        "AWS::ApiGatewayV2::Integration",
        json!({
            "ApiId": reference(API),
            "IntegrationType": "HTTP_PROXY",
            "IntegrationMethod": "ANY",
            "IntegrationUri": uri,
            "ConnectionType": if link.is_some() { "VPC_LINK" } else { "INTERNET" },
            "ConnectionId": link,
            "PayloadFormatVersion": "1.0",
            "RequestParameters": {
                "overwrite:path": "$request.path",
                format!("overwrite:header.{CLIENT_ADDRESS_HEADER}"): "$context.identity.sourceIp",
            },
            "TimeoutInMillis": INTEGRATION_TIMEOUT_MS,
        }),
    )
}

/// A route of the gateway.
struct GatewayRoute {
    logical_id: String,
    key: String,
}

/// The routes of the gateway: one for each path, for `ANY` method if the path has several.
fn gateway_routes() -> Vec<GatewayRoute> {
    let mut paths: Vec<&str> = Vec::new();
    let mut routes = Vec::new();
    for route in ROUTES {
        if paths.contains(&route.path) || route.path.starts_with(OPERATIONS_PATHS) {
            continue;
        }
        paths.push(route.path);
        let several = ROUTES.iter().any(|other| other.path == route.path && other.method != route.method);
        let key = if several { format!("ANY {}", route.path) } else { route.key() };
        routes.push(GatewayRoute { logical_id: logical_id(route), key });
    }
    if ROUTES.iter().any(|route| route.path.starts_with(OPERATIONS_PATHS)) {
        let key = format!("ANY {OPERATIONS_PATHS}{{proxy+}}");
        routes.push(GatewayRoute { logical_id: "RouteOperations".to_owned(), key });
    }
    routes
}

/// The logical id of the route of a path, after the first operation of the path. The first operations were deployed
/// under names that are not their operation ids; a new name would have CloudFormation make the route again while the
/// old one still holds its key.
fn logical_id(route: &Route) -> String {
    let mut name = match route.operation_id {
        "respondToOffer" => "RespondToDispatch",
        "reportTripEvent" => "AddDispatchEvent",
        "putAvailability" => "PutDriverAvailability",
        "postLocation" => "PostDriverLocations",
        "postLocations" => "PostLocationsBatch",
        "streamEvents" => "GetEvents",
        other => other,
    }
    .to_owned();
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    format!("Route{name}")
}

fn resource_of(key: &str) -> Resource {
    Resource::new(
        "AWS::ApiGatewayV2::Route",
        json!({
            "ApiId": reference(API),
            "RouteKey": key,
            "AuthorizationType": "JWT",
            "AuthorizerId": reference(AUTHORIZER),
            "Target": sub(&format!("integrations/${{{INTEGRATION}}}")),
        }),
    )
}

fn stage(spec: &GatewaySpec) -> Resource {
    let format: serde_json::Map<String, Value> =
        ACCESS_LOG_FIELDS.iter().map(|(name, variable)| ((*name).to_owned(), json!(variable))).collect();
    Resource::new(
        "AWS::ApiGatewayV2::Stage",
        json!({
            "ApiId": reference(API),
            "StageName": "$default",
            "AutoDeploy": true,
            "DefaultRouteSettings": {
                "DetailedMetricsEnabled": true,
                "ThrottlingBurstLimit": spec.throttle.burst,
                "ThrottlingRateLimit": spec.throttle.rate_per_second,
            },
            "AccessLogSettings": {
                "DestinationArn": attribute(API_LOGS, "Arn"),
                "Format": Value::Object(format).to_string(),
            },
        }),
    )
}
