# shellcheck shell=bash disable=SC2034,SC2119,SC2120
# Sourced by the scripts that use a cluster. Makes the cluster, starts an emulated AWS and a Redis for it on this machine,
# and installs the operator and a city with the files of this repository. Whatever it starts ends with the script.
#
# The cluster is the first of these:
#   KUBECONFIG            one that exists. DISPATCH_HOST_ADDRESS is this machine's address as Pods see it, and
#                         DISPATCH_LOAD_IMAGES a command that gets the image archives as its arguments.
#   a test cluster kit    a program `cluster` beside the archives of scripts/envtest.sh; needs root
#   kind                  where kind and Docker are

state=$PWD/.local/cluster
namespace=mobility city=busan
programs=()
mkdir -p "$state/logs"

say() { printf '\n%s\n' "$*"; }
fail() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }
free_port() { python3 -c 'import socket, sys; s = socket.socket(); s.bind((sys.argv[1], 0)); print(s.getsockname()[1])' "$1"; }
# begin NAME COMMAND...: in the background, with its output in a log and its process in `named`.
declare -A named=()
begin() {
    local name=$1
    shift
    "$@" >"$state/logs/$name.log" 2>&1 </dev/null &
    programs+=($!)
    named[$name]=$!
}
# until_true SECONDS WHAT COMMAND...
until_true() {
    local end=$((SECONDS + $1)) what=$2; shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || fail "$what did not happen in time; logs: $state/logs"
        sleep 0.3
    done
}

# apply COMMAND...: creates or updates the object that `kubectl COMMAND` would create.
apply() { kubectl "$@" --dry-run=client -o yaml | kubectl apply -f - >/dev/null; }
# apply_credentials NAMESPACE: of the emulated AWS, which takes any.
apply_credentials() {
    apply -n "$1" create secret generic aws --from-literal=AWS_ACCESS_KEY_ID=test --from-literal=AWS_SECRET_ACCESS_KEY=test
}
# restricted_namespace NAME: a namespace with the strictest Pod security standard.
restricted_namespace() {
    apply create namespace "$1"
    kubectl label namespace "$1" pod-security.kubernetes.io/enforce=restricted --overwrite >/dev/null
}

finish() {
    trap - EXIT
    # Some may be stopped, and would not end before they continue.
    [ "${#programs[@]}" -eq 0 ] || kill "${programs[@]}" 2>/dev/null || true
    [ "${#programs[@]}" -eq 0 ] || kill -CONT "${programs[@]}" 2>/dev/null || true
    case "${kind_of_cluster:-}" in
    kit) "$kit" down "$state/kit" >/dev/null 2>&1 || true ;;
    kind) kind delete cluster --name dispatch >/dev/null 2>&1 || true ;;
    esac
}
trap finish EXIT
trap 'exit 130' INT TERM

# Whether a cluster can be made here; prints the reason if not.
can_make_cluster() {
    if [ -n "${KUBECONFIG:-}" ]; then
        [ -n "${DISPATCH_HOST_ADDRESS:-}" ] && [ -n "${DISPATCH_LOAD_IMAGES:-}" ] && return
        echo "with KUBECONFIG set, DISPATCH_HOST_ADDRESS and DISPATCH_LOAD_IMAGES are needed; see scripts/cluster_lib.sh"
    elif kit=$(scripts/envtest.sh --kit) && [ "$(id -u)" -eq 0 ]; then
        return
    elif command -v kind >/dev/null && docker info >/dev/null 2>&1; then
        return
    else
        echo "there is no cluster: KUBECONFIG is not set, and neither kind with Docker nor a test cluster kit is here"
    fi
    return 1
}

# Ends with 77 where no cluster can be made, which is not a failure of what is tested.
no_cluster() { printf '%s: no cluster: %s\n' "${0##*/}" "$*" >&2; exit 77; }

make_cluster() {
    local why
    why=$(can_make_cluster) || no_cluster "$why"
    if [ -n "${KUBECONFIG:-}" ]; then
        kind_of_cluster=given host=$DISPATCH_HOST_ADDRESS load=$DISPATCH_LOAD_IMAGES
    elif kit=$(scripts/envtest.sh --kit) && [ "$(id -u)" -eq 0 ]; then
        kind_of_cluster=kit host=198.18.2.1 load="$kit load $state/kit"
        # Of the nodes.
        if command -v apt-get >/dev/null && ! { command -v runc && command -v nft; } >/dev/null; then
            { apt-get update -qq &&
                DEBIAN_FRONTEND=noninteractive apt-get install -y -qq runc containernetworking-plugins nftables iproute2; } >/dev/null
        fi
        "$kit" down "$state/kit" >/dev/null 2>&1 || true
        "$kit" up "$state/kit" 2 >"$state/logs/cluster.log" 2>&1 ||
            no_cluster "$(tail -1 "$state/logs/cluster.log"); see $state/logs/cluster.log"
        export KUBECONFIG=$state/kit/kubeconfig
    else
        kind_of_cluster=kind load="kind load image-archive --name dispatch"
        kind create cluster --name dispatch --kubeconfig "$state/kubeconfig" >"$state/logs/cluster.log" 2>&1 ||
            no_cluster "see $state/logs/cluster.log"
        export KUBECONFIG=$state/kubeconfig
        host=$(docker network inspect kind --format '{{(index .IPAM.Config 0).Gateway}}')
    fi
}

# DISPATCH_PROGRAMS is the folder of the programs in the images: the figures of a release are those of target/release.
make_images() {
    scripts/images.sh "${DISPATCH_PROGRAMS:-target/debug}" "$state"
    $load "$state/operator.tar" "$state/runtime.tar" >"$state/logs/images.log" 2>&1 ||
        fail "cannot load the images: see $state/logs/images.log"
}

# A certificate authority, which the workers trust by `spec.workers.caBundle`, and a certificate of the issuer.
make_certificate() {
    local keys=$state/keys
    {
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=test authority" \
            -addext basicConstraints=critical,CA:TRUE -keyout "$keys/ca.key" -out "$keys/ca.pem"
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=issuer" -keyout "$keys/tls.key" \
            -out "$keys/tls.csr"
        printf 'subjectAltName=IP:%s\nbasicConstraints=CA:FALSE\n' "$host" >"$keys/tls.ext"
        openssl x509 -req -in "$keys/tls.csr" -CA "$keys/ca.pem" -CAkey "$keys/ca.key" -CAcreateserial -days 30 \
            -extfile "$keys/tls.ext" -out "$keys/tls.pem"
    } >"$state/logs/certificate.log" 2>&1 || fail "cannot make a certificate: see $state/logs/certificate.log"
}

# What a city needs outside the cluster: AWS, Redis, and a token issuer.
start_services() {
    aws=$(free_port "$host") redis=$(free_port "$host") issuer=$(free_port "$host")
    mkdir -p "$state/keys" "$state/emulator"
    begin redis redis-server --port "$redis" --bind "$host" --save "" --appendonly no --protected-mode no
    begin aws env SERVICES=cloudformation,dynamodb,dynamodbstreams,elasticache,s3,sns,sqs,sts GATEWAY_PORT="$aws" \
        CITY_EMULATOR_HOST="$host" MINISTACK_HOST="$host" MINISTACK_REGION=ap-northeast-2 PERSIST_STATE=0 S3_PERSIST=0 \
        STATE_DIR="$state/emulator" S3_DATA_DIR="$state/emulator" LOG_LEVEL=WARNING AWS_ACCESS_KEY_ID=test \
        AWS_SECRET_ACCESS_KEY=test DOCKER_HOST="unix://$state/none.sock" \
        .venv/bin/hypercorn operator/local/emulator/city_emulator.py:app --workers 0 --bind "$host:$aws" --keep-alive 75 \
        --access-logfile "$state/logs/aws-access.log"
    target/debug/dispatch-local keys --dir "$state/keys" >"$state/keys/auth.json"
    make_certificate
    begin issuer python3 scripts/serve_https.py "$state/keys" "$host" "$issuer" "$state/keys/tls.pem" "$state/keys/tls.key"
    until_true 30 "the emulated AWS" curl -fsS "http://$host:$aws/_ministack/health"
    until_true 10 "Redis" redis-cli -h "$host" -p "$redis" ping
    until_true 10 "the token issuer" curl -fsS --cacert "$state/keys/ca.pem" "https://$host:$issuer/jwks.json"
}

# install_operator [ROOT IMAGE RUNTIME]: of this repository, or of the files in the folder ROOT with images of its own.
install_operator() {
    local root=${1:-.} images='' arguments=''
    if [ $# -gt 0 ]; then
        images="images: [{ name: registry.example.com/coactus/dispatch-operator, newName: ${2%:*}, newTag: ${2##*:} }]"
        arguments="
      - op: add
        path: /spec/template/spec/containers/0/args/-
        value: --runtime-image=$3"
    fi
    restricted_namespace coactus-system
    kubectl apply --server-side -f "$root/manifests/crd.yaml" >/dev/null
    apply_credentials coactus-system
    mkdir -p "$state/operator"
    cat >"$state/operator/kustomization.yaml" <<YAML
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../../../$root/manifests/overlays/cluster-wide]
$images
patches:
  - target: { kind: Deployment, name: dispatch-operator }
    patch: |-
      - op: add
        path: /spec/template/spec/containers/0/envFrom
        value: [{ secretRef: { name: aws } }]
      - op: add
        path: /spec/template/spec/containers/0/env/-
        value: { name: AWS_ENDPOINT_URL, value: "http://$host:$aws" }$arguments
YAML
    kubectl apply -k "$state/operator" >/dev/null
    kubectl -n coactus-system rollout status deployment/dispatch-operator --timeout=120s >/dev/null ||
        fail "the operator did not start: kubectl -n coactus-system describe pods"
}

apply_city() {
    restricted_namespace "$namespace"
    apply_credentials "$namespace"
    # Permits this city to use them.
    kubectl -n "$namespace" label secret aws "dispatch.coactus.io/readable-by=$city" --overwrite >/dev/null
    apply -n "$namespace" create configmap private-ca --from-file=ca.crt="$state/keys/ca.pem"
    sed -e "s|redis.example.com:6379|$host:$redis|" -e "s|login.example.com/keys|$host:$issuer/jwks.json|" \
        examples/cluster.yaml >"$state/city.yaml"
    kubectl apply -n "$namespace" -f "$state/city.yaml"
    if ! kubectl wait -n "$namespace" "dsys/$city" --for=condition=Ready --timeout=180s; then
        kubectl describe -n "$namespace" dsys "$city"
        fail "the city did not become Ready"
    fi
}

# The address of the city's API from here: that of a proxy in front of it, that of its Service where Pods can be reached,
# else a forwarded port.
find_api() {
    local address
    if [ -n "${proxy:-}" ]; then
        api=$proxy
        return
    fi
    address=$(kubectl -n "$namespace" get service "$city-api" -o 'jsonpath={.spec.clusterIP}')
    api=http://$address
    if ! curl -sS -o /dev/null --max-time 3 "$api/v1/events" 2>/dev/null; then
        local port
        port=$(free_port 127.0.0.1)
        begin forward kubectl -n "$namespace" port-forward "service/$city-api" "$port:80"
        api=http://127.0.0.1:$port
        until_true 20 "the forwarded port" curl -sS -o /dev/null --max-time 3 "$api/v1/events"
    fi
}
