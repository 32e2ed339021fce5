#!/bin/bash
# Networks under faults: what is removed by hand comes back, what dies leaves names and balancers.
# lab: own
# seconds: 300
. "$(dirname "$0")/lib/test.sh"
export SKEP_LAB_DIR=/run/skep-netfault-$$
trap 'lab down' EXIT
check "a lab" lab up -m 1 -w 3

check "a network" ctl network create back
check "web on the workers" web web 6 --network back --publish 8080:80 --constraint node.role==worker
check "a client task" ctl service create -q --wait-timeout 40s --name shell --network back --constraint node.hostname==m1 --stop-grace-period 1s busybox sleep 3600
ask() { in_task shell m1 sh -c "for i in \$(seq $1); do /bin/wget -q -T 2 -O - http://web/ || echo failed; done" | sort | uniq -c; }
all_answer() { slots "$1" < <(ask 24) && slots "$1" < <(fetch client 10.77.0.11:8080 24); }
check "all six answer" all_answer 6

# ---- by hand ----------------------------------------------------------------------------------------
in_router() { lab exec "$1" nsenter --net="/run/skep/netns/$(ctl network inspect --format '{{.Id}}' back)" "${@:2}"; }
for what in "nft flush ruleset in the router|in_router m1 nft flush ruleset" \
    "nft flush ruleset on the host|lab exec m1 nft flush ruleset" \
    "the forwarding entries|in_router m1 sh -c 'bridge fdb show dev vxlan0 | while read -r mac rest; do bridge fdb del \$mac dev vxlan0 self; done'" \
    "the routes|in_router m1 ip route flush proto 77" \
    "the VXLAN device|in_router m1 ip link del vxlan0"; do
    check "remove ${what%%|*}" eval "${what#*|}"
    eventually 10 "it is healed, all six answer" all_answer 6
done
check "nothing differs in the end" ctl net check
# Healing takes a moment and so does ctl: whichever is first. Some of the tries see the difference.
broken() {
    local i
    for ((i = 0; i < 20; i++)); do
        in_router w1 ip route flush proto 77
        ctl net check || return 0
    done
}
says "a difference is told" "missing|unexpected|differs" broken
eventually 10 "and mended" ctl net check

# ---- daemons and hosts ------------------------------------------------------------------------------
before=$(containers $(engines))
check "kill agentd of w1" lab kill w1 agentd
check "its tasks still answer" all_answer 6
check "start it" lab start w1 agentd
eventually 30 "w1 is ready" node_is w1 Ready
same "no container was restarted" "" "$(lost "$before" $(engines))"
check "all six answer" all_answer 6
check "nothing differs" ctl net check

id=$(task_on web w2)
check "kill a task" lab docker w2 kill "$id"
eventually 30 "six run again" engines_run web 6
eventually 10 "all six answer, none fails" all_answer 6

check "the power of w3 goes" lab kill w3
eventually 60 "w3 is seen as down" node_is w3 Down
eventually 30 "six run elsewhere" none_on web w3 6
eventually 10 "all six answer, none fails" all_answer 6
check "w3 boots" lab start w3
eventually 30 "w3 is ready" node_is w3 Ready
w3_answers() { slots 6 < <(fetch client 10.77.0.103:8080 24); }
eventually 10 "w3 answers for the published port" w3_answers

check "the manager restarts" lab kill m1 managerd
check "tasks answer without it" all_answer 6
check "start it" lab start m1 managerd
eventually 30 "it answers" ctl node ls -q
eventually 20 "all six answer" all_answer 6
eventually 20 "nothing differs" ctl net check
finish
