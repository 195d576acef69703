#!/usr/bin/env bash
# A city on a real cluster, from the images to completed rides. Sends simulated rides through the Service of the city and
# stays until Ctrl-C.
#
#   DURATION=60s TRAFFIC_DRIVERS=100 TRAFFIC_RATE=2 cluster.sh [--once]     --once: ends after the summary
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/env.sh
source scripts/cluster_lib.sh
once=${1:-}
duration=${DURATION:-60s} drivers=${TRAFFIC_DRIVERS:-100} rate=${TRAFFIC_RATE:-2}

started=$SECONDS
say "the cluster"; make_cluster; kubectl get nodes
say "images of the two programs"; make_images
say "an emulated AWS, a Redis and a token issuer on $host"; start_services
# shellcheck disable=SC2119 # without arguments: that of this repository
say "the operator"; install_operator; kubectl -n coactus-system get pods
say "the city"; apply_city; kubectl -n "$namespace" get dsys,pods,services
find_api
say "simulated rides through $api for $duration ($((SECONDS - started)) s after the start)"
outcome=0
target/debug/dispatch-simulator --api "$api" --signing-key "$state/keys/signing-key.json" --drivers "$drivers" \
    --rate "$rate" --for "$duration" || outcome=$?
say "To look around:
  export KUBECONFIG=$KUBECONFIG
  kubectl get dsys -A
  kubectl -n $namespace describe dsys $city
  kubectl -n $namespace logs deployment/$city-workers
  kubectl -n coactus-system logs deployment/dispatch-operator
Logs of this machine's part: $state/logs"
if [ "$once" != --once ]; then
    say "The cluster stays until Ctrl-C."
    while true; do sleep 3600 & wait $!; done
fi
exit "$outcome"
