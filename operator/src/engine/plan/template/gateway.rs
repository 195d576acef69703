//! The public HTTP API: an API Gateway HTTP API in front of the workers.
//!
//! One route serves all paths, because a route costs some 300 bytes of a template that CloudFormation limits to 51,200.
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

const VPC_LINK: &str = "VpcLink";
const API: &str = "HttpApi";
const API_LOGS: &str = "ApiLogGroup";
const AUTHORIZER: &str = "JwtAuthorizer";
const INTEGRATION: &str = "WorkersIntegration";

/// Maximum integration timeout of an HTTP API.
const INTEGRATION_TIMEOUT_MS: u32 = 30_000;

/// Fields of an access log entry. Path, address and claims are excluded: ids in a path identify people. The metrics of
/// the workers count each operation.
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
    for (logical_id, key) in gateway_routes() {
        part.resource(logical_id, resource_of(&key));
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

/// Operations with a route of their own: drivers send positions far more often than anything else is sent, so they have
/// limits of their own; the access log distinguishes event streams. The names were deployed before.
const POSITIONS: [(&str, &str); 2] =
    [("postLocation", "RoutePostDriverLocations"), ("postLocations", "RoutePostLocationsBatch")];
const EVENTS: (&str, &str) = ("streamEvents", "RouteGetEvents");
/// Every other path and method. A method that a path does not have reaches a worker, which answers 405 with `Allow`.
const EVERYTHING: (&str, &str) = ("RouteApi", "ANY /v1/{proxy+}");

fn key_of(operation: &str) -> Option<String> {
    ROUTES.iter().find(|route| route.operation_id == operation).map(Route::key)
}

/// Logical ids and keys of the routes.
fn gateway_routes() -> Vec<(&'static str, String)> {
    let own = POSITIONS.into_iter().chain([EVENTS]);
    own.filter_map(|(operation, id)| Some((id, key_of(operation)?)))
        .chain([(EVERYTHING.0, EVERYTHING.1.to_owned())])
        .collect()
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
    let settings = json!({
        "DetailedMetricsEnabled": true,
        "ThrottlingBurstLimit": spec.throttle.burst,
        "ThrottlingRateLimit": spec.throttle.rate_per_second,
    });
    let keys = POSITIONS.into_iter().filter_map(|(operation, _)| key_of(operation));
    let own: serde_json::Map<String, Value> = keys.map(|key| (key, settings.clone())).collect();
    Resource::new(
        "AWS::ApiGatewayV2::Stage",
        json!({
            "ApiId": reference(API),
            "StageName": "$default",
            "AutoDeploy": true,
            "DefaultRouteSettings": settings,
            // Positions that are too many are refused, and nothing else is.
            "RouteSettings": own,
            "AccessLogSettings": {
                "DestinationArn": attribute(API_LOGS, "Arn"),
                "Format": Value::Object(format).to_string(),
            },
        }),
    )
    // Settings of a route that does not exist are refused.
    .depends_on(POSITIONS.map(|(_, logical_id)| logical_id).to_vec())
}
