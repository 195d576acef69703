#!/usr/bin/env bash
# Everything a fresh machine can test. Suites that need a real kube-apiserver and kubectl are run where KUBEBUILDER_ASSETS names one or
# one can be downloaded, and are reported as skipped, by name, where not.
set -euo pipefail
cd "$(dirname "$0")/.."
# Last, so that what the machine has goes first.
export PATH="$PWD/.local/tools/bin:$PATH:$PWD/.local/kubernetes"
export DISPATCH_MINISTACK="${DISPATCH_MINISTACK:-$PWD/.venv/bin/ministack}"
export DISPATCH_MOTO_SERVER="${DISPATCH_MOTO_SERVER:-$PWD/.venv/bin/moto_server}"
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}

# Test programs every test of which starts an API server.
on_a_server='binary(kubernetes)'
run=(cargo nextest run --locked --workspace --all-features --profile "${NEXTEST_PROFILE:-default}")

if why=$(scripts/envtest.sh); then
    # What was downloaded is where the script keeps it.
    export KUBEBUILDER_ASSETS="${KUBEBUILDER_ASSETS:-$PWD/.local/envtest}"
    why=
    "${run[@]}"
else
    unset KUBEBUILDER_ASSETS
    "${run[@]}" -E "not ($on_a_server)"
fi
cargo test --locked --quiet --workspace --doc

echo "the benchmarks in small, for correctness"
make --no-print-directory bench-quick

echo "cfn-lint over the rendered examples"
scripts/cfn-lint.sh

if [ -n "$why" ]; then
    printf '\nskipped, not passed: %s\n' "$why"
    cargo nextest list --locked --workspace --all-features -E "$on_a_server" --message-format oneline 2>/dev/null | sed 's/^/  skipped /'
fi
