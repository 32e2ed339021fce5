#!/bin/bash
# Dies at every failure point (common/failpoint.h): three managers are armed with one point after the
# other under load, and a fourth one joins and leaves where only that passes there. Whoever dies, half
# of the time with what a power cut leaves, is started again; the cluster must take writes through
# every manager, and what the clients saw in all that time is judged at the end.
#   points.sh [--points N] [--seed S]     N points chosen by the seed; default: all
# Prints a line per point. Needs root and `make FAILPOINTS=1 torture`.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BIN=${SKEP_BUILD:-$(cd "$here/../.." && pwd)/build/failpoints}
. "$here/lib.sh"
go_inside "$@"
points='' seed=1
while [ $# -gt 0 ]; do
    case $1 in
    --points) points=$2 ;;
    --seed) seed=$2 ;;
    *) die "unknown argument '$1'" ;;
    esac
    shift 2
done
RANDOM=$((seed % 32768))
passed=0 failed=0 deaths=0 unreached=()

problem() {
    echo "problem: $1"
    bad=1
}

# Looks after the armed: who died comes back without a point.
revive() {
    local n
    for n; do
        [ "${state[$n]:-dead}" = up ] && ! manager_runs "$n" || continue
        manager_wait "$n"
        [ "$exit_status" -eq 137 ] || problem "m$n ended with $exit_status: $(tail -n 1 "$W/m$n.log")"
        deaths=$((deaths + 1))
        [ $((RANDOM % 2)) -eq 0 ] || manager_crash "$n" $RANDOM
        manager_start "$n"
    done
}

# watch SECONDS MEMBERS… until one of them has died
watch() {
    local end=$((SECONDS + $1)) before=$deaths
    shift
    while [ $SECONDS -lt $end ] && [ $deaths -eq $before ]; do
        sleep 0.1
        revive "$@"
    done
}

arm() { # POINT MEMBERS…
    local point=$1 n
    shift
    for n; do
        manager_kill "$n" KILL
        manager_start "$n" "SKEP_FAILPOINTS=$point=exit@$((RANDOM % 3 + 1))"
    done
}

# A leader that stands still loses its leadership, and hears of it when it goes on.
shake_leader() {
    local n
    n=$(leader)
    manager_signal "$n" STOP
    sleep 1.5
    manager_signal "$n" CONT
}

join() {
    local token
    token=$(ctl 1 swarm join-token -q manager 2>/dev/null || ctl 2 swarm join-token -q manager 2>/dev/null)
    ctl 4 swarm join --token "$token" --advertise-addr "$NET.4" "$NET.1:2377" "$NET.2:2377" >/dev/null 2>&1
}

is_member() { ctl 4 info --format '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}' 2>/dev/null | grep -q 'active true'; }

# Joins until it has: what an operator would do after a crash in the middle.
join_at_last() {
    revive 1 2 3 4
    is_member && return
    join || { ctl 4 swarm leave --force >/dev/null 2>&1 && join; }
    is_member
}

leave_at_last() {
    revive 1 2 3 4
    ctl 4 swarm leave --force >/dev/null 2>&1
    ctl 4 info --format '{{.Swarm.LocalNodeState}}' 2>/dev/null | grep -q inactive
}

# A fourth manager comes and goes. It needs the others' majority, so they are looked after meanwhile.
visit() { # POINT
    local joining
    manager_dirs 4
    manager_start 4 "SKEP_FAILPOINTS=$1=exit@1"
    wait_for 10 manager_serves 4
    join &
    joining=$!
    watch 4 1 2 3 4
    wait $joining
    wait_for 60 join_at_last || problem "m4 cannot join: $(tail -n 1 "$W/m4.log")"
    [ $deaths -gt 0 ] || manager_kill 4 KILL
    [ $deaths -gt 0 ] || manager_start 4 "SKEP_FAILPOINTS=$1=exit"
    [ $deaths -gt 0 ] || wait_for 10 manager_serves 4
    leave_at_last || wait_for 60 leave_at_last || problem "m4 cannot leave: $(tail -n 1 "$W/m4.log")"
    revive 4
    manager_kill 4 KILL
    rm -rf "$W/m4" "$W/m4.journal"
    forget() { revive 1 2 3; forget_visitors 1; }
    wait_for 60 forget || problem "m4 cannot be removed"
    [ $deaths -gt 0 ] || watch 3 1 2 3
}

writes() {
    revive 1 2 3
    ctl "$1" node update --label-add "p=$RANDOM" "$(ctl "$1" node ls -q 2>/dev/null | head -n 1)" >/dev/null 2>&1
}

try_point() {
    local n
    deaths=0 bad=0
    arm "$1" 1 2 3
    watch 2 1 2 3
    [ $deaths -gt 0 ] || shake_leader
    [ $deaths -gt 0 ] || watch 2 1 2 3
    case $1 in
    file.* | keyring* | member* | conf.* | snap.[rils]* | *.remove.*) [ $deaths -gt 2 ] || visit "$1" ;;
    *) [ $deaths -gt 0 ] || visit "$1" ;;
    esac
    for n in 1 2 3; do wait_for 60 writes $n || problem "no write through m$n"; done
    for n in 1 2 3; do manager_kill $n KILL && manager_start $n; done # nobody is armed any more
    for n in 1 2 3; do wait_for 60 writes $n || problem "no write through m$n after a restart"; done
    [ $deaths -gt 0 ] || unreached+=("$1")
    [ $bad -eq 0 ] && passed=$((passed + 1)) || failed=$((failed + 1))
    printf '%-24s %d deaths%s\n' "$1" $deaths "$([ $bad -eq 0 ] || echo ' FAILED')"
}

cluster_up 3
host_up 4
residents=$(ctl 1 node ls -q)
ctl 1 swarm update --snapshot-interval 50 >/dev/null || die "no snapshot interval"
# shellcheck disable=SC2046
"$BIN/torture/client" setup $(sockets 3) 2>>"$W/client.log" || die "no keys"
clients_start 100000 "$seed" 1
all=$(SKEP_FAILPOINTS=list "$BIN/managerd")
[ -z "$points" ] || all=$(shuf -n "$points" --random-source=<(yes "$seed") <<<"$all")
for point in $all; do try_point "$point"; done
kill -TERM "${clients[@]}"
bad=0
clients_wait
# shellcheck disable=SC2046
"$BIN/torture/client" final $(sockets 3) >"$W/history0" 2>>"$W/client.log" || problem "no recovery"
for n in 1 2 3; do
    manager_kill $n TERM
    manager_verify $n || problem "m$n's disk does not verify"
done
"$BIN/torture/check" "$W"/history? || problem "history"
[ $bad -eq 0 ] && passed=$((passed + 1)) || failed=$((failed + 1))
[ ${#unreached[@]} -eq 0 ] || echo "never reached: ${unreached[*]}"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
