#!/bin/bash
# Containers on overlay networks, as real engines start them: interfaces before the process, whatever
# the container looks like; errors of the real program; an agent that is killed on the way; networks
# that the engine makes.
# lab: -m 1 -w 1
# seconds: 200
. "$(dirname "$0")/lib/test.sh"

# service NAME [FLAGS...] -- COMMAND...: one task on the network `attach`, not waited for.
service() {
    local name=$1 flags=()
    shift
    while [ "$1" != -- ]; do flags+=("$1") && shift; done
    shift
    ctl service create --detach --name "$name" --network attach "${flags[@]}" busybox "$@"
}
logged() { ctl service logs --raw "$1" 2>&1 | grep -qE -- "$2"; }
error_of() { ctl service ps "$1" --no-trunc --format '{{.Error}}'; }
failed_with() { error_of "$1" | grep -qF -- "$2"; }
# in_tasks SERVICE COMMAND...: runs it in every container of the service; all must succeed.
in_tasks() {
    local name=$1 h id found=1
    shift
    for h in m1 w1; do
        for id in $(lab docker $h ps -q --filter "name=^/$name\\."); do
            lab docker $h exec "$id" "$@" || return 1
            found=0
        done
    done
    return $found
}
engine_networks() { for h in m1 w1; do lab docker $h network ls --format '{{.Name}}'; done | grep -c "^$1\$"; }
no_engine_network() { [ "$(engine_networks "$1")" -eq 0 ]; }
routers() { for h in m1 w1; do lab exec $h ls /run/skep/netns; done; }

# Says what the first process finds, before anything else could have happened.
SEEN='ip -4 -o addr show eth0 && ip route | grep ^default && grep "$(hostname)" /etc/hosts'

check "a network" ctl network create attach
for kind in "plain" "user --user 1234:55" "readonly --read-only" "init --init" "named --hostname db.example.org" \
    "caps --cap-drop ALL"; do
    # shellcheck disable=SC2086
    check "a task: $kind" service at-$kind -- sh -c "$SEEN && echo complete && sleep 1000"
done
check "a task with a terminal" service at-tty -t -- sh -c "$SEEN && test -t 0 && echo complete && sleep 1000"
check "a task with a relative program" service at-rel -w /bin -- ./sh -c "$SEEN && echo complete && sleep 1000"
for name in plain user readonly init named caps tty rel; do
    eventually 40 "at-$name runs" tasks_run "at-$name" 1
    eventually 10 "at-$name had all of it at once" logged "at-$name" complete
done
check "every task finds another by name" in_tasks at-plain sh -c 'nslookup at-user && nslookup tasks.at-init'

# The real program's errors are the task's, in the engine's words.
service at-none --restart-condition none -- no-such-program >/dev/null
service at-noexec --restart-condition none -- /etc/passwd >/dev/null
eventually 20 "a program that is not there" failed_with at-none \
    'starting container failed: exec: "no-such-program": executable file not found in $PATH'
eventually 20 "a program that is none" failed_with at-noexec 'exec: "/etc/passwd": permission denied'

# Health checks are the engine's and run inside.
check "a health check over the network" service at-health --health-cmd 'nslookup at-plain' --health-interval 1s -- \
    sleep 1000
eventually 30 "is passed" tasks_run at-health 1

# An agent that dies at any moment: every task ends up running and started once, none is replaced.
check "8 tasks" service at-many --replicas 8 -- sh -c "$SEEN && echo complete && sleep 1000"
for _ in 1 2 3 4; do
    sleep 0.7
    lab kill w1 agentd >/dev/null && lab start w1 agentd >/dev/null
done
eventually 60 "8 run after four deaths of an agent" tasks_run at-many 8
same "and none was replaced" 8 "$(ctl service ps at-many -q | wc -l)"
check "all have their addresses" in_tasks at-many ip route get 10.0.0.1
says "nothing differs in any kernel" "no differences" ctl network check

# Stopped while it waits or runs: gone, and the network with it.
check "remove the services" ctl service rm at-plain at-user at-readonly at-init at-named at-caps at-tty at-rel \
    at-none at-noexec at-health at-many
eventually 40 "no container is left" no_containers
id=$(ctl network inspect attach --format '{{.ID}}')
gone() { ! routers | grep -q "$id"; }
eventually 20 "no namespace of the network is left" gone
check "remove the network" ctl network rm attach

# Networks that engines make.
check "a bridge network" ctl network create -d bridge at-side
check "a network beside it" ctl network create attach
check "a task on both" service at-both --network at-side -- sleep 1000
eventually 30 "runs" tasks_run at-both 1
same "one engine has the bridge" 1 "$(engine_networks at-side)"
check "it finds itself by name" in_tasks at-both nslookup at-both
check "remove it" ctl service rm at-both
eventually 30 "the engine's network is gone with its last task" no_engine_network at-side
check "remove the networks" ctl network rm at-side attach
finish
