#!/usr/bin/env bash
# Prints the folder that contains the control plane of Kubernetes for the tests: etcd, kube-apiserver and
# kube-controller-manager. Where there is none, prints the reason and fails.
#
#   envtest.sh [VERSION]     the newest supported version if none is named
#   envtest.sh --kit         instead: the program that makes a cluster with nodes, if it is beside the archives
#
# The first of these is used: the folder in KUBEBUILDER_ASSETS, whatever its version; an archive
# kubernetes-VERSION.tar.xz in the folder DISPATCH_KUBERNETES_ARCHIVES, or else in a sibling folder of the checkout; a
# download. Archives and downloads are unpacked into .local/envtest/VERSION.
#
# The download of envtest has no kube-controller-manager, which therefore comes from Kubernetes. Where that fails, the
# folder lacks it, and scripts/test.sh lists the tests that need it as skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/env.sh
archives=${DISPATCH_KUBERNETES_ARCHIVES:-../shared/cluster}
if [ "${1:-}" = --kit ]; then
    if [ -x "$archives/cluster" ] && [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ]; then
        printf '%s/cluster\n' "$(cd "$archives" && pwd)"
        exit
    fi
    printf '%s\n' "$archives has no program that makes clusters"
    exit 1
fi
version=${1:-$kubernetes_newest}
folder=.local/envtest/$version
releases=https://raw.githubusercontent.com/kubernetes-sigs/controller-tools/HEAD/envtest-releases.yaml

fail() { printf '%s\n' "$1"; exit 1; }
has_servers() { [ -x "$1/kube-apiserver" ] && [ -x "$1/etcd" ]; }
# The tests run in other working directories, so the path is absolute.
found() { (cd "$1" && pwd); exit; }
# minor VERSION: its minor version, 37 for 1.37.2.
minor() { local rest=${1#*.}; printf '%s\n' "${rest%%.*}"; }
# fetch FROM TO: gives up after a few seconds without a connection or with hardly any data.
fetch() { curl -fsSL --connect-timeout 3 --speed-time 5 --speed-limit 50000 --max-time 180 -o "$2" "$1" 2>/dev/null; }
# sum OF FILE PROGRAM: whether the checksum of FILE, made by PROGRAM, is OF.
sum() { printf '%s  %s\n' "$1" "$2" | "$3" --check --status 2>/dev/null; }

command -v kubectl >/dev/null || fail "kubectl is not on PATH"
command -v openssl >/dev/null || fail "openssl is not on PATH"
if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
    has_servers "$KUBEBUILDER_ASSETS" ||
        fail "KUBEBUILDER_ASSETS names a folder without kube-apiserver and etcd: $KUBEBUILDER_ASSETS"
    serves=$("$KUBEBUILDER_ASSETS/kube-apiserver" --version)
    serves=${serves##*v}
    [ "$(minor "$serves")" -ge "$(minor "$kubernetes_oldest")" ] ||
        fail "KUBEBUILDER_ASSETS has Kubernetes $serves; the oldest supported version is $kubernetes_oldest"
    found "$KUBEBUILDER_ASSETS"
fi
if has_servers "$folder"; then found "$folder"; fi

mkdir -p .local/envtest
# In the same file system as the target, so that the folder appears complete or not at all.
work=$(mktemp -d .local/envtest/.unpacking.XXXXXX)
trap 'rm -rf "$work"' EXIT
# install FROM: makes a folder of programs the result, unless another run has been faster.
install() {
    has_servers "$1" || fail "the archive of Kubernetes $version has no kube-apiserver or no etcd"
    # Fails where the target exists and is not empty, which only a run at the same time can have made.
    mv -T "$1" "$folder" 2>/dev/null || has_servers "$folder" || fail "cannot write $folder"
    found "$folder"
}

platform=$(uname -s)-$(uname -m)
# The programs of an archive are for this platform.
if [ "$platform" = Linux-x86_64 ] && [ -f "$archives/kubernetes-$version.tar.xz" ]; then
    tar -xJf "$archives/kubernetes-$version.tar.xz" -C "$work"
    install "$work/bin"
fi

case "$platform" in
Linux-x86_64) platform=amd64 ;;
Linux-aarch64) platform=arm64 ;;
*) fail "KUBEBUILDER_ASSETS is not set, and there is no download for $platform" ;;
esac
# Envtest publishes some patch releases of each minor version: the newest of them is taken.
fetch "$releases" "$work/releases" ||
    fail "KUBEBUILDER_ASSETS is not set, and the list of envtest releases cannot be downloaded"
read -r published sum512 from < <(python3 - "$work/releases" "${version%.*}" "$platform" <<'PYTHON' || true
import re, sys
listed, minor, platform = sys.argv[1:]
found = {}
name = None
for line in open(listed, encoding="utf-8"):
    text = line.strip()
    if archive := re.fullmatch(rf"envtest-v({re.escape(minor)}\.(\d+))-linux-{platform}\.tar\.gz:", text):
        name = (int(archive[2]), archive[1])
    elif text.endswith(":"):
        name = None
    elif name and (value := re.fullmatch(r"(hash|selfLink): (\S+)", text)):
        found.setdefault(name, {})[value[1]] = value[2]
whole = [name for name, values in found.items() if len(values) == 2]
if whole:
    newest = max(whole)
    print(newest[1], found[newest]["hash"], found[newest]["selfLink"])
PYTHON
) || true
[ -n "${from:-}" ] || fail "KUBEBUILDER_ASSETS is not set, and envtest has no release of Kubernetes ${version%.*}"
fetch "$from" "$work/archive" || fail "KUBEBUILDER_ASSETS is not set, and the download of envtest $published failed"
sum "$sum512" "$work/archive" sha512sum ||
    fail "KUBEBUILDER_ASSETS is not set, and the download of envtest $published has a wrong checksum"
tar -xzf "$work/archive" -C "$work"
mkdir "$work/bin"
find "$work" -path "$work/bin" -prune -o -type f \( -name kube-apiserver -o -name etcd \) -exec mv {} "$work/bin/" \;

manager=https://dl.k8s.io/release/v$published/bin/linux/$platform/kube-controller-manager
if fetch "$manager" "$work/manager" && fetch "$manager.sha256" "$work/manager.sha256" &&
    sum "$(cat "$work/manager.sha256")" "$work/manager" sha256sum; then
    chmod +x "$work/manager"
    mv "$work/manager" "$work/bin/kube-controller-manager"
fi
install "$work/bin"
