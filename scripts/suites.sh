# shellcheck shell=bash
# Sourced by the scripts that run tests: which suites need a control plane of Kubernetes, and where it is.

# The tests that start an API server. A test that is missing here fails where there is no server; it does not pass.
# shellcheck disable=SC2034
on_a_server='binary(kubernetes) or (binary_id(dispatch-tests::operator) and test(/^(connection|controller)::/))'
# Those of them that start a controller manager as well.
# shellcheck disable=SC2034
on_controllers='binary(kubernetes) and not test(/^(crash|fleet|mutation|reading|rules)::/)'

# find_servers VERSION: sets KUBEBUILDER_ASSETS to the folder of the programs, or without_server or without_controllers
# to the reason why there are none.
find_servers() {
    local found
    without_server='' without_controllers=''
    if [ "${DISPATCH_SKIP_ENVTEST:-}" = 1 ]; then
        without_server="DISPATCH_SKIP_ENVTEST=1 is set"
    elif found=$(scripts/envtest.sh "$1"); then
        export KUBEBUILDER_ASSETS="$found"
        echo "suites on an API server: $("$found/kube-apiserver" --version)"
        if [ ! -x "$found/kube-controller-manager" ]; then
            without_controllers="$found has no kube-controller-manager"
        fi
    else
        without_server=$found
    fi
}

# report_skipped REASON FILTER: lists the tests that did not run.
report_skipped() {
    if [ -z "$1" ]; then return; fi
    printf '\nskipped: %s\n' "$1"
    cargo nextest list --locked --workspace --all-features -E "$2" --message-format oneline 2>/dev/null |
        sed 's/^/  skipped /'
}
