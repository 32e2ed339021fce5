#!/bin/bash
# kill -9 of every daemon: containers elsewhere are not touched, the desired state is reached again.
# lab: -m 3 -w 2
# seconds: 400
. "$(dirname "$0")/lib/test.sh"

# killed HOST DAEMON: kills it while 8 tasks run, starts it again, and checks what must hold. An engine
# takes its own containers along; every other daemon takes none.
killed() {
    local host=$1 daemon=$2 before safe gone
    eventually 30 "8 tasks run before $daemon on $host dies" engines_run steady 8
    safe=$(engines)
    [ "$daemon" != dockerd ] || safe=$(engines_but "$host")
    before=$(containers $safe)
    check "kill $daemon on $host" lab kill "$host" "$daemon"
    sleep 1
    check "start it" lab start "$host" "$daemon"
    eventually 30 "all nodes are ready" all_ready 5
    eventually 60 "8 tasks run, says the cluster" tasks_run steady 8
    eventually 30 "8 containers run, say the engines" engines_run steady 8
    gone=$(lost "$before" $safe)
    same "no other container was touched" "" "$gone"
}

check "a service of 8" create steady 8
killed w1 agentd
killed m2 agentd
killed w2 dockerd
killed m3 dockerd
killed "$(followers | head -n 1)" managerd
killed "$(leader)" managerd
killed w1 managerd

# While a manager is gone, work goes on: changes are taken and carried out.
before=$(containers $(engines))
old=$(leader)
check "kill the leader's managerd" lab kill "$old" managerd
eventually 10 "another one leads" new_leader "$old"
check "a change is taken" ctl service scale --detach steady=10
eventually 30 "and carried out" engines_run steady 10
check "the old leader comes back" lab start "$old" managerd
eventually 30 "as a follower" node_is "$old" "Ready Reachable"
same "no container was touched" "" "$(lost "$before" $(engines))"

# All managers at once: containers run on, and everything is known afterwards.
before=$(containers $(engines))
check "kill every manager" kill_all managerd m1 m2 m3
sleep 2
same "no container was touched without managers" "" "$(lost "$before" $(engines))"
for h in m1 m2 m3; do check "start managerd on $h" lab start $h managerd; done
eventually 30 "a leader is there" has_leader
eventually 30 "all nodes are ready" all_ready 5
eventually 30 "10 tasks run" tasks_run steady 10
sleep 3
same "no container was touched by their return" "" "$(lost "$before" $(engines))"
same "and none was added" 10 "$(engine_count steady)"

check "remove the service" ctl service rm steady
eventually 30 "no container is left" no_containers
finish
