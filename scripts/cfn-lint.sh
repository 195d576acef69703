#!/usr/bin/env bash
# Renders the CloudFormation template of every example and lints it. Errors and warnings fail.
set -euo pipefail
cd "$(dirname "$0")/.."
templates=$(mktemp -d)
trap 'rm -rf "$templates"' EXIT
count=0
for example in examples/*.yaml; do
    "${CARGO_TARGET_DIR:-target}/debug/dispatch-operator" template -f "$example" -o json \
        >"$templates/$(basename "$example" .yaml).json"
    count=$((count + 1))
done
.venv/bin/cfn-lint --non-zero-exit-code warning "$templates"/*.json
echo "cfn-lint: $count templates, no errors, no warnings"
