#!/bin/bash
# Frozen processes: a paused leader is replaced and serves nothing stale when it wakes; a hung engine
# does not silence its agent, and its tasks are not doubled.
# lab: -m 3 -w 2
# seconds: 400
. "$(dirname "$0")/lib/test.sh"

stays_ready() {
    local i
    for i in $(seq 20); do
        node_is "$1" Ready || return 1
        sleep 1
    done
}

check "a service of 6" create steady 6
eventually 30 "6 tasks run" engines_run steady 6
before=$(containers $(engines))

old=$(leader)
check "pause the leader's managerd" lab pause "$old" managerd
eventually 15 "another one leads" new_leader "$old"
check "a change is taken" ctl service create --detach --name meanwhile --replicas 0 busybox true
check "wake the old leader" lab resume "$old" managerd
known() { lab exec "$1" timeout 10 ctl service ls --format '{{.Name}}'; }
says "its first answer knows the change" "meanwhile" known "$old"
eventually 20 "it follows" node_is "$old" "Ready Reachable"
check "remove it" ctl service rm meanwhile

check "pause the engine of w1" lab pause w1 dockerd
check "its node stays ready for 20 s" stays_ready w1
same "nothing was started elsewhere for its tasks" \
    "$(grep -v '^w1 ' <<<"$before")" "$(containers $(engines_but w1))"
check "wake it" lab resume w1 dockerd
eventually 30 "6 containers run" engines_run steady 6
same "all the same" "" "$(lost "$before" $(engines))"

check "pause the agent of w2 for longer than the nodes' patience" lab pause w2 agentd
eventually 60 "its node is seen as down" node_is w2 Down
eventually 60 "6 tasks run elsewhere" none_on steady w2 6
check "wake it" lab resume w2 agentd
eventually 30 "it is ready" node_is w2 Ready
eventually 30 "6 containers run, no more" engines_run steady 6

check "pause a whole host for 3 s" lab pause m2
sleep 3
check "wake it" lab resume m2
eventually 30 "all nodes are ready" all_ready 5
eventually 30 "6 containers run" engines_run steady 6
check "remove the service" ctl service rm steady
eventually 30 "no container is left" no_containers
finish
