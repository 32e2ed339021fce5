#!/bin/bash
# A manager with TASKS (100 000) tasks is killed and started again: how long until it has answered a
# linearizable `ctl service ls`, over ROUNDS starts. The tasks wait, since no node may run them: they are
# in the store, the snapshot and the log all the same. Prints the median and the slowest in milliseconds.
# Goal: 2 000 (issue "Consensus and store").
set -u
cd "$(dirname "$0")/../.." || exit 1
rounds=${ROUNDS:-5} tasks=${TASKS:-100000}
export SKEP_LAB_DIR=${SKEP_LAB_DIR:-/run/skep-bench}
lab=test/cluster/lab
trap '$lab down' EXIT
$lab up -m 1 -w 0 || exit 1

now_ms() { echo $(($(date +%s%N) / 1000000)); }
held() { $lab ctl service ps -q --filter desired-state=running many | wc -l; }

$lab ctl service create -q --detach --name many --replicas "$tasks" --constraint node.labels.x==none busybox true >/dev/null || exit 1
for ((i = 0; i < 120; i++)); do [ "$(held)" -ge "$tasks" ] && break || sleep 1; done
[ "$(held)" -ge "$tasks" ] || { echo "only $(held) tasks" >&2 && exit 1; }
sleep 5 # for the snapshot that is due

samples=()
for ((i = 1; i <= rounds; i++)); do
    $lab kill m1 managerd || exit 1
    begin=$(now_ms)
    $lab start m1 managerd >/dev/null || exit 1
    until $lab exec m1 ctl service ls -q >/dev/null 2>&1; do sleep 0.02; done
    samples+=($(($(now_ms) - begin)))
    [ "$(held)" -eq "$tasks" ] || { echo "tasks are missing after start $i" >&2 && exit 1; }
done
mapfile -t sorted < <(printf '%s\n' "${samples[@]}" | sort -n)
rss=$($lab exec m1 sh -c 'grep VmRSS /proc/$(pidof managerd)/status' | awk '{ print $2 }')
printf 'restart with %d tasks: median %d ms, slowest %d ms of %d (goal 2000); resident %d KiB, %d bytes per task\n' \
    "$tasks" "${sorted[$((rounds / 2))]}" "${sorted[$((rounds - 1))]}" "$rounds" "${rss:-0}" $((${rss:-0} * 1024 / tasks))
