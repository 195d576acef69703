#!/usr/bin/env bash
# Writes the images of both programs: operator.tar and runtime.tar, in the layout of `docker save`, which containerd, kind
# and Docker load. Needs no container engine. Releases are built from the Containerfile, which has a base image for another
# C library.
#
#   images.sh                   builds releases; the images go to target/images
#   images.sh PROGRAMS FOLDER   of the programs in the folder PROGRAMS, into FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."
programs=${1:-target/release} folder=${2:-target/images}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
if [ $# -eq 0 ]; then cargo build --locked --release -p dispatch-operator -p dispatch-runtime; fi
mkdir -p "$folder"
for program in operator runtime; do
    python3 scripts/image.py "$folder/$program.tar" "registry.example.com/coactus/dispatch-$program:$version" \
        "$programs/dispatch-$program"
done
