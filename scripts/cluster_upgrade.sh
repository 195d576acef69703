# shellcheck shell=bash disable=SC2154,SC2034,SC2119,SC2120
# Sourced by scripts/test-cluster.sh: from release 0.1.0 to this one and back, with the programs of both releases.

release=.local/release-0.1.0 release_commit=99dc81e74693b62bf658a43a50462a1404086724
former_operator=registry.example.com/coactus/dispatch-operator:former
former_runtime=registry.example.com/coactus/dispatch-runtime:former
current_runtime=$(sed -n 's/^version = "\(.*\)"/registry.example.com\/coactus\/dispatch-runtime:\1/p' Cargo.toml | head -1)

# Builds the programs of 0.1.0 from its commit. Fails where the history does not have it.
former_programs() {
    git cat-file -e "$release_commit^{commit}" 2>/dev/null || return 1
    mkdir -p "$release"
    [ -e "$release/Cargo.toml" ] || git archive "$release_commit" | tar -x -C "$release"
    say "programs of 0.1.0"
    (cd "$release" && cargo build --locked --quiet -p dispatch-operator -p dispatch-runtime --target-dir target)
    for program in operator runtime; do
        python3 scripts/image.py "$state/former-$program.tar" "registry.example.com/coactus/dispatch-$program:former" \
            "$release/target/debug/dispatch-$program" >/dev/null
    done
    $load "$state/former-operator.tar" "$state/former-runtime.tar" >"$state/logs/images.log" 2>&1
}

# Workers of 0.1.0 have no settings for credentials and authorities: on EKS, a webhook of the cluster adds both to the
# Pods. This policy stands for it, so that both releases get the same.
workers_get_an_identity() {
    apply -n "$namespace" create configmap cluster-ca --from-file=ca.crt="$state/keys/ca.pem"
    kubectl apply -f - >/dev/null <<YAML
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: { name: worker-identity }
spec:
  failurePolicy: Fail
  reinvocationPolicy: Never
  matchConstraints:
    resourceRules: [{ apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods] }]
  matchConditions:
    - name: workers
      expression: object.metadata.?labels[?'app.kubernetes.io/name'].orValue('') == 'dispatch-runtime'
  mutations:
    - patchType: JSONPatch
      jsonPatch:
        expression: |-
          [
            JSONPatch{op: "add", path: "/spec/containers/0/env/-",
              value: Object.spec.containers.env{name: "AWS_ACCESS_KEY_ID", value: "test"}},
            JSONPatch{op: "add", path: "/spec/containers/0/env/-",
              value: Object.spec.containers.env{name: "AWS_SECRET_ACCESS_KEY", value: "test"}},
            JSONPatch{op: "add", path: "/spec/containers/0/env/-",
              value: Object.spec.containers.env{name: "SSL_CERT_FILE", value: "/etc/cluster-ca/ca.crt"}},
            JSONPatch{op: "add", path: "/spec/volumes/-", value: Object.spec.volumes{
              name: "cluster-ca", configMap: Object.spec.volumes.configMap{name: "cluster-ca"}}},
            JSONPatch{op: "add", path: "/spec/containers/0/volumeMounts/-", value: Object.spec.containers.volumeMounts{
              name: "cluster-ca", mountPath: "/etc/cluster-ca", readOnly: true}}
          ]
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: { name: worker-identity }
spec:
  policyName: worker-identity
  matchResources:
    namespaceSelector: { matchLabels: { kubernetes.io/metadata.name: $namespace } }
YAML
}

former_city() {
    restricted_namespace "$namespace"
    workers_get_an_identity
    # The policy takes effect a moment after it was accepted.
    sleep 2
    kubectl apply -n "$namespace" -f - >/dev/null <<YAML
apiVersion: dispatch.coactus.io/v1alpha1
kind: DispatchSystem
metadata: { name: $city }
spec:
  city: $city
  region: ap-northeast-2
  timezone: Asia/Seoul
  cache: { external: { url: "redis://$host:$redis" } }
  api:
    auth: { issuer: https://local.dispatch.invalid, audiences: [dispatch], jwksUrl: "https://$host:$issuer/jwks.json" }
  dispatch: { offerTimeoutSeconds: 20 }
  deletionPolicy: Delete
YAML
}

# One address for the Services of the roles, with the rules that the program prints.
through_nginx() {
    local folder=$state/nginx role address port
    mkdir -p "$folder"
    target/debug/dispatch-runtime routes --output nginx --system "$city" --namespace "$namespace" >"$folder/rules"
    for role in save-dispatch driver-response status-update; do
        address=$(kubectl -n "$namespace" get service "$city-$role" -o 'jsonpath={.spec.clusterIP}')
        sed -i "s/server $city-$role.$namespace.svc:80;/server $address:80;/" "$folder/rules"
    done
    port=$(free_port 127.0.0.1)
    sed -i "s/listen 80;/listen 127.0.0.1:$port;/" "$folder/rules"
    {
        printf 'daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log nginx-error.log;\nevents {}\nhttp {\n'
        printf '    %s_temp_path %s;\n' client_body client_body proxy proxy fastcgi fastcgi uwsgi uwsgi scgi scgi
        # Workers of 0.1.0 do not say that their event streams must not be buffered.
        printf '    access_log off;\n    proxy_buffering off;\n'
        cat "$folder/rules"
        printf '}\n'
    } >"$folder/nginx.conf"
    begin nginx nginx -p "$folder" -e nginx-error.log -c nginx.conf
    proxy=http://127.0.0.1:$port
    until_true 20 "nginx" curl -sS -o /dev/null --max-time 3 "$proxy/v1/events"
}

# runs IMAGE: whether all workers run this image and nothing else, and the system is ready.
# shellcheck disable=SC2329 # by until_true
runs() {
    local images
    images=$(kubectl -n "$namespace" get pods -l app.kubernetes.io/name=dispatch-runtime \
        -o 'jsonpath={range .items[*]}{.spec.containers[0].image}{"\n"}{end}' | sort -u)
    [ "$images" = "$1" ] && is_ready
}

# Runs before the first apply of this release.
upgrade() {
    if ! command -v nginx >/dev/null; then
        note "skipped: upgrade: nginx is not installed"
        return
    fi
    if ! former_programs; then
        note "skipped: upgrade: the history does not have commit $release_commit of 0.1.0"
        return
    fi
    install_operator "$release" "$former_operator" "$former_runtime"
    former_city
    until_true 180 "the city of 0.1.0" runs "$former_runtime"
    through_nginx
    begin_probe
    local begun=$SECONDS
    install_operator
    until_true 240 "the upgrade" runs "$current_runtime"
    note "0.1.0 -> this release: $((SECONDS - begun)) s"
    case_ends "upgrade from 0.1.0" planned
    # Not before: 0.1.0 has no scope for payments, and the apps of this release report payments with it.
    rides 40
    rides_end

    # docs/operating.md, "To go back to 0.1.0", from the layout Combined.
    change '{"spec":{"workers":{"layout":"Combined"}}}'
    until_true 180 "the layout Combined" is_ready
    begin_probe
    change '{"spec":{"workers":{"layout":"Split"}}}'
    until_true 180 "the layout Split" is_ready
    change '{"spec":{"workers":null}}'
    until_true 60 "the spec of 0.1.0" is_ready
    begun=$SECONDS
    install_operator "$release" "$former_operator" "$former_runtime"
    until_true 240 "the way back" runs "$former_runtime"
    note "this release -> 0.1.0: $((SECONDS - begun)) s"
    case_ends "back to 0.1.0" planned

    kubectl delete mutatingadmissionpolicy,mutatingadmissionpolicybinding worker-identity >/dev/null
    kubectl -n "$namespace" delete dsys "$city" --timeout=180s >/dev/null
    kill "${named[nginx]}"
    proxy=
}
