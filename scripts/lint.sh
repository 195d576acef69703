#!/usr/bin/env bash
# The checks besides the tests. Each prints its name first, so that a log shows which one failed.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/env.sh

echo "== rustfmt"
cargo fmt --all --check
echo "== clippy"
cargo clippy --locked --workspace --all-targets --all-features --quiet -- -D warnings
# The program alone, because a feature that another member of the workspace enables can hide a missing one here.
echo "== clippy of the runtime without the resource types"
cargo clippy --locked -p dispatch-runtime --quiet -- -D warnings
echo "== rustdoc"
RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" \
    cargo doc --locked --workspace --no-deps --document-private-items --quiet
echo "== shellcheck"
.venv/bin/shellcheck --external-sources scripts/*.sh .ci/run
echo "== cargo deny: bans, licenses, sources"
cargo deny check bans licenses sources

echo "== cargo deny: advisories"
advisories=https://github.com/RustSec/advisory-db
if ! why=$(curl -fsSL --connect-timeout 3 --max-time 15 -o /dev/null \
    "$advisories/info/refs?service=git-upload-pack" 2>&1); then
    echo "skipped: advisories, because $advisories cannot be reached: $why"
elif ! why=$(cargo deny fetch db 2>&1); then
    echo "skipped: advisories, because $advisories cannot be downloaded: ${why%%$'\n'*}"
else
    cargo deny check advisories
fi
