#!/usr/bin/env bash
# Kills the operator before and after every call it makes. `make test` kills it after a call only if the call writes.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/env.sh
if ! found=$(scripts/envtest.sh); then
    echo "this campaign needs an API server: $found" >&2
    exit 1
fi
export KUBEBUILDER_ASSETS="$found" DISPATCH_CAMPAIGN=full
cargo nextest run --locked -p dispatch-tests --all-features --no-capture -E 'test(killed_at_any_call)'
