#!/usr/bin/env bash
# At length what `make test` does for seconds. By cargo's own runner, which ends nothing that takes long.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.local/tools/bin:$PATH"
export DISPATCH_MINISTACK="${DISPATCH_MINISTACK:-$PWD/.venv/bin/ministack}"
export RACES="${RACES:-100000}" RACES_SEED="${RACES_SEED:-$RANDOM}"
export MODEL_WORKERS="${MODEL_WORKERS:-3}" MODEL_MINUTES="${MODEL_MINUTES:-10}"
echo "commit $(git rev-parse --short HEAD), seed $RACES_SEED"

cargo test --locked -p dispatch-core --features mutants --test model -- --nocapture
cargo test --locked -p dispatch-tests --all-features --test adapters races:: -- --nocapture --test-threads 1
