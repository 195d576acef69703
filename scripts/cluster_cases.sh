# shellcheck shell=bash disable=SC2154,SC2034
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

# explained NAME REASON WORDS: the status names the cause within 30 s.
explained() {
    if ! (until_true 30 "$1" is Ready reason "$2") || [[ "$(condition Ready message)" != *"$3"* ]]; then
        printf '  FAILED: %s: Ready is %s: %s\n' "$1" "$(condition Ready reason)" "$(condition Ready message)" | tee -a "$table"
        failed=1
    else
        printf '  %s\n' "$(condition Ready message)" | tee -a "$table"
    fi
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

bad_roll_out() {
    begin_probe
    apply -n "$namespace" create secret generic nothing --from-literal=RUST_LOG=info
    kubectl -n "$namespace" label secret nothing "dispatch.coactus.io/readable-by=$city" --overwrite >/dev/null
    change '{"spec":{"workers":{"envFrom":[{"secretRef":{"name":"nothing"}}]}}}'
    explained "bad roll-out" WaitingForDependency "waits for"
    is Available status True || { echo "  FAILED: not Available" | tee -a "$table"; failed=1; }
    change '{"spec":{"workers":{"envFrom":[{"secretRef":{"name":"aws"}}]}}}'
    until_true 120 "the recovery" is_ready
    case_ends "bad roll-out: no credentials" planned
}

# A registry that refuses connections: a node without a network tries others for a minute before it says so.
missing_image() {
    begin_probe
    kubectl annotate namespace "$namespace" --overwrite dispatch.coactus.io/allowed-images=127.0.0.1:1/ >/dev/null
    change '{"spec":{"workers":{"image":"127.0.0.1:1/dispatch-runtime:none"}}}'
    explained "missing image" ImageNotPulled "cannot start"
    change '{"spec":{"workers":{"image":null}}}'
    until_true 120 "the recovery" is_ready
    case_ends "bad roll-out: no such image" planned
}

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
            { echo "  FAILED: kubectl drain: see $state/logs/drain.log" | tee -a "$table"; failed=1; }
        until_true 120 "the moved workers" is_ready
        kubectl uncordon "$node" >/dev/null
    done
    case_ends "drain of each node" planned
}

# Rides in the meantime, and their auditor: nothing acknowledged is lost.
power_cut() {
    local node rides=0
    # The drain has left both workers on one node.
    kubectl -n "$namespace" rollout restart "deployment/$city-workers" >/dev/null
    kubectl -n "$namespace" rollout status "deployment/$city-workers" --timeout=120s >/dev/null
    node=$(node_of_a_worker)
    kubectl -n "$namespace" get pods -o wide >"$state/logs/before-the-cut.log"
    find_api
    begin_probe
    target/debug/dispatch-simulator --api "$api" --signing-key "$state/keys/signing-key.json" --drivers 50 --rate 1 \
        --for 60s --patience 120s >"$state/logs/rides.log" 2>&1 &
    local simulator=$!
    programs+=("$simulator")
    sleep 10 # The rides begin.
    "$kit" cut "$state/kit" "${node##*[!0-9]}" >/dev/null
    wait "$simulator" || rides=$?
    "$kit" power "$state/kit" "${node##*[!0-9]}" >/dev/null
    until_true 120 "the node" kubectl wait --for=condition=Ready "node/$node" --timeout=1s
    case_ends "power cut of a node" lost
    grep -E '^(requests|  completed|served by|auditor)' "$state/logs/rides.log" | sed 's/^/  /' | tee -a "$table"
    [ "$rides" -eq 0 ] || { echo "  FAILED: the auditor objects: see $state/logs/rides.log" | tee -a "$table"; failed=1; }
}
