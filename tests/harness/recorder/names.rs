//! Names of requests: service and operation of AWS, resource and verb of Kubernetes.

use axum::body::{Body, Bytes};
use axum::http::{Method, Request};
use serde_json::Value;

use super::{Effect, Upstream};

/// Service and operation of a request to AWS. The service is in the signature's scope; the operation is in a header, in
/// the form or, for S3, in method and query.
pub(super) fn aws(request: &Request<Body>, body: &Bytes) -> (String, String) {
    let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // Credential=KEY/DATE/REGION/SERVICE/aws4_request
    let scope = text("authorization").split("Credential=").nth(1).unwrap_or_default();
    let service = scope.split('/').nth(3).unwrap_or("unknown").to_owned();
    if let Some((_, operation)) = text("x-amz-target").rsplit_once('.') {
        return (service, operation.to_owned());
    }
    if let Some((_, operation)) = request.uri().path().split_once("/operation/") {
        return (service, operation.to_owned());
    }
    if service == "s3" {
        return (service, s3(request));
    }
    let form = std::str::from_utf8(body).unwrap_or_default();
    let action = form.split('&').find_map(|pair| pair.strip_prefix("Action="));
    (service, action.unwrap_or("Unknown").to_owned())
}

/// What a JSON body refers to: the first entry of a transaction or batch. Empty where the body names nothing.
#[derive(Default)]
pub(super) struct Subject {
    /// `TableName`, `QueueUrl` or `TopicArn`.
    pub(super) resource: String,
    /// Partition key (`PK`) of the item.
    pub(super) item: String,
}

pub(super) fn subject(body: &Bytes) -> Subject {
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return Subject::default() };
    // In a batch the tables are keys.
    if let Some(table) = body["RequestItems"].as_object().and_then(|tables| tables.keys().next()) {
        return Subject { resource: table.clone(), item: String::new() };
    }
    let part = body["TransactItems"][0].as_object().and_then(|part| part.values().next()).unwrap_or(&body);
    let resource = ["TableName", "QueueUrl", "TopicArn"].into_iter().find_map(|name| part[name].as_str());
    let item = ["Item", "Key"].into_iter().find_map(|of| part[of]["PK"]["S"].as_str());
    Subject { resource: resource.unwrap_or_default().to_owned(), item: item.unwrap_or_default().to_owned() }
}

fn s3(request: &Request<Body>) -> String {
    let query = request.uri().query().unwrap_or_default();
    let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    let named = [("tagging", "BucketTagging"), ("versions", "ObjectVersions"), ("delete", "Objects")];
    let thing = named.into_iter().find(|(name, _)| has(name));
    match (request.method(), thing) {
        (&Method::GET, Some(("versions", _))) => "ListObjectVersions".to_owned(),
        (&Method::POST, Some(("delete", _))) => "DeleteObjects".to_owned(),
        (&Method::GET | &Method::HEAD, found) => format!("Get{}", found.map_or("Object", |(_, thing)| thing)),
        (&Method::PUT, found) => format!("Put{}", found.map_or("Object", |(_, thing)| thing)),
        (&Method::DELETE, found) => format!("Delete{}", found.map_or("Object", |(_, thing)| thing)),
        (method, _) => format!("{method}Object"),
    }
}

/// Resource (with its subresource) and verb of a request to an API server.
pub(super) fn kubernetes(request: &Request<Body>) -> (String, String) {
    let path = request.uri().path().trim_matches('/');
    let mut parts: Vec<&str> = path.split('/').collect();
    // /api/v1/… or /apis/GROUP/VERSION/…
    let prefix = match parts.first() {
        Some(&"api") => 2,
        Some(&"apis") => 3,
        _ => return (path.to_owned(), verb(request, true)),
    };
    if parts.len() <= prefix {
        return (path.to_owned(), verb(request, true));
    }
    parts.drain(..prefix);
    if parts.first() == Some(&"namespaces") && parts.len() > 2 {
        parts.drain(..2);
    }
    let resource = parts.first().copied().unwrap_or_default();
    let service = parts.get(2).map_or_else(|| resource.to_owned(), |sub| format!("{resource}/{sub}"));
    (service, verb(request, parts.len() > 1))
}

fn verb(request: &Request<Body>, named: bool) -> String {
    let query = request.uri().query().unwrap_or_default();
    let watches = query.split('&').any(|pair| pair == "watch=true" || pair == "watch=1");
    let verb = match *request.method() {
        Method::GET if watches => "watch",
        Method::GET | Method::HEAD if named => "get",
        Method::GET | Method::HEAD => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        ref other => other.as_str(),
    };
    verb.to_owned()
}

/// Whether an operation reads or writes, by its name. An unknown operation counts as a write.
pub(super) fn effect(of: Upstream, operation: &str) -> Effect {
    let reads = match of {
        Upstream::Aws => {
            ["Describe", "Detect", "Get", "List", "Head", "AssumeRole"].iter().any(|begin| operation.starts_with(begin))
        }
        Upstream::Kubernetes => ["get", "list", "watch"].contains(&operation),
    };
    if reads { Effect::Reads } else { Effect::Writes }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Request<Body> {
        let mut builder = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(Body::empty()).expect("a request")
    }

    fn signed(service: &str) -> String {
        format!("AWS4-HMAC-SHA256 Credential=test/20260101/ap-northeast-2/{service}/aws4_request, SignedHeaders=host")
    }

    #[test]
    fn aws_calls_are_named_by_header_form_or_query() {
        let name = |request: &Request<Body>, body: &'static str| {
            let (service, operation) = aws(request, &Bytes::from_static(body.as_bytes()));
            let effect = effect(Upstream::Aws, &operation);
            (service, operation, effect)
        };
        let named = |service: &str, operation: &str, effect| (service.to_owned(), operation.to_owned(), effect);
        let headers = [("authorization", &*signed("dynamodb")), ("x-amz-target", "DynamoDB_20120810.DescribeTable")];
        let table = request("POST", "/", &headers);
        assert_eq!(name(&table, "{}"), named("dynamodb", "DescribeTable", Effect::Reads));
        let stack = request("POST", "/", &[("authorization", &*signed("cloudformation"))]);
        let form = "Action=ExecuteChangeSet&Version=2010-05-15";
        assert_eq!(name(&stack, form), named("cloudformation", "ExecuteChangeSet", Effect::Writes));
        let bucket = request("PUT", "/bucket?tagging", &[("authorization", &*signed("s3"))]);
        assert_eq!(name(&bucket, "x"), named("s3", "PutBucketTagging", Effect::Writes));
        let objects = request("POST", "/bucket?delete", &[("authorization", &*signed("s3"))]);
        assert_eq!(name(&objects, "x"), named("s3", "DeleteObjects", Effect::Writes));
    }

    #[test]
    fn kubernetes_calls_are_named_by_path_and_method() {
        let name = |method: &str, uri: &str| {
            let (service, operation) = kubernetes(&request(method, uri, &[]));
            format!("{operation} {service}")
        };
        let systems = "/apis/dispatch.coactus.io/v1alpha1/namespaces/city/dispatchsystems";
        for (method, uri, wanted) in [
            ("GET", "/api/v1/namespaces/city/secrets/fcm".to_owned(), "get secrets"),
            ("GET", "/apis/apps/v1/deployments?watch=true&x=1".to_owned(), "watch deployments"),
            ("GET", format!("{systems}?limit=1"), "list dispatchsystems"),
            ("PATCH", format!("{systems}/seoul/status?force=true"), "patch dispatchsystems/status"),
            ("POST", "/apis/events.k8s.io/v1/namespaces/city/events".to_owned(), "create events"),
            ("GET", "/apis/policy/v1".to_owned(), "get apis/policy/v1"),
            ("GET", "/api/v1/namespaces/city".to_owned(), "get namespaces"),
        ] {
            assert_eq!(name(method, &uri), wanted);
        }
    }
}
