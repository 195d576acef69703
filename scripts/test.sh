#!/usr/bin/env bash
# Every test this machine can run. The suites that need an API server are listed by name as skipped where there is none,
# or where DISPATCH_SKIP_ENVTEST=1 asks for it.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/env.sh
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}

# The tests that start an API server. A test that is missing here fails where there is no server; it does not pass.
on_a_server='binary(kubernetes) or (binary_id(dispatch-tests::operator) and test(/^(connection|controller)::/))'
run=(cargo nextest run --locked --workspace --all-features --profile "${NEXTEST_PROFILE:-default}")

skipped=
if [ "${DISPATCH_SKIP_ENVTEST:-}" = 1 ]; then
    skipped="DISPATCH_SKIP_ENVTEST=1 is set"
elif found=$(scripts/envtest.sh); then
    export KUBEBUILDER_ASSETS="$found"
else
    skipped=$found
fi

if [ -z "$skipped" ]; then
    "${run[@]}"
else
    "${run[@]}" -E "not ($on_a_server)"
fi
cargo test --locked --quiet --workspace --doc

echo "the benchmarks at a small size, for correctness"
make --no-print-directory bench-quick

echo "cfn-lint of the rendered examples"
scripts/cfn-lint.sh

if [ -n "$skipped" ]; then
    printf '\nskipped: %s\n' "$skipped"
    cargo nextest list --locked --workspace --all-features -E "$on_a_server" --message-format oneline 2>/dev/null |
        sed 's/^/  skipped /'
fi
