#!/bin/bash
# The demo (`make demo`): a cluster of three managers and two workers on this machine, with real Docker
# engines and containers, put through what an operator does and fears. Each command is shown as one would
# type it; each claim is checked. --keep leaves the lab up. Exit status 0 if everything held.
set -u
here=$(cd "$(dirname "$0")" && pwd)
PATH=$here:$PATH
. "$here/lib/ask.sh"
keep='' step=0
[ "${1:-}" != --keep ] || keep=1
[ -t 1 ] && bold=$'\e[1m' dim=$'\e[2m' off=$'\e[0m' || bold='' dim='' off=''

failed() {
    echo
    echo "${bold}demo: FAILED at step $step: $*${off}"
    lab ps 2>/dev/null
    exit 1
}

finish() {
    local rc=$?
    trap - EXIT
    if [ -n "$keep" ] && lab ps >/dev/null 2>&1; then
        cat <<TEXT
The lab is up. Try:
  alias lab=$here/lab
  lab ctl node ls        lab ctl service create --name web -p 8080:80 busybox httpd -f -p 80
  lab exec m1 bash       lab kill w1       lab logs m1 managerd       lab help
and when done: lab down
TEXT
    else
        lab down || rc=1
    fi
    [ $rc -ne 0 ] || echo "${bold}demo: done, all $step steps held${off}"
    exit $rc
}

say() {
    step=$((step + 1))
    echo
    echo "${bold}$step. $*${off}"
}

# quote WORD...: as one would type it.
quote() {
    local w out=
    for w; do
        case $w in *[!a-zA-Z0-9_=./:,@%+-]* | '') w="'$w'" ;; esac
        out="$out $w"
    done
    echo "${out# }"
}

# run ctl|lab WORD...: shows and runs; the demo ends if it fails.
run() {
    local program=$1
    shift
    echo "${dim}\$ $program $(quote "$@")${off}"
    if [ "$program" = ctl ]; then set -- ctl "$@"; fi
    lab "$@" || failed "'$program $1 ${2:-}' failed"
}

# within SECONDS WHAT COMMAND...: waits for it, and says how long it took.
within() {
    local seconds=$1 what=$2 start=${EPOCHREALTIME/./} ms
    shift 2
    until "$@" >/dev/null 2>&1; do
        ms=$(((${EPOCHREALTIME/./} - start) / 1000))
        [ $ms -lt $((seconds * 1000)) ] || failed "$what: not within $seconds s"
        sleep 0.2
    done
    ms=$(((${EPOCHREALTIME/./} - start) / 1000))
    printf '   => %s (%d.%d s)\n' "$what" $((ms / 1000)) $((ms % 1000 / 100))
}

untouched() {
    local gone
    gone=$(lost "$@")
    [ -z "$gone" ] || failed "containers on other hosts were touched: $gone"
    echo "   => every container on the other hosts is the same one, never restarted"
}
logs_say() { ctl service logs --tail 1 "$1" | grep -q "$2"; }

three_answer() { slots 3 < <("$@"); }

trap finish EXIT
trap 'exit 130' INT TERM HUP

say "A cluster of three managers and two workers"
run lab up -m 3 -w 2
run ctl node ls

say "A service of 6 replicas"
run ctl service create --name hello --replicas 6 --env GREETING=hello --update-parallelism 2 \
    --update-monitor 1s --rollback-parallelism 2 --rollback-monitor 1s --stop-grace-period 2s \
    busybox sh -c "$TALK"
within 30 "6 tasks run" tasks_run hello 6
run ctl service ls
run ctl service ps hello

say "Its logs, collected from all hosts"
within 10 "every task has spoken" logs_say hello 'hello from'
run ctl service logs --tail 1 hello

say "Scaling"
run ctl service scale hello=10
within 30 "10 tasks run" tasks_run hello 10

say "A rolling update, two tasks at a time"
run ctl service update --env-add GREETING=goodbye hello
within 60 "10 tasks run" tasks_run hello 10
within 10 "they run the new version" logs_say hello 'goodbye from'
run ctl service ps hello --filter desired-state=running

say "And back"
run ctl service rollback hello
within 60 "10 tasks run" tasks_run hello 10
within 10 "they run the old version again" logs_say hello 'hello from'

say "Two services on a network of their own find each other by name, from any host"
run ctl network create back
run ctl service create --name web --replicas 3 --network back --publish 8080:80 --stop-grace-period 2s --update-monitor 1s \
    --env 'SLOT={{.Task.Slot}}' busybox sh -c "$SERVE"
run ctl service create --name shell --mode global --network back --stop-grace-period 1s --update-monitor 1s busybox sleep 3600
for h in m1 w2; do
    echo "${dim}\$ wget -O - http://web/     (in a task on $h, 12 times)${off}"
    by_name() { in_task shell "$1" sh -c 'for i in $(seq 12); do /bin/wget -q -T 3 -O - http://web/ || echo failed; done' | sort | uniq -c; }
    within 10 "every replica answers" three_answer by_name $h
done

say "Any node answers a published port"
for h in m1 m2 w1; do
    address=$(host_address $h)
    echo "${dim}\$ curl http://$address:8080/     (from a client outside, 12 times)${off}"
    from_client() { fetch client "$1:8080" 12; }
    within 10 "every replica answers through $h" three_answer from_client "$address"
done
run ctl network inspect -v --format '{{json .Services}}' back
run ctl net check
run ctl service rm web shell
within 30 "the network is free" ctl network rm back
gone() { engines_run web 0 && engines_run shell 0; }
within 30 "their containers are gone" gone

say "A worker loses power: its tasks move, the others do not notice"
others=$(engines_but w2)
before=$(containers $others)
run lab kill w2
within 60 "w2 is seen as down" node_is w2 Down
within 30 "10 tasks run elsewhere" none_on hello w2 10
run ctl node ls
untouched "$before" $others
run lab start w2
within 30 "w2 is back" node_is w2 Ready

say "The leading manager loses power: another takes over, nothing is lost"
old=$(leader)
others=$(engines_but "$old")
before=$(containers $others)
run lab kill "$old"
within 20 "a new manager leads" new_leader "$old"
run ctl node ls
run ctl service create --detach --name after --replicas 2 --env GREETING=still busybox sh -c "$TALK"
within 30 "a service created right after runs" tasks_run after 2
within 60 "10 tasks of the old service run" none_on hello "$old" 10
untouched "$before" $others
run lab start "$old"
within 30 "$old is back" node_is "$old" "Ready Reachable"
run ctl service rm after

say "A constraint"
run ctl node update --label-add disk=ssd w1
run ctl service create --name db --replicas 2 --constraint node.labels.disk==ssd --stop-grace-period 2s --update-monitor 1s \
    --env GREETING=db busybox sh -c "$TALK"
within 30 "both tasks run on w1" only_on db w1 2
run ctl service ps db

say "Draining a node"
run ctl node update --availability drain w2
within 30 "w2 is empty, 10 tasks run elsewhere" none_on hello w2 10
run ctl node update --availability active w2

say "Removal"
run ctl service rm hello db
within 30 "no container is left on any host" no_containers
run ctl service ls
