#!/usr/bin/env bash
# Sees to it that there are a kube-apiserver and an etcd for tests: where KUBEBUILDER_ASSETS says, or downloaded once into
# .local/envtest. Where there are none, says why on stdout and fails.
set -euo pipefail
cd "$(dirname "$0")/.."
# A release that stores the rules of our definition without enforcing them: the suites see the operator enforce them.
version=1.24.2
here=.local/envtest

if ! command -v kubectl >/dev/null; then echo "kubectl is not on PATH"; exit 1; fi
if ! command -v openssl >/dev/null; then echo "openssl is not on PATH"; exit 1; fi
if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
    if [ -x "$KUBEBUILDER_ASSETS/kube-apiserver" ] && [ -x "$KUBEBUILDER_ASSETS/etcd" ]; then exit 0; fi
    echo "KUBEBUILDER_ASSETS names a folder without kube-apiserver and etcd"
    exit 1
fi
if [ -x "$here/kube-apiserver" ] && [ -x "$here/etcd" ]; then exit 0; fi

case "$(uname -s)-$(uname -m)" in
Linux-x86_64) platform=linux-amd64 sum=2b330c1802f7fd858a8a6e97141b07a4260eec135712c8913d36bb8e48f8dbfa45a8e5b13c15e7c20127a55d75bfda5007bf018e853cf156e3ac2b019d492892 ;;
Linux-aarch64) platform=linux-arm64 sum=5cda1ba1f734a067e8b823130fca9c6bec151106aa1d32856ef7524afdfdd733e6c5c87b1b8d41c293083fd64ac668db8b74dca26554e0c99e0120e6f99f9e21 ;;
*) echo "KUBEBUILDER_ASSETS is not set, and there is no download for $(uname -s) $(uname -m)"; exit 1 ;;
esac
archive=envtest-v$version-$platform.tar.gz
from=https://github.com/kubernetes-sigs/controller-tools/releases/download/envtest-v$version/$archive
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Gives up after a few seconds where there is no way out, and where hardly anything comes.
if ! curl -fsSL --connect-timeout 3 --speed-time 5 --speed-limit 50000 --max-time 180 -o "$work/$archive" "$from" 2>/dev/null; then
    echo "KUBEBUILDER_ASSETS is not set, and the download of envtest $version failed"
    exit 1
fi
if ! printf '%s  %s\n' "$sum" "$work/$archive" | sha512sum --check --status; then
    echo "KUBEBUILDER_ASSETS is not set, and the download of envtest $version is not what it should be"
    exit 1
fi
mkdir -p "$here"
tar -xzf "$work/$archive" -C "$work"
find "$work" -type f \( -name kube-apiserver -o -name etcd \) -exec mv {} "$here/" \;
