"""What AWS says about permissions, as the template linter carries it: for each resource type given, the permissions that
CloudFormation's handlers use; for each service, its actions and whether they can be limited to resources."""

import json
import pathlib
import sys

import cfnlint
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER

REGION = "ap-northeast-2"

types = {}
for name in sys.argv[1:]:
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, name).schema
    found = set(schema.get("tagging", {}).get("permissions", []))
    for handler, says in schema.get("handlers", {}).items():
        if handler != "list":
            found.update(says.get("permissions", []))
    types[name] = sorted(found)

file = pathlib.Path(cfnlint.__file__).parent / "data" / "AdditionalSpecs" / "Policies.json"
services = {}
for service, says in json.loads(file.read_text()).items():
    services[service] = {action: bool(facts and facts.get("Resources")) for action, facts in says["Actions"].items()}

json.dump({"types": types, "services": services}, sys.stdout)
