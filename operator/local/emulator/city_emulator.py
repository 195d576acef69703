"""ministack, the AWS emulator of local runs and tests, reduced to what a city needs.

    SERVICES=... GATEWAY_PORT=4566 hypercorn city_emulator.py:app --workers 0 --bind 127.0.0.1:4566

ministack listens on this machine, answers the requests of any web page that a browser here has open (its CORS headers
allow every origin), and can run code. `SERVICES` alone does not prevent that: CloudFormation creates Lambda functions
without the Lambda API, and a custom resource invokes them. So this module

- answers only requests that name this machine as their host: no page gets in under a host name of its own (DNS
  rebinding);
- answers only requests with the `Authorization` header of AWS, for a service in `SERVICES`: a page cannot send that
  header without a preflight, and no preflight is answered. Signatures are not verified;
- creates only the types of resources that a city's template contains.

A ministack without the parts that are used here does not start.
"""

import os
import re
import resource

from ministack import app as ministack

SERVICES = frozenset(os.environ["SERVICES"].split(","))
# CITY_EMULATOR_HOST is one more address of this machine, for the Pods of a test cluster.
HOSTS = (b"127.0.0.1", b"localhost", os.environ.get("CITY_EMULATOR_HOST", "localhost").encode())

HEALTH = "/_ministack/health"
REFUSAL = b"This emulator serves only signed AWS requests, for the services of a city.\n"

# The service that a request is signed for: Credential=<key>/<date>/<region>/<service>/aws4_request.
SIGNED_FOR = re.compile(rb"AWS4-HMAC-SHA256 Credential=[^/]+/[^/]+/[^/]+/([a-z0-9-]+)/aws4_request\b")

# What `dispatch-operator template` renders. A test compares it with the examples.
RESOURCE_TYPES = frozenset(
    [
        "AWS::ApiGatewayV2::Api",
        "AWS::ApiGatewayV2::Authorizer",
        "AWS::ApiGatewayV2::Integration",
        "AWS::ApiGatewayV2::Route",
        "AWS::ApiGatewayV2::Stage",
        "AWS::ApiGatewayV2::VpcLink",
        "AWS::ApplicationAutoScaling::ScalableTarget",
        "AWS::ApplicationAutoScaling::ScalingPolicy",
        "AWS::Athena::WorkGroup",
        "AWS::CloudFormation::WaitConditionHandle",
        "AWS::CloudWatch::Alarm",
        "AWS::DynamoDB::Table",
        "AWS::EKS::PodIdentityAssociation",
        "AWS::ElastiCache::ParameterGroup",
        "AWS::ElastiCache::ReplicationGroup",
        "AWS::ElastiCache::SubnetGroup",
        "AWS::Glue::Database",
        "AWS::Glue::Table",
        "AWS::IAM::ManagedPolicy",
        "AWS::IAM::Role",
        "AWS::Logs::LogGroup",
        "AWS::Logs::MetricFilter",  # of release 0.1.0
        "AWS::S3::Bucket",
        "AWS::S3::BucketPolicy",
        "AWS::SNS::Subscription",
        "AWS::SNS::Topic",
        "AWS::SNS::TopicPolicy",
        "AWS::SQS::Queue",
        "AWS::SQS::QueuePolicy",
    ]
)


def restrict_cloudformation():
    """Removes the handlers of all other resource types, when CloudFormation is first used: importing it is slow."""
    cloudformation = ministack.SERVICE_HANDLERS["cloudformation"]

    async def restricted(*request):
        from ministack.services.cloudformation import provisioners

        def refuse(_logical_id, _properties, _stack_name, resource_type):
            raise ValueError(f"Unsupported resource type: {resource_type}")

        metric_alarm = provisioners._cw_metric_alarm_record

        def alarm(name, properties):
            # ministack evaluates no alarm and refuses one over several metrics: it stores the first of them.
            metrics = [metric["MetricStat"] for metric in properties.get("Metrics", []) if "MetricStat" in metric]
            if metrics:
                first = {**metrics[0]["Metric"], "Period": metrics[0]["Period"], "Statistic": metrics[0]["Stat"]}
                properties = {**properties, **first, "Metrics": []}
            return metric_alarm(name, properties)

        provisioners._cw_metric_alarm_record = alarm
        for resource_type in provisioners._RESOURCE_HANDLERS.keys() - RESOURCE_TYPES:
            del provisioners._RESOURCE_HANDLERS[resource_type]
        provisioners._custom_resource_create = refuse
        ministack.SERVICE_HANDLERS["cloudformation"] = cloudformation
        return await cloudformation(*request)

    ministack.SERVICE_HANDLERS["cloudformation"] = restricted


def is_allowed(scope):
    """Whether a request comes from a program on this machine, for a service of the city."""
    headers = dict(scope["headers"])
    if headers.get(b"host", b"").partition(b":")[0] not in HOSTS:
        return False
    if scope["path"] == HEALTH:
        return True
    signed_for = SIGNED_FOR.match(headers.get(b"authorization", b""))
    return signed_for is not None and signed_for[1].decode() in SERVICES


async def app(scope, receive, send):
    if scope["type"] == "lifespan" or (scope["type"] == "http" and is_allowed(scope)):
        await ministack.app(scope, receive, send)
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": REFUSAL})
    else:
        await send({"type": "websocket.close", "code": 1008})


if "cloudformation" in SERVICES:
    restrict_cloudformation()

# As ministack's own server does: bursts of connections need more than the usual 1024 files.
hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
