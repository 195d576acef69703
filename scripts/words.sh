#!/usr/bin/env bash
# Words that are out of use (tests/architecture/banned.txt), counted by folder; with paths also each place below them.
#   scripts/words.sh
#   scripts/words.sh operator/src/kubernetes docs README.md
set -euo pipefail
cargo run --quiet --locked --manifest-path "$(dirname "$0")/../Cargo.toml" -p dispatch-architecture -- words "$@"
