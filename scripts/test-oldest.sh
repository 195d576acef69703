#!/usr/bin/env bash
# The suites on an API server, on the oldest supported version of Kubernetes. `make test` runs them on the newest.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/env.sh
source scripts/suites.sh

find_servers "$kubernetes_oldest"
if [ -n "$without_server" ]; then
    echo "these suites need an API server: $without_server" >&2
    exit 1
fi
cargo nextest run --locked --workspace --all-features \
    -E "($on_a_server) ${without_controllers:+and not ($on_controllers)}"
report_skipped "$without_controllers" "$on_controllers"
