# shellcheck shell=bash disable=SC2154,SC2034
# Sourced by scripts/test-cluster.sh: the cases of the long run. See scripts/cluster_cases.sh for what they use.

revision() { kubectl -n "$namespace" get deployment "$city-workers" -o 'jsonpath={.metadata.generation}'; }
# rolled FROM: whether the Deployment has another generation than FROM, and the system is ready.
# shellcheck disable=SC2329 # by until_true
rolled() { [ "$(revision)" != "$1" ] && is_ready; }
reconcile() {
    kubectl -n "$namespace" annotate dsys "$city" --overwrite \
        "dispatch.coactus.io/reconcile-requested-at=$(date +%s%N)" >/dev/null
}
# workers: names of the Pods.
workers() { kubectl -n "$namespace" get pods -l app.kubernetes.io/component=workers -o name; }
# shellcheck disable=SC2329 # by until_true
has_workers() { [ "$(kubectl -n "$namespace" get deployment "$city-workers" -o 'jsonpath={.status.readyReplicas}')" = "$1" ]; }
# pause NAME, resume NAME: a program that `begin` started; it keeps its port.
pause() { kill -STOP "${named[$1]}"; }
resume() { kill -CONT "${named[$1]}"; }

# --- planned changes ---

roll_out_image() {
    local next=registry.example.com/coactus/dispatch-runtime:next
    python3 scripts/image.py "$state/next.tar" "$next" target/debug/dispatch-runtime >/dev/null
    $load "$state/next.tar" >"$state/logs/images.log" 2>&1
    kubectl annotate namespace "$namespace" --overwrite dispatch.coactus.io/allowed-images=registry.example.com/coactus/ >/dev/null
    begin_probe
    change "{\"spec\":{\"workers\":{\"image\":\"$next\"}}}"
    until_true 120 "the new image" is_ready
    change '{"spec":{"workers":{"image":null}}}'
    until_true 120 "the former image" is_ready
    case_ends "roll-out of another image, and back" planned
}

roll_out_credentials() {
    local before
    before=$(revision)
    begin_probe
    kubectl -n "$namespace" patch secret aws --type=merge -p '{"stringData":{"AWS_ACCESS_KEY_ID":"test2"}}' >/dev/null
    reconcile
    until_true 120 "the roll-out of the credentials" rolled "$before"
    case_ends "roll-out of other credentials" planned
}

# redis_tls COMMAND...: with the token that is valid now.
redis_tls() { redis-cli -h "$host" -p "$tls_port" --tls --cacert "$state/keys/ca.pem" --no-auth-warning -a "$token" "$@"; }
# Clients besides the one that asks.
# shellcheck disable=SC2329 # by until_true
workers_are_connected() { [ "$(redis_tls client list type normal | grep -c '^id=')" -gt 2 ]; }
# A Redis that takes another token from one moment to the next. The kubelet renews the mounted Secret within about a
# minute and a half, and the workers read it whenever they connect.
rotate_token() {
    local before
    tls_port=$(free_port "$host") token=first-token-of-redis
    begin redis-tls redis-server --port 0 --tls-port "$tls_port" --bind "$host" --save "" --appendonly no \
        --tls-cert-file "$state/keys/tls.pem" --tls-key-file "$state/keys/tls.key" \
        --tls-ca-cert-file "$state/keys/ca.pem" --tls-auth-clients no --requirepass "$token"
    apply -n "$namespace" create secret generic redis-token --from-literal=token="$token"
    kubectl -n "$namespace" label secret redis-token "dispatch.coactus.io/readable-by=$city" --overwrite >/dev/null
    before=$(revision)
    begin_probe
    change "{\"spec\":{\"cache\":{\"external\":{\"url\":\"rediss://$host:$tls_port\"},
        \"authSecretRef\":{\"name\":\"redis-token\",\"key\":\"token\"}}}}"
    until_true 120 "the Redis with a token" rolled "$before"
    workers_are_connected || broken "no worker is connected"
    rides 60
    redis_tls config set requirepass second-token-of-redis >/dev/null
    token=second-token-of-redis
    kubectl -n "$namespace" patch secret redis-token --type=merge -p "{\"stringData\":{\"token\":\"$token\"}}" >/dev/null
    # Connections that were authenticated stay.
    redis_tls client kill type normal >/dev/null
    until_true 150 "the workers with the new token" workers_are_connected
    rides_end
    change "{\"spec\":{\"cache\":{\"external\":{\"url\":\"redis://$host:$redis\"},\"authSecretRef\":null}}}"
    until_true 120 "the former Redis" is_ready
    kill "${named[redis-tls]}"
    case_ends "token of Redis rotated" planned
}

scale() {
    begin_probe
    change '{"spec":{"workers":{"combined":{"autoscaling":{"minReplicas":2,"maxReplicas":4}}}}}'
    until_true 120 "the autoscaler" is_ready
    change '{"spec":{"workers":{"combined":{"autoscaling":null,"replicas":3}}}}'
    until_true 120 "three workers" has_workers 3
    change '{"spec":{"workers":{"combined":{"replicas":2}}}}'
    until_true 120 "two workers" has_workers 2
    until_true 60 "the system" is_ready
    case_ends "replicas -> autoscaling -> replicas" planned
}

# By real figures of the processor: a target far below what the rides need, then no rides.
by_load() {
    begin_probe
    change '{"spec":{"workers":{"combined":{"replicas":null,"autoscaling":
        {"minReplicas":2,"maxReplicas":4,"targetCpuPercent":90}}}}}'
    until_true 120 "the autoscaler" is_ready
    rides 60 2 120 300
    until_true 120 "four workers" has_workers 4
    note "4 workers: $(kubectl -n "$namespace" get hpa -o 'jsonpath={.items[0].status.currentMetrics[0].resource.current.averageUtilization}') % of the request"
    rides_end
    # One a minute, after five minutes without need.
    until_true 600 "two workers" has_workers 2
    is AutoscalingActive status True || broken "AutoscalingActive is not True"
    change '{"spec":{"workers":{"combined":{"autoscaling":null,"replicas":2}}}}'
    until_true 60 "the system" is_ready
    case_ends "autoscaling 2 -> 4 -> 2 by load" planned
}

# --- bad roll-outs ---

# shellcheck disable=SC2329 # by bad
wrong_issuer_set() { change "{\"spec\":{\"api\":{\"auth\":{\"jwksUrl\":\"https://$host:$issuer/none.json\"}}}}"; }
# shellcheck disable=SC2329 # by bad
wrong_issuer_repair() { change "{\"spec\":{\"api\":{\"auth\":{\"jwksUrl\":\"https://$host:$issuer/jwks.json\"}}}}"; }
wrong_issuer() { bad "wrong issuer" WaitingForDependency "issuer" wrong_issuer_set wrong_issuer_repair; }

# Connections that exist stay, as after a rotation; a new worker is refused.
# shellcheck disable=SC2329 # by bad
wrong_password_set() {
    redis-cli -h "$host" -p "$redis" config set requirepass other >/dev/null
    change '{"spec":{"workers":{"env":{"RUST_LOG":"warn"}}}}'
}
# shellcheck disable=SC2329 # by bad
wrong_password_repair() { redis-cli -h "$host" -p "$redis" -a other --no-auth-warning config set requirepass "" >/dev/null; }
wrong_password() { bad "wrong password of Redis" WaitingForDependency "cache" wrong_password_set wrong_password_repair; }

# shellcheck disable=SC2329 # by bad
quota_set() {
    kubectl -n "$namespace" create quota tight --hard=pods=2 >/dev/null
    change '{"spec":{"workers":{"env":{"RUST_LOG":"info,hyper=warn"}}}}'
}
# shellcheck disable=SC2329 # by bad
quota_repair() { kubectl -n "$namespace" delete quota tight >/dev/null; }
quota() { bad "quota" PodsRefused "quota" quota_set quota_repair; }

# shellcheck disable=SC2329 # by bad
little_memory_set() { change '{"spec":{"workers":{"resources":{"memoryRequest":"6Mi","memoryLimit":"6Mi"}}}}'; }
# shellcheck disable=SC2329 # by bad
little_memory_repair() { change '{"spec":{"workers":{"resources":{"memoryRequest":"64Mi","memoryLimit":"256Mi"}}}}'; }
little_memory() { bad "memory limit too small" OutOfMemory "memory" little_memory_set little_memory_repair; }

# Its budget must not keep the node from being drained.
drain_broken() {
    local node begun
    without_credentials
    until_true 60 "the broken roll-out" is Ready reason WaitingForDependency
    # shellcheck disable=SC2046 # one argument for each Pod
    kubectl -n "$namespace" delete $(workers) --wait=false >/dev/null
    until_true 60 "no worker is ready" is Available status False
    node=$(node_of_a_worker) begun=$SECONDS
    if kubectl drain "$node" --ignore-daemonsets --delete-emptydir-data --timeout=90s >"$state/logs/drain.log" 2>&1; then
        note "drain of the node of a city without ready workers: $((SECONDS - begun)) s"
    else
        broken "drain of a broken city's node: see $state/logs/drain.log"
    fi
    kubectl uncordon "$node" >/dev/null
    with_credentials
    until_true 150 "the recovery" is_ready
}

# --- faults ---

killed_workers() {
    begin_probe
    rides 45
    local at
    for at in 1 2 3 4 5 6; do
        sleep 5
        # shellcheck disable=SC2009 # by the program's path inside the container
        kill -9 "$(pgrep -f '^/dispatch-runtime serve' | sed -n "$((at % 2 + 1))p")" 2>/dev/null || true
    done
    rides_end
    until_true 240 "all workers" is_ready
    case_ends "a worker killed every 5 s, six times" lost
}

redis_restarts() {
    begin_probe
    rides 40
    sleep 10
    kill "${named[redis]}"
    sleep 2
    begin redis redis-server --port "$redis" --bind "$host" --save "" --appendonly no --protected-mode no
    rides_end
    case_ends "Redis restarted, empty" lost
}

# without SERVICE NAME: all workers are replaced while a service is silent.
without() {
    begin_probe
    pause "$1"
    kubectl -n "$namespace" rollout restart "deployment/$city-workers" >/dev/null
    if kubectl -n "$namespace" rollout status "deployment/$city-workers" --timeout=240s >/dev/null; then
        note "all workers replaced while $2 was silent"
    else
        broken "the roll-out does not end while $2 is silent"
    fi
    resume "$1"
    until_true 120 "the system" is_ready
    # A worker without keys asks the issuer every second.
    sleep 3
    case_ends "all workers restarted without $2" lost
    begin_probe
    sleep 10
    case_ends "  afterwards" planned
}
restart_without_redis() { without redis Redis; }
restart_without_issuer() { without issuer "the issuer"; }

aws_away() {
    begin_probe
    rides 60
    sleep 10
    pause aws
    sleep 30
    resume aws
    rides_end
    case_ends "AWS silent for 30 s" lost
    begin_probe
    sleep 10
    until_true 120 "the system" is_ready
    case_ends "  afterwards" planned
}

api_server_away() {
    local server
    server=$(cat "$state/kit/run/kube-apiserver.pid")
    rides 75
    begin_probe
    sleep 5
    kill -STOP "$server"
    sleep 60
    kill -CONT "$server"
    rides_end
    until_true 120 "the system" is_ready
    case_ends "API server silent for 60 s" planned
}

operators() { kubectl -n coactus-system get pods -l app.kubernetes.io/name=dispatch-operator -o name; }
# The leader, too, is among them.
kill_operators() {
    # shellcheck disable=SC2046 # one argument for each Pod
    kubectl -n coactus-system delete $(operators) --grace-period=0 --force >/dev/null 2>&1
}
# another_city NAMESPACE [CITY]: applies a copy of the city to a namespace of its own.
another_city() {
    restricted_namespace "$1"
    apply_credentials "$1"
    kubectl -n "$1" label secret aws "dispatch.coactus.io/readable-by=$city" --overwrite >/dev/null
    apply -n "$1" create configmap private-ca --from-file=ca.crt="$state/keys/ca.pem"
    sed "s|^  city: .*|  city: ${2:-$1}|" "$state/city.yaml" | kubectl apply -n "$1" -f - >/dev/null
}
# shellcheck disable=SC2329 # by until_true
other_ready() { kubectl wait -n "$1" "dsys/$city" --for=condition=Ready --timeout=1s; }
# shellcheck disable=SC2329 # by until_true
other_gone() { ! kubectl -n "$1" get dsys "$city"; }

killed_leaders() {
    local killed=0 end
    begin_probe
    another_city second
    end=$((SECONDS + 60))
    until other_ready second >/dev/null 2>&1 || [ "$SECONDS" -ge "$end" ]; do
        sleep 4
        kill_operators
        killed=$((killed + 1))
    done
    until_true 180 "the city of killed operators" other_ready second
    kubectl -n second delete dsys "$city" --wait=false >/dev/null
    sleep 2
    kill_operators
    until_true 180 "the deletion" other_gone second
    note "created while all operators were killed $killed times, and deleted while they were killed once"
    kubectl delete namespace second --wait=false >/dev/null
    case_ends "operators killed in each phase" planned
}

namespace_deleted() {
    begin_probe
    another_city third
    until_true 180 "the third city" other_ready third
    local begun=$SECONDS
    if kubectl delete namespace third --timeout=180s >/dev/null; then
        note "a namespace with its city was gone after $((SECONDS - begun)) s"
    else
        broken "the namespace remains: $(kubectl get namespace third -o 'jsonpath={.status.conditions}')"
    fi
    case_ends "namespace of another city deleted" planned
}

ten_cities() {
    local at begun=$SECONDS
    begin_probe
    for at in 1 2 3 4 5 6 7 8 9; do another_city "team-$at" "city-$at"; done
    for at in 1 2 3 4 5 6 7 8 9; do until_true 300 "city $at" other_ready "team-$at"; done
    note "ten cities ready after $((SECONDS - begun)) s"
    case_ends "nine more cities" planned
    local before after
    sleep 60
    before=$(wc -l <"$state/logs/aws-access.log")
    sleep 60
    after=$(wc -l <"$state/logs/aws-access.log")
    note "at rest: $((after - before)) AWS calls a minute"
    note "$(kubectl top pods -A -l app.kubernetes.io/component=workers --no-headers |
        awk '{ c += $3; m += $4; n += 1 } END { printf "%d Pods of workers, %d m and %d Mi together", n, c, m }')"
    note "$(kubectl top pods -n coactus-system --no-headers | awk '{ printf "%s %s %s; ", $1, $2, $3 }')"
    for at in 1 2 3 4 5 6 7 8 9; do kubectl delete namespace "team-$at" --wait=false >/dev/null; done
    for at in 1 2 3 4 5 6 7 8 9; do until_true 300 "the end of city $at" other_gone "team-$at"; done
}

# After the drain of the other node, all workers are on the node that is cut.
second_cut() {
    local node other begun
    node=$(node_of_a_worker)
    kubectl drain "$node" --ignore-daemonsets --delete-emptydir-data --timeout=120s >"$state/logs/drain.log" 2>&1
    until_true 120 "the moved workers" is_ready
    kubectl uncordon "$node" >/dev/null
    other=$(node_of_a_worker)
    is WorkersSpread status False || broken "WorkersSpread does not say that all workers are on one node"
    begin_probe
    rides 150 1 300
    sleep 5
    begun=$SECONDS
    "$kit" cut "$state/kit" "${other##*[!0-9]}" >/dev/null
    rides_end
    "$kit" power "$state/kit" "${other##*[!0-9]}" >/dev/null
    until_true 120 "the node" kubectl wait --for=condition=Ready "node/$other" --timeout=1s
    until_true 120 "the system" is_ready
    case_ends "power cut of the node with all workers" lost
}
