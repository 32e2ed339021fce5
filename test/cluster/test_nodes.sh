#!/bin/bash
# Nodes: drain, pause, labels, promote, demote, leave, removal.
# lab: own
# seconds: 400
. "$(dirname "$0")/lib/test.sh"
export SKEP_LAB_DIR=/run/skep-nodes-$$
trap 'lab down' EXIT
check "a lab" lab up -m 3 -w 2

check "a service of 6" create steady 6
eventually 30 "6 tasks run" engines_run steady 6
check "drain w1" ctl node update --availability drain w1
eventually 30 "it is empty" none_on steady w1 6
eventually 30 "6 containers run" engines_run steady 6
check "pause w2" ctl node update --availability pause w2
before=$(containers w2)
check "scale up" ctl service scale --detach steady=9
eventually 30 "9 tasks run" engines_run steady 9
same "none of the new ones on w2" "$before" "$(containers w2)"
check "activate both" ctl node update --availability active w1
check "activate both" ctl node update --availability active w2
check "a global service" ctl service create --detach --name everywhere --mode global --stop-grace-period 2s busybox sh -c "$TALK"
eventually 30 "runs once on each node" engines_run everywhere 5
check "label a node" ctl node update --label-add zone=a w1
says "the label is kept" "zone" ctl node inspect w1

check "promote w1" ctl node promote w1
eventually 20 "it is a manager" node_is w1 "Ready Reachable"
answers() { lab exec "$1" timeout 5 ctl node ls -q; }
eventually 10 "it answers" answers w1
check "demote m2" ctl node demote m2
not_manager() { nodes | grep -qx "$1 Ready *"; }
eventually 20 "it is a worker" not_manager m2
silent() { ! lab exec "$1" timeout 5 ctl node ls && lab exec "$1" timeout 5 ctl node ls 2>&1 | grep 'not a swarm manager'; }
eventually 20 "it does not answer for the cluster any more" silent m2
eventually 20 "its tasks run on" engines_run everywhere 5
old=$(leader)
check "demote the leader $old" ctl node demote "$old"
eventually 20 "another one leads" has_leader
eventually 20 "it is a worker" not_manager "$old"
eventually 20 "it does not answer for the cluster any more" silent "$old"
check "promote $old again" ctl node promote "$old"
eventually 20 "it is a manager again" node_is "$old" "Ready Reachable"

check "w2 leaves" lab exec w2 ctl swarm leave
eventually 60 "it is seen as down" node_is w2 Down
eventually 30 "its containers are gone or elsewhere" engines_run steady 9
check "it is removed" ctl node rm w2
same "four nodes are left" 4 "$(ctl node ls -q | wc -l)"
token=$(ctl swarm join-token -q worker)
check "it joins again" lab exec w2 ctl swarm join --token "$token" --advertise-addr 10.77.0.102 10.77.0.11:2377
eventually 20 "it is ready" node_is w2 Ready
eventually 30 "and runs its part" engines_run everywhere 5

check "remove the services" ctl service rm steady everywhere
eventually 30 "no container is left" no_containers
check "down" lab down
check "nothing is left" lab leftovers
finish
