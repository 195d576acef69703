#!/usr/bin/env bash
# Changes and faults of a city on a real cluster while callers and simulated rides use it. Prints a table of the cases;
# fails if a planned change costs an answer, a bad roll-out costs one or is not explained, or a lost node costs a ride.
#
#   test-cluster.sh             six cases after the first apply, in some seven minutes
#   test-cluster.sh --all       every case, in some forty minutes
#   test-cluster.sh CASE...     those of the lists below, after the first apply; upgrade runs before it
#
# The cluster is that of scripts/cluster_lib.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/env.sh
source scripts/cluster_lib.sh
source scripts/cluster_cases.sh
source scripts/cluster_faults.sh
source scripts/cluster_upgrade.sh
failed=0
table=$state/table
: >"$table"

short=(roll_out bad_roll_out missing_image change_layout drain power_cut)
planned=(roll_out roll_out_image roll_out_credentials rotate_token change_layout drain scale by_load)
broken=(bad_roll_out wrong_issuer wrong_password missing_image quota little_memory drain_broken)
faults=(killed_workers redis_restarts restart_without_redis restart_without_issuer aws_away api_server_away
    killed_leaders namespace_deleted ten_cities power_cut second_cut)
# These end processes of the cluster, which only the kit lets them do.
only_kit=" power_cut second_cut api_server_away killed_workers "

case "${1:-}" in
'') cases=("${short[@]}") ;;
--all) cases=(upgrade "${planned[@]}" "${broken[@]}" "${faults[@]}") ;;
*) cases=("$@") ;;
esac
known=" upgrade ${planned[*]} ${broken[*]} ${faults[*]} "
for name in "${cases[@]}"; do
    [[ $known == *" $name "* ]] || fail "no such case: $name; the cases are$known"
done

started=$SECONDS
make_cluster
make_images
start_services
printf '%-44s %6s %6s %5s %6s %8s\n' case calls served 5xx errors gap | tee -a "$table"
if [[ " ${cases[*]} " == *" upgrade "* ]]; then upgrade; fi
first_apply
for name in "${cases[@]}"; do
    if [ "$name" = upgrade ]; then
        continue
    elif [[ $only_kit == *" $name "* ]] && [ "$kind_of_cluster" != kit ]; then
        echo "skipped: $name: only with the test cluster kit" | tee -a "$table"
    else
        "$name"
    fi
done
printf '%s s\n' $((SECONDS - started)) | tee -a "$table"
exit "$failed"
