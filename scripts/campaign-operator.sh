#!/usr/bin/env bash
# Kills the operator before and after every call it makes, and runs 500 systems. `make test` takes every fourth point of
# the kills, after a call only if the call writes, and 150 systems.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/env.sh
if ! found=$(scripts/envtest.sh "$kubernetes_newest"); then
    echo "this campaign needs an API server: $found" >&2
    exit 1
fi
export KUBEBUILDER_ASSETS="$found" DISPATCH_CAMPAIGN=full DISPATCH_SYSTEMS=500
cargo nextest run --locked --workspace --all-features --profile campaign --no-capture \
    -E 'binary(kubernetes) and (test(killed_at_any_call) or test(many_systems))'
