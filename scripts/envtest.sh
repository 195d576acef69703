#!/usr/bin/env bash
# Prints the folder that contains the kube-apiserver and the etcd for the tests. Where there is none, prints the reason
# and fails.
#
# The first of these is used: the folder in KUBEBUILDER_ASSETS, a sibling folder of the checkout, a download into
# .local/envtest.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/env.sh
# This release stores the validation rules of the resource definition but does not enforce them, so the suites show that
# the operator enforces them.
version=1.24.2
sibling=../shared/envtest/bin
download=.local/envtest

fail() { printf '%s\n' "$1"; exit 1; }
has_servers() { [ -x "$1/kube-apiserver" ] && [ -x "$1/etcd" ]; }
# The tests run in other working directories, so the path is absolute.
found() { (cd "$1" && pwd); exit; }

command -v kubectl >/dev/null || fail "kubectl is not on PATH"
command -v openssl >/dev/null || fail "openssl is not on PATH"
if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
    if has_servers "$KUBEBUILDER_ASSETS"; then found "$KUBEBUILDER_ASSETS"; fi
    fail "KUBEBUILDER_ASSETS names a folder without kube-apiserver and etcd: $KUBEBUILDER_ASSETS"
fi
if has_servers "$sibling"; then found "$sibling"; fi
if has_servers "$download"; then found "$download"; fi

case "$(uname -s)-$(uname -m)" in
Linux-x86_64)
    platform=linux-amd64
    sum=2b330c1802f7fd858a8a6e97141b07a4260eec135712c8913d36bb8e48f8dbfa
    sum+=45a8e5b13c15e7c20127a55d75bfda5007bf018e853cf156e3ac2b019d492892
    ;;
Linux-aarch64)
    platform=linux-arm64
    sum=5cda1ba1f734a067e8b823130fca9c6bec151106aa1d32856ef7524afdfdd733
    sum+=e6c5c87b1b8d41c293083fd64ac668db8b74dca26554e0c99e0120e6f99f9e21
    ;;
*) fail "KUBEBUILDER_ASSETS is not set, and there is no download for $(uname -s) on $(uname -m)" ;;
esac
archive=envtest-v$version-$platform.tar.gz
from=https://github.com/kubernetes-sigs/controller-tools/releases/download/envtest-v$version/$archive
# In the same file system as the target, so that each program appears complete or not at all.
mkdir -p .local
work=$(mktemp -d .local/envtest.XXXXXX)
trap 'rm -rf "$work"' EXIT
# Gives up after a few seconds without a connection or with hardly any data.
if ! curl -fsSL --connect-timeout 3 --speed-time 5 --speed-limit 50000 --max-time 180 \
    -o "$work/$archive" "$from" 2>/dev/null; then
    fail "KUBEBUILDER_ASSETS is not set, and the download of envtest $version failed"
fi
if ! printf '%s  %s\n' "$sum" "$work/$archive" | sha512sum --check --status; then
    fail "KUBEBUILDER_ASSETS is not set, and the download of envtest $version has a wrong checksum"
fi
tar -xzf "$work/$archive" -C "$work"
mkdir -p "$download"
find "$work" -type f \( -name kube-apiserver -o -name etcd \) -exec mv {} "$download/" \;
if ! has_servers "$download"; then fail "envtest $version contains no kube-apiserver or no etcd"; fi
found "$download"
