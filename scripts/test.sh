#!/usr/bin/env bash
# Everything a fresh machine can test. Suites that need a real kube-apiserver are run where KUBEBUILDER_ASSETS names one, and
# are reported as skipped, by name, where it does not.
set -euo pipefail
cd "$(dirname "$0")/.."
# Last, so that what the machine has goes first.
export PATH="$PWD/.local/tools/bin:$PATH:$PWD/.local/kubernetes"
export DISPATCH_MINISTACK="${DISPATCH_MINISTACK:-$PWD/.venv/bin/ministack}"
export DISPATCH_MOTO_SERVER="${DISPATCH_MOTO_SERVER:-$PWD/.venv/bin/moto_server}"
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}

cargo nextest run --locked --workspace --all-features --profile "${NEXTEST_PROFILE:-default}"
cargo test --locked --quiet --workspace --doc

echo "cfn-lint over the rendered examples"
scripts/cfn-lint.sh
