#!/bin/bash
# Two of three managers dead: the third says so at once, who was seen when, and what to do.
# lab: -m 3 -w 1
# seconds: 300
. "$(dirname "$0")/lib/test.sh"

check "a service of 4" create steady 4
eventually 30 "4 tasks run" engines_run steady 4
keep=$(leader)
gone=$(followers)
before=$(containers $(engines))
check "kill two of three managers" kill_all managerd $gone
sleep 4

# ms COMMAND...: runs it; how long it took is in $took.
ms() {
    local start=${EPOCHREALTIME/./} rc
    "$@"
    rc=$?
    took=$(((${EPOCHREALTIME/./} - start) / 1000))
    return $rc
}
# ask COMMAND...: asks the survivor. Its answer must come within 2 s, and what a busy machine adds: three
# times of what `ctl info`, which waits for nobody, takes at that moment.
ask() {
    local plain rc
    ms lab exec "$keep" ctl info >/dev/null
    plain=$took
    ms lab exec "$keep" ctl "$@"
    rc=$?
    [ $took -le $((2000 + 3 * plain)) ] || echo "took $took ms, and ctl info $plain ms"
    return $rc
}
for command in "node ls" "service ls" "service scale --detach steady=5" "service create --detach busybox true"; do
    # shellcheck disable=SC2086
    refuses "'$command' says there is no quorum" "does not have a leader" ask $command
    # shellcheck disable=SC2086
    says_not "within 2 s" "took" ask $command
done
answer=$(ask node ls 2>&1)
for h in $gone; do
    says "it names $h and when it was last seen" "$h .*last seen [0-9]+ seconds ago" echo "$answer"
done
says "it says how many are needed" "2 of 3 managers must reach each other" echo "$answer"
says "what to do" "Start managerd where it is down" echo "$answer"
says "and what to do if they are lost for good" "force-new-cluster" echo "$answer"
says "and how to look all the same" "with --stale what this manager last knew" echo "$answer"
says "'service ls --stale' shows what it knew" "steady .* 4/4" ask service ls --stale
same "'service ps --stale' all tasks" 4 "$(ask service ps --stale -q --filter desired-state=running steady | wc -l)"
says "'service inspect --stale'" '"Name": "steady"' ask service inspect --stale steady
same "'node ls --stale' the nodes" 4 "$(ask node ls --stale -q | wc -l)"
says_not "and no leader among them" "Leader" ask node ls --stale --format '{{.Hostname}} {{.ManagerStatus}}'
same "containers run on" "" "$(lost "$before" $(engines))"

back=$(head -n 1 <<<"$gone")
check "one of them comes back" lab start "$back" managerd
eventually 20 "a leader is there, by itself" has_leader
check "changes are taken" ctl service scale --detach steady=5
eventually 30 "and carried out" engines_run steady 5
same "no container was touched by all this" "" "$(lost "$before" $(engines))"
for h in $gone; do [ "$h" = "$back" ] || check "the other one too" lab start "$h" managerd; done
eventually 30 "all nodes are ready" all_ready 4
check "remove the service" ctl service rm steady
eventually 30 "no container is left" no_containers
finish
