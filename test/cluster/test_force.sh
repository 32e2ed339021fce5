#!/bin/bash
# The majority is lost for good: one survivor becomes the cluster, and old members come back as workers.
# lab: own
# seconds: 120
. "$(dirname "$0")/lib/test.sh"
trap 'lab down 2>/dev/null' EXIT

# A worker's manager status is empty.
says_worker() { lab exec m1 ctl node ls --format '{{.Hostname}} {{.Status}}/{{.ManagerStatus}}' | grep -q "^$1 Ready/$"; }

check "a cluster" lab up -m 3 -w 1
check "a service of 3" create steady 3
eventually 30 "3 tasks run" engines_run steady 3
before=$(containers w1)
refuses "only a manager can do this" "needs a manager's data" lab exec w1 ctl swarm init --force-new-cluster
check "cut the power of m2 and m3" lab kill m2 m3
sleep 3
refuses "m1 alone has no quorum" "does not have a leader" lab exec m1 ctl service ls
refuses "nor can it say that its state is the newest" "does not have a leader" lab exec m1 ctl cluster backup /run/b
says "it saves what it has when asked to" "objects at version" lab exec m1 ctl cluster backup --stale /run/b
check "make m1 the cluster" lab exec m1 ctl swarm init --force-new-cluster --advertise-addr 10.77.0.11
says "it leads" "m1 .*Leader" lab exec m1 ctl node ls
says "it knows the service" "steady" lab exec m1 ctl service ls
check "it takes changes" lab exec m1 ctl service scale --detach steady=4
same "containers of the worker were not touched" "" "$(lost "$before" w1)"
eventually 40 "4 tasks run" engines_run steady 4
check "m2 comes back" lab start m2
eventually 30 "as a worker" says_worker m2
check "it may become a manager again" lab exec m1 ctl node promote m2
eventually 30 "and does" node_is m2 "Ready Reachable"
finish
