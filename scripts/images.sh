#!/usr/bin/env bash
# Builds both programs as releases, and writes their images to target/images: operator.tar and runtime.tar, in the layout
# of `docker save`, which containerd, kind and Docker load. Needs no container engine. Releases are built from the
# Containerfile, which has a base image for another C library.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
cargo build --locked --release -p dispatch-operator -p dispatch-runtime
mkdir -p target/images
for program in operator runtime; do
    python3 scripts/image.py "target/images/$program.tar" "registry.example.com/coactus/dispatch-$program:$version" \
        "target/release/dispatch-$program"
done
