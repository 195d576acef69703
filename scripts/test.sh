#!/usr/bin/env bash
# Every test this machine can run. The suites that need an API server are listed by name as skipped where there is none,
# or where DISPATCH_SKIP_ENVTEST=1 asks for it; so are those that need a controller manager.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/env.sh
source scripts/suites.sh
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}
run=(cargo nextest run --locked --workspace --all-features --profile "${NEXTEST_PROFILE:-default}")

find_servers "$kubernetes_newest"

# The test that runs a service in JavaScript. It fails, too, where Node or its packages are missing.
on_node='binary_id(dispatch-tests::dispatch) and test(/^javascript::/)'
without_node=
if ! command -v node >/dev/null || [ ! -d tests/javascript/node_modules ]; then
    without_node="Node or the packages of tests/javascript are missing"
fi

# The test of the printed rules of a proxy.
on_nginx='binary_id(dispatch-tests::dispatch) and test(/^proxy::/)'
without_nginx=
command -v nginx >/dev/null || without_nginx="nginx is missing (Debian: nginx-light)"

"${run[@]}" -E "all() ${without_server:+and not ($on_a_server)} ${without_controllers:+and not ($on_controllers)} \
    ${without_node:+and not ($on_node)} ${without_nginx:+and not ($on_nginx)}"
cargo test --locked --quiet --workspace --all-features --doc

echo "the benchmarks at a small size, for correctness"
make --no-print-directory bench-quick

echo "cfn-lint of the rendered examples"
scripts/cfn-lint.sh

# Last, because its nodes share the processors with everything else on this machine.
echo "a city on a cluster with nodes"
without_cluster=
cluster=0
scripts/test-cluster.sh || cluster=$?
case "$cluster" in
0) ;;
77) without_cluster="no cluster can be made here; its own message is above" ;;
*) exit "$cluster" ;;
esac

report_skipped "$without_server" "$on_a_server"
report_skipped "$without_controllers" "$on_controllers"
report_skipped "$without_node" "$on_node"
report_skipped "$without_nginx" "$on_nginx"
[ -z "$without_cluster" ] || printf 'skipped: test-cluster: %s\n' "$without_cluster"
