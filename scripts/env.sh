# shellcheck shell=bash
# Sourced by the other scripts: versions of the tools that are built from source, where they are kept, PATH, versions of
# Kubernetes, and the emulators that the tests start.

repository="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

# scripts/tools.sh builds these. A new version is built beside the old one.
# shellcheck disable=SC2034
nextest_version=0.9.143 deny_version=0.20.2 mutants_version=27.1.0 cyclonedx_version=0.5.9

# All clones of a user share the cache folder. `local_tools` replaces it where it is not writable. A value that is not
# an absolute path is ignored, as the XDG base directory specification demands.
cache="${XDG_CACHE_HOME:-${HOME:-}/.cache}"
case "$cache" in
/.cache | [!/]*) cached_tools="" ;;
*) cached_tools="$cache/coactus-dispatch/tools" ;;
esac
local_tools="$repository/.local/tools"

# The pinned versions come before those of the machine. kubectl and helm of the machine come before the unpacked ones.
pinned=""
for tool in "cargo-nextest-$nextest_version" "cargo-deny-$deny_version" "cargo-mutants-$mutants_version" \
    "cargo-cyclonedx-$cyclonedx_version"; do
    pinned+="${cached_tools:+$cached_tools/$tool/bin:}$local_tools/$tool/bin:"
done
# Scripts start one another, and each sources this file.
case "$PATH" in
"$pinned"*) ;;
*) PATH="$pinned$PATH:$repository/.local/kubernetes" ;;
esac
export PATH
unset cache pinned tool

# The newest and the oldest supported Kubernetes. `make test` takes the newest, `make nightly` both.
# shellcheck disable=SC2034
kubernetes_newest=1.37.2 kubernetes_oldest=1.34.4

export DISPATCH_MINISTACK="${DISPATCH_MINISTACK:-$repository/.venv/bin/ministack}"
export DISPATCH_MOTO_SERVER="${DISPATCH_MOTO_SERVER:-$repository/.venv/bin/moto_server}"
