#!/usr/bin/env bash
# Renders the template of every example and lints it: no error and no warning passes.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
for example in examples/*.yaml; do
    name=$(basename "$example" .yaml)
    "${CARGO_TARGET_DIR:-target}/debug/dispatch-operator" template -f "$example" -o json >"$out/$name.json"
done
.venv/bin/cfn-lint --non-zero-exit-code warning "$out"/*.json
echo "cfn-lint: $(ls "$out" | wc -l) templates, no error, no warning"
