# shellcheck shell=bash disable=SC2154,SC2034,SC2119,SC2120
# Sourced by scripts/test-cluster.sh: how a case is measured, and the cases of the short run. The variables are those of
# scripts/cluster_lib.sh.

# of_probe FIELD: from the result of the last probe.
of_probe() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$state/probe.json" "$1"; }
condition() { kubectl -n "$namespace" get dsys "$city" -o "jsonpath={.status.conditions[?(@.type=='$1')].$2}"; }
# is CONDITION FIELD VALUE
is() { [ "$(condition "$1" "$2")" = "$3" ]; }
change() { kubectl -n "$namespace" patch dsys "$city" --type=merge -p "$1" >/dev/null; }
# shellcheck disable=SC2329 # by is_ready
observed() {
    local pair
    pair=$(kubectl -n "$namespace" get dsys "$city" -o 'jsonpath={.metadata.generation} {.status.observedGeneration}')
    [ "${pair% *}" = "${pair#* }" ]
}
# shellcheck disable=SC2329 # by until_true
is_ready() { observed && is Ready status True; }

note() { printf '  %s\n' "$*" | tee -a "$table"; }
broken() { note "FAILED: $*"; failed=1; }

# A caller of a route of save-dispatch, whose Service exists in both layouts.
begin_probe() {
    local address token
    address=$(kubectl -n "$namespace" get service "$city-save-dispatch" -o 'jsonpath={.spec.clusterIP}')
    token=$(target/debug/dispatch-local token --key "$state/keys/signing-key.json" --sub user#probe --scope user)
    curl -fsS -o /dev/null -X PUT -H "authorization: Bearer $token" -H 'content-type: application/json' \
        -d '{"phone":"01098761234","paymentMethods":[],"preferences":{"defaultRideType":"STANDARD","favoriteLocations":[]},
            "currentLocation":{"lat":37.5663,"lng":126.9779,"address":"서울시청"}}' "http://$address/v1/users/probe"
    python3 scripts/probe.py "http://$address/v1/users/probe" "$token" >"$state/probe.json" 2>"$state/logs/probe.log" &
    probe=$!
    programs+=("$probe")
}

end_probe() {
    kill -INT "$probe"
    wait "$probe" || fail "the caller failed: see $state/logs/probe.log"
}

# case_ends NAME GOAL: GOAL is planned (no answer may be missing), or lost (some may).
case_ends() {
    end_probe
    local outcome=ok
    if [ "$2" = planned ] && { [ "$(of_probe 5xx)" != 0 ] || [ "$(of_probe 'connection errors')" != 0 ]; }; then
        outcome="FAILED: $(of_probe causes)"
        failed=1
    fi
    printf '%-44s %6s %6s %5s %6s %8s  %s\n' "$1" "$(of_probe calls)" "$(of_probe served)" "$(of_probe 5xx)" \
        "$(of_probe 'connection errors')" "$(of_probe 'seconds without service')" "$outcome" | tee -a "$table"
}

# explained NAME REASON WORDS: the status names the cause within 30 s. What a person reads then goes to the logs.
explained() {
    if ! (until_true 30 "$1" is Ready reason "$2") || [[ "$(condition Ready message)" != *"$3"* ]]; then
        broken "$1: Ready is $(condition Ready reason): $(condition Ready message)"
    else
        note "$(condition Ready message)"
    fi
    kubectl -n "$namespace" describe dsys "$city" >"$state/logs/describe-${1// /-}.log"
}

# bad NAME REASON WORDS BREAK REPAIR: breaks, expects the cause within 30 s, repairs, and expects that no caller noticed.
bad() {
    local name=$1 reason=$2 words=$3 break=$4 repair=$5
    begin_probe
    "$break"
    explained "$name" "$reason" "$words"
    is Available status True || broken "$name: not Available"
    "$repair"
    until_true 150 "the recovery from $name" is_ready
    case_ends "bad roll-out: $name" planned
}

# rides SECONDS [RATE [PATIENCE [DRIVERS]]]: simulated rides in the background, RATE a second, whose phones try again for
# PATIENCE seconds; rides_end waits for them and for their auditor. Too few drivers for the rate leave requests that the
# auditor finds unfinished.
rides() {
    find_api
    rides_log=$state/logs/rides-$SECONDS.log
    target/debug/dispatch-simulator --api "$api" --signing-key "$state/keys/signing-key.json" --drivers "${4:-50}" \
        --rate "${2:-1}" --for "${1}s" --patience "${3:-120}s" >"$rides_log" 2>&1 &
    simulator=$!
    programs+=("$simulator")
}
rides_end() {
    local outcome=0
    wait "$simulator" || outcome=$?
    grep -E '^(requests|  completed|served by|auditor|  violation)' "$rides_log" | sed 's/^/  /' | tee -a "$table" || true
    [ "$outcome" -eq 0 ] || broken "the auditor objects: see $rides_log"
}

first_apply() {
    local begun=$SECONDS
    install_operator
    apply_city
    printf '%-44s %s s until Ready\n' "first apply" $((SECONDS - begun)) | tee -a "$table"
}

roll_out() {
    begin_probe
    change '{"spec":{"workers":{"resources":{"memoryLimit":"300Mi"}}}}'
    until_true 120 "the roll-out" is_ready
    case_ends "roll-out of a setting" planned
}

without_credentials() {
    apply -n "$namespace" create secret generic nothing --from-literal=RUST_LOG=info
    kubectl -n "$namespace" label secret nothing "dispatch.coactus.io/readable-by=$city" --overwrite >/dev/null
    change '{"spec":{"workers":{"envFrom":[{"secretRef":{"name":"nothing"}}]}}}'
}
with_credentials() { change '{"spec":{"workers":{"envFrom":[{"secretRef":{"name":"aws"}}]}}}'; }
bad_roll_out() { bad "no credentials" WaitingForDependency "waits for" without_credentials with_credentials; }

# A registry that refuses connections: a node without a network tries others for a minute before it says so.
# shellcheck disable=SC2329 # by bad
missing_image_set() {
    kubectl annotate namespace "$namespace" --overwrite dispatch.coactus.io/allowed-images=127.0.0.1:1/ >/dev/null
    change '{"spec":{"workers":{"image":"127.0.0.1:1/dispatch-runtime:none"}}}'
}
# shellcheck disable=SC2329 # by bad
missing_image_repair() { change '{"spec":{"workers":{"image":null}}}'; }
missing_image() { bad "no such image" ImageNotPulled "cannot start" missing_image_set missing_image_repair; }

change_layout() {
    begin_probe
    change '{"spec":{"workers":{"layout":"Split"}}}'
    until_true 180 "the layout Split" is_ready
    change '{"spec":{"workers":{"layout":"Combined"}}}'
    until_true 180 "the layout Combined" is_ready
    case_ends "layout Combined -> Split -> Combined" planned
}

node_of_a_worker() {
    kubectl -n "$namespace" get pods -l "app.kubernetes.io/component=workers" -o 'jsonpath={.items[0].spec.nodeName}'
}

drain() {
    local node
    begin_probe
    for node in $(kubectl get nodes -o 'jsonpath={.items[*].metadata.name}'); do
        kubectl drain "$node" --ignore-daemonsets --delete-emptydir-data --timeout=120s >"$state/logs/drain.log" 2>&1 ||
            broken "kubectl drain: see $state/logs/drain.log"
        until_true 120 "the moved workers" is_ready
        kubectl uncordon "$node" >/dev/null
    done
    case_ends "drain of each node" planned
}

# Rides in the meantime, and their auditor: nothing acknowledged is lost.
power_cut() {
    local node
    # The drain has left both workers on one node.
    kubectl -n "$namespace" rollout restart "deployment/$city-workers" >/dev/null
    kubectl -n "$namespace" rollout status "deployment/$city-workers" --timeout=120s >/dev/null
    node=$(node_of_a_worker)
    kubectl -n "$namespace" get pods -o wide >"$state/logs/before-the-cut.log"
    begin_probe
    rides 60
    sleep 10 # The rides begin.
    "$kit" cut "$state/kit" "${node##*[!0-9]}" >/dev/null
    rides_end
    "$kit" power "$state/kit" "${node##*[!0-9]}" >/dev/null
    until_true 120 "the node" kubectl wait --for=condition=Ready "node/$node" --timeout=1s
    case_ends "power cut of a node" lost
}
