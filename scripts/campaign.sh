#!/usr/bin/env bash
# At length what `make test` does for seconds: about CAMPAIGN_MINUTES in all, on two cores, beside what the builds take. Each part runs to its
# end whatever became of the others; seed and commit of a failure repeat it. By cargo's own runner, which ends nothing that takes long.
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.local/tools/bin:$PATH"
export DISPATCH_MINISTACK="${DISPATCH_MINISTACK:-$PWD/.venv/bin/ministack}"
minutes="${CAMPAIGN_MINUTES:-20}" seed="${CAMPAIGN_SEED:-$RANDOM}"
# The model and the races have a share of the time that grows with it, the pool has what is left beside the parts that take as long as
# they take: all deaths some seven minutes, the degraded modes two, the overload one and what was taken meanwhile another.
model=$((minutes / 10 > 0 ? minutes / 10 : 1))
pool=$(((minutes - 13 - 2 * model) * 60))
export RACES="${RACES:-$((minutes * 600))}" RACES_SEED="${RACES_SEED:-$seed}"
export MODEL_WORKERS="${MODEL_WORKERS:-3}" MODEL_MINUTES="${MODEL_MINUTES:-$model}"
export DISPATCH_POOL_SECONDS="${DISPATCH_POOL_SECONDS:-$((pool > 60 ? pool : 60))}" DISPATCH_POOL_SEED="${DISPATCH_POOL_SEED:-$seed}"
export DISPATCH_OVERLOAD_SECONDS="${DISPATCH_OVERLOAD_SECONDS:-$((minutes * 6 > 60 ? minutes * 6 : 60))}"
export DISPATCH_KILLS="${DISPATCH_KILLS:-0}" DISPATCH_KILLS_SEED="${DISPATCH_KILLS_SEED:-$seed}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
mkdir "$work/counters" "$work/scans"
export DISPATCH_COUNTERS="$work/counters" DISPATCH_SCANS="$work/scans"
commit="$(git rev-parse --short HEAD)"
echo "commit $commit, seed $seed, about $minutes minutes"

cargo build --locked -p dispatch-operator -p dispatch-runtime -p dispatch-simulator || exit 1
failed=0

# Runs a part and keeps a line of the table: fault, runs, outcome.
part() {
    local name="$1" log="$work/log" begun=$SECONDS outcome=held
    shift
    printf '\n== %s\n' "$name"
    if ! "$@" 2>&1 | tee "$log"; then
        outcome="FAILED: commit $commit, seed $seed"
        failed=1
    fi
    local passed
    passed="$(sed -n 's/^test result: .* \([0-9]*\) passed.*/\1/p' "$log" | awk '{ sum += $1 } END { print sum + 0 }')"
    printf '%-46s %5s %6ss  %s\n' "$name" "$passed" $((SECONDS - begun)) "$outcome" >> "$work/table"
    # What a part has counted itself, below its line.
    grep -E '^killed at |  as undisturbed$|  not met in |^overload: |: [0-9]+ races in |requests, [0-9]+ kills|refusals of [0-9]+ kinds' "$log" | sed 's/^/    /' >> "$work/table" || true
}

dispatch=(cargo test --locked -p dispatch-tests --all-features --test dispatch)
part "model: any order, crash, loss, repetition" cargo test --locked -p dispatch-core --features mutants --test model -- --nocapture
part "races of accept, reject, time-out, cancel" cargo test --locked -p dispatch-tests --all-features --test adapters races:: -- --nocapture --test-threads 1
part "answers lost, calls that hang" cargo test --locked -p dispatch-tests --all-features --test adapters -- lost every_call
part "streams: repeated, reordered, split, trimmed" "${dispatch[@]}" -- once:: streams:: conformance::
part "killed at every call, before and after" "${dispatch[@]}" -- killed:: --nocapture
part "services down, slow, throttled, hanging" "${dispatch[@]}" -- degraded:: --nocapture --test-threads 2
part "told to end under load" "${dispatch[@]}" -- drain:: --nocapture
part "several times the load" "${dispatch[@]}" -- overload:: --nocapture
part "refusals asked for with secrets" "${dispatch[@]}" -- refusals:: leaks:: --nocapture
part "four workers killed and paused at random" "${dispatch[@]}" -- pool:: --nocapture
part "every rare branch was taken" "${dispatch[@]}" -- sometimes:: --nocapture

printf '\ncommit %s, seed %s, %s minutes\n' "$commit" "$seed" $((SECONDS / 60))
printf '%-46s %5s %7s  %s\n' fault tests time outcome
cat "$work/table"
# What every process of these parts has logged and counted, searched when it ended.
cat "$work/scans/"* /dev/null | awk '{ files += $1; bytes += $2; found += $3 }
    END { printf "searched for phone numbers, positions, places and tokens: %d files, %d bytes; found %d\n", files, bytes, found }'
exit "$failed"
