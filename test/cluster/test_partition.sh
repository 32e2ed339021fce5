#!/bin/bash
# Cut links: a leader cut off steps back and answers nothing stale, a worker cut off keeps its containers
# and gives them up when it returns, and a half-open mesh does not make the leaders change all the time.
# lab: -m 3 -w 2
# seconds: 480
. "$(dirname "$0")/lib/test.sh"

cut_off() { # HOST OTHERS...
    local host=$1 h
    shift
    for h; do [ "$h" = "$host" ] || lab partition "$host" "$h" || return 1; done
}
# on HOST ctl...: asks one particular manager.
on() {
    local host=$1
    shift
    lab exec "$host" timeout 10 ctl "$@"
}
leader_by() { on "$1" node ls --format '{{.Hostname}} {{.ManagerStatus}}' | sed -n 's/ Leader$//p'; }
leads_other() { [ -n "$(leader_by "$1")" ] && [ "$(leader_by "$1")" != "$2" ]; }

check "a service of 6" create steady 6
eventually 30 "6 tasks run" engines_run steady 6

old=$(leader)
rest=$(for h in m1 m2 m3; do [ $h = "$old" ] || echo $h; done)
one=$(head -n 1 <<<"$rest")
before=$(containers $(engines))
check "cut off the leading manager from everybody" cut_off "$old" m1 m2 m3 w1 w2
eventually 10 "the majority has another leader" leads_other "$one" "$old"
check "it takes a change" on "$one" service create --detach --name new --replicas 0 busybox true
refuses "the old leader takes none" "quorum|leader" on "$old" service create --detach --name lost --replicas 0 busybox true
says_not "and does not answer from memory" "steady" on "$old" service ls
check "heal" lab heal
eventually 20 "the old leader knows the change" on "$old" service inspect new
refuses "what it refused did not happen" "no such service|not found" on "$old" service inspect lost
check "remove it" ctl service rm new
eventually 30 "all nodes are ready" all_ready 5
eventually 60 "6 containers run" engines_run steady 6

check "cut off w1 from all managers" cut_off w1 m1 m2 m3
before=$(containers w1)
eventually 60 "it is seen as down" node_is w1 Down
eventually 60 "6 tasks run elsewhere" none_on steady w1 6
same "its containers run on meanwhile" "" "$(lost "$before" w1)"
check "heal" lab heal
eventually 30 "it is ready again" node_is w1 Ready
eventually 30 "6 containers run on all hosts, no more" engines_run steady 6

# m1 - m2 - m3 with m1 and m3 apart: everybody reaches a majority through m2.
check "cut only the link between m1 and m3" lab partition m1 m3
eventually 20 "m2 knows a leader" leader_by m2
sleep 3
first=$(leader_by m2)
changes=0
for i in $(seq 20); do
    sleep 0.5
    [ "$(leader_by m2)" = "$first" ] || changes=$((changes + 1))
done
check "the leader stays for ten seconds ($changes of 20 looks differ)" test "$changes" -le 1
check "changes are taken" on m2 service scale --detach steady=7
# An agent that cannot reach the leader counts as down, and its tasks are replaced.
eventually 60 "and carried out" tasks_run steady 7
check "heal" lab heal
eventually 30 "all nodes are ready" all_ready 5
eventually 30 "7 containers run on all hosts, no more" engines_run steady 7

# One-way: what m1 says does not arrive at m2, but m1 hears everybody.
for pair in "m1 m2" "m2 m1" "m2 m3" "m3 m1"; do
    # shellcheck disable=SC2086
    check "cut $pair one way" lab partition $pair --one-way
    eventually 20 "a leader is there" has_leader
    eventually 20 "changes are taken" ctl service update --detach --label-add "pair=${pair// /-}" steady
    check "heal" lab heal
done
eventually 30 "all nodes are ready" all_ready 5
check "remove the service" ctl service rm steady
eventually 30 "no container is left" no_containers
finish
