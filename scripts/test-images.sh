#!/usr/bin/env bash
# Tests the images of scripts/images.sh as a node runs them. Needs root, for namespaces; says so where it cannot run.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" -ne 0 ] || ! unshare --mount --net true 2>/dev/null; then
    echo "skipped: test-images: it needs root and namespaces"
    exit
fi
unshare --mount --net python3 scripts/test_images.py target/images
