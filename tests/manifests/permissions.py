"""Prints AWS's published permissions from the data of the template linter.

For each given resource type: the permissions of CloudFormation's handlers. For each service: its actions, and whether they
can be limited to resources.
"""

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
    for handler, details in schema.get("handlers", {}).items():
        if handler != "list":
            found.update(details.get("permissions", []))
    types[name] = sorted(found)

file = pathlib.Path(cfnlint.__file__).parent / "data" / "AdditionalSpecs" / "Policies.json"
services = {}
for service, details in json.loads(file.read_text()).items():
    services[service] = {action: bool(facts and facts.get("Resources")) for action, facts in details["Actions"].items()}

json.dump({"types": types, "services": services}, sys.stdout)
