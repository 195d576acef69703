#!/usr/bin/env bash
# Mutation tests: changes one operator, condition or result at a time, and expects that a test of the same package fails.
# docs/testing.md has the results and the reasons for the mutants that no test catches.
#
#   mutants.sh core [K/N]     dispatch-core; about an hour and a half on one quiet core
#   mutants.sh store [K/N]    the pure parts of the store; about a minute for each mutant
#
# K/N tests one of N shards, counted from 0, of every N-th mutant: a sample. Prints the mutants that were missed, and
# fails if fewer than 95 % of the viable ones were caught.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/env.sh
package=${1:-core}
# Shards may run side by side, each with its own MUTANTS_TARGET_DIR.
results=.local/mutants/$package${2:+-${2/\//-of-}}
mkdir -p "$results"

# Every mutant is a copy of the sources with a build of its own. One folder for the builds keeps the dependencies.
export CARGO_TARGET_DIR="${MUTANTS_TARGET_DIR:-$PWD/.local/mutants/target}"
# Each build is linked once and run once: without debug information, and in one process for all tests.
export CARGO_PROFILE_DEV_DEBUG=false CARGO_PROFILE_TEST_DEBUG=false
# Fewer cases of each property take a fifth of the time. A mutant that only a rare case would notice needs a test of its
# own.
export PROPTEST_CASES=64
options=(--cap-lints=true --no-shuffle --test-tool cargo --timeout 120 --build-timeout 600 --output "$results")
if [ -n "${2:-}" ]; then options+=(--shard "$2" --sharding round-robin); fi

case "$package" in
core)
    # Without the feature `mutants`, which disables guards by name: the model checker proves those (tests/model).
    options+=(--package dispatch-core --features 'serde,openapi' --exclude-re 'mutants::')
    tests=(--lib)
    ;;
store)
    options+=(--package dispatch-runtime --features testing)
    for file in change convert expression keys plan repair streams_image; do
        options+=(--file "runtime/src/adapters/store/$file.rs")
    done
    tests=(--lib)
    ;;
*)
    echo "usage: mutants.sh core|store [K/N]" >&2
    exit 2
    ;;
esac

# 2: mutants were missed, 3: some timed out, which counts as caught. Judged below.
status=0
cargo mutants "${options[@]}" -- "${tests[@]}" || status=$?
case "$status" in 0 | 2 | 3) ;; *) exit "$status" ;; esac

python3 - "$results/mutants.out/outcomes.json" <<'PYTHON'
import json, sys

outcomes = json.load(open(sys.argv[1], encoding="utf-8"))["outcomes"]
named = [(one["summary"], one["scenario"]["Mutant"]["name"]) for one in outcomes if one["scenario"] != "Baseline"]
missed = [name for summary, name in named if summary == "MissedMutant"]
caught = sum(summary in ("CaughtMutant", "Timeout") for summary, _ in named)
viable = caught + len(missed)
share = 100 * caught / viable if viable else 100
print(f"{viable} viable mutants, {caught} caught ({share:.1f} %), {len(missed)} missed")
for name in missed:
    print(f"  missed: {name}")
sys.exit(share < 95)
PYTHON
