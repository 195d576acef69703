#!/usr/bin/env bash
# The gates beside the tests. Each prints its name first, so that a log says which one failed.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.local/tools/bin:$PATH"

echo "== rustfmt";  cargo fmt --all --check
echo "== clippy";   cargo clippy --locked --workspace --all-targets --all-features --quiet -- -D warnings
# Each program alone, so that a feature another member switches on cannot hide a missing one here.
echo "== worker without the resource types"; cargo clippy --locked -p dispatch-runtime --quiet -- -D warnings
echo "== rustdoc";  RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --locked --workspace --no-deps --document-private-items --quiet
echo "== shell";    for script in scripts/*.sh .ci/run; do bash -n "$script"; done
echo "== cargo deny"; cargo deny check bans licenses sources
