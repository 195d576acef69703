#!/usr/bin/env bash
# The fault suites that `make test` runs for seconds. On two cores the parts that kill, delay and overload take about
# CAMPAIGN_MINUTES in total. The builds and the parts with minutes of their own come on top: generated requests, broken
# records, faults of Redis and the memory run. Every part runs to its end, even after a failure of another. The random
# seed and the commit in the table reproduce a failure. cargo's own test runner is used because it has no time limit.
#
#   campaign.sh [PARTS]     PARTS: an extended regular expression; only parts whose name matches run
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
source scripts/env.sh
minutes="${CAMPAIGN_MINUTES:-20}" seed="${CAMPAIGN_SEED:-$RANDOM}" parts="${1:-}"
# The time of the model and the races grows with the total. The pool gets the rest, after the parts of a fixed length:
# seven minutes for the kills at every call, two for the degraded services, and some for the overload and the small
# parts.
model_minutes=$((minutes / 10 > 0 ? minutes / 10 : 1))
pool=$(((minutes - 13 - 2 * model_minutes) * 60))
export RACES="${RACES:-$((minutes * 600))}" RACES_SEED="${RACES_SEED:-$seed}"
export MODEL_WORKERS="${MODEL_WORKERS:-3}" MODEL_MINUTES="${MODEL_MINUTES:-$model_minutes}"
export DISPATCH_POOL_SECONDS="${DISPATCH_POOL_SECONDS:-$((pool > 60 ? pool : 60))}"
export DISPATCH_POOL_SEED="${DISPATCH_POOL_SEED:-$seed}"
export DISPATCH_OVERLOAD_SECONDS="${DISPATCH_OVERLOAD_SECONDS:-$((minutes * 6 > 60 ? minutes * 6 : 60))}"
# Generated requests come on top: for each of three kinds of callers a sixth of the time.
export DISPATCH_FUZZ_SECONDS="${DISPATCH_FUZZ_SECONDS:-$((minutes * 10))}"
export DISPATCH_FUZZ_SEED="${DISPATCH_FUZZ_SEED:-$seed}"
export DISPATCH_FORGED_TRACES="${DISPATCH_FORGED_TRACES:-1000000}" DISPATCH_FORGED_SEED="${DISPATCH_FORGED_SEED:-$seed}"
# Written to the emulator 25 at a time, and read from its stream: this takes minutes on top.
export DISPATCH_HISTORY="${DISPATCH_HISTORY:-100000}"
# Parts with minutes of their own, by default a share of the time. An hour's memory run: CAMPAIGN_MEMORY_MINUTES=60.
share=$((minutes / 7 > 0 ? minutes / 7 : 1))
redis=$((${CAMPAIGN_REDIS_MINUTES:-$share} * 60)) poison=$((${CAMPAIGN_POISON_MINUTES:-$share} * 60))
memory=$((${CAMPAIGN_MEMORY_MINUTES:-$((minutes / 4 > 0 ? minutes / 4 : 1))} * 60))
export DISPATCH_REDIS_SECONDS="${DISPATCH_REDIS_SECONDS:-$redis}" DISPATCH_REDIS_SEED="${DISPATCH_REDIS_SEED:-$seed}"
export DISPATCH_POISON_SECONDS="${DISPATCH_POISON_SECONDS:-$poison}"
export DISPATCH_POISON_SEED="${DISPATCH_POISON_SEED:-$seed}"
export DISPATCH_MEMORY_SECONDS="${DISPATCH_MEMORY_SECONDS:-$memory}"
# Mutations of each of three kinds in memory, 100,000 together, and of keys of a real Redis.
export BROKEN_MUTATIONS="${BROKEN_MUTATIONS:-33334}" BROKEN_SEED="${BROKEN_SEED:-$seed}"
export BROKEN_KEYS="${BROKEN_KEYS:-$((minutes * 500))}"
export DISPATCH_KILLS="${DISPATCH_KILLS:-0}" DISPATCH_KILLS_SEED="${DISPATCH_KILLS_SEED:-$seed}"
work="$(mktemp -d)" || exit 1
trap 'rm -rf "$work"' EXIT
mkdir "$work/counters" "$work/scans"
export DISPATCH_COUNTERS="$work/counters" DISPATCH_SCANS="$work/scans"
commit="$(git rev-parse --short HEAD)"
echo "commit $commit, seed $seed, about $minutes minutes"

make --no-print-directory build || exit 1
failed=0

# Lines of a part's output that go below its row of the table.
counts='^killed at |  as undisturbed$|  not met in |^overload: |: [0-9]+ races in |requests, [0-9]+ kills'
counts+='|refusals of [0-9]+ kinds|[0-9]+ forged traces|^beside [0-9]+ finished|^broken: |^poison: |^redis faults: |^memory: |^skipped: '

# part NAME COMMAND...: runs a part and adds a row to the table: fault, tests, time, outcome.
part() {
    local name="$1" log="$work/log" started=$SECONDS outcome=passed passed
    shift
    if ! grep -qE -e "$parts" <<<"$name"; then return; fi
    printf '\n== %s\n' "$name"
    if ! "$@" 2>&1 | tee "$log"; then
        outcome="FAILED: commit $commit, seed $seed"
    fi
    passed="$(sed -n 's/^test result: .* \([0-9]*\) passed.*/\1/p' "$log" | awk '{ sum += $1 } END { print sum + 0 }')"
    # A filter that matches no test succeeds.
    if [ "$outcome" = passed ] && [ "$passed" -eq 0 ]; then
        outcome="FAILED: no test ran"
    fi
    if [ "$outcome" != passed ]; then failed=1; fi
    printf '%-46s %5s %6ss  %s\n' "$name" "$passed" $((SECONDS - started)) "$outcome" >>"$work/table"
    grep -E "$counts" "$log" | sed 's/^/    /' >>"$work/table" || true
}

# The selection of the build: with another one cargo would compile the dependencies once more.
tests=(cargo test --locked --workspace --all-features)
model=("${tests[@]}" --test model)
adapters=("${tests[@]}" --test adapters)
runtime=("${tests[@]}" --lib)
dispatch=("${tests[@]}" --test dispatch)
part "model: any order, crash, loss, duplicate" "${model[@]}" -- --nocapture
part "forged positions and their bills" "${tests[@]}" --test forged_traces -- --nocapture
part "races of accept, reject, time-out, cancel" "${adapters[@]}" races:: -- --nocapture --test-threads 1
part "lost answers, calls that hang" "${adapters[@]}" -- lost every_call
part "streams: duplicated, reordered, split, trimmed" "${dispatch[@]}" -- once:: streams:: conformance::
part "killed before and after every call" "${dispatch[@]}" -- killed:: --nocapture
part "services down, slow, throttled, hanging" "${dispatch[@]}" -- degraded:: --nocapture --test-threads 2
part "broken items, messages, records in memory" "${runtime[@]}" -- one_broken --nocapture
part "broken keys of Redis" "${adapters[@]}" -- fleet::broken_keys:: fleet::repairs:: --nocapture
part "broken at random while rides run" "${dispatch[@]}" -- poison:: --nocapture
part "Redis: failover, refusals, token" "${adapters[@]}" -- fleet::failover:: fleet::refusals:: --nocapture
part "Redis: encrypted" "${dispatch[@]}" -- tls:: --nocapture
part "Redis: failover, OOM, stalls while rides run" "${dispatch[@]}" -- redis_faults:: --nocapture
part "clocks of workers and Redis" "${adapters[@]}" -- fleet::clocks:: --nocapture
part "clocks of machines" "${dispatch[@]}" -- clocks:: --nocapture
part "drivers who are gone" "${dispatch[@]}" -- presence:: --nocapture
part "terminated under load" "${dispatch[@]}" -- drain:: --nocapture
part "several times the load" "${dispatch[@]}" -- overload:: --nocapture
part "hostile clients" "${dispatch[@]}" -- hostile:: --nocapture --test-threads 1
part "abuse: cancellations, area, shares" "${dispatch[@]}" -- abuse:: --nocapture
part "calls beside $DISPATCH_HISTORY finished rides" "${dispatch[@]}" -- economy:: --nocapture
part "generated requests" "${dispatch[@]}" -- fuzzed:: --nocapture
part "refused requests with secrets" "${dispatch[@]}" -- refusals:: leaks:: --nocapture
part "four workers killed and paused at random" "${dispatch[@]}" -- pool:: --nocapture
part "memory under steady traffic" "${dispatch[@]}" -- memory:: --nocapture
part "every rare branch reached" "${dispatch[@]}" -- sometimes:: --nocapture

printf '\ncommit %s, seed %s, %s minutes\n' "$commit" "$seed" $((SECONDS / 60))
printf '%-46s %5s %7s  %s\n' fault tests time outcome
cat "$work/table"
# The logs and metrics of every process of these parts, searched when the process ended.
cat "$work/scans/"* 2>/dev/null | awk '{ files += $1; bytes += $2; found += $3 }
    END { printf "searched for phone numbers, positions, places and tokens: %d files, %d bytes, %d found\n",
          files, bytes, found }'
exit "$failed"
