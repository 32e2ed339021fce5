#!/bin/bash
# One round: three managers, clients that keep records, and faults chosen by SEED for SECONDS. Then all
# is healed, and what the clients saw is judged. Runs inside its own namespaces (run.sh starts it).
#   round.sh SEED SECONDS FOLDER
# Last line: `seed S: N ops, N faults (…), recovered in N s: legal`, or what is wrong instead.
# TORTURE_FAILPOINTS=…: armed in all managers (needs a build with FAILPOINTS=1).
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
seed=$1 seconds=$2 W=$3
BIN=${SKEP_BUILD:-$(cd "$here/../.." && pwd)/build/release}
. "$here/lib.sh"
RANDOM=$((seed % 32768))
small=$((seed % 3 + 1)) # the member with a disk of its own
problems=() cuts=0 filled=0
visitor='' # joined: m4 runs and asked to be a member; gone: it may still be one
declare -A count=()

problem() {
    [[ "${problems[*]}" == *"$1"* ]] || problems+=("$1")
    echo "problem: $1"
}

note() {
    count[$1]=$((${count[$1]:-0} + 1))
    echo "$(date +%T.%3N) $1 ${2:-}"
}

# ---- faults --------------------------------------------------------------------------------------

start() {
    # shellcheck disable=SC2086
    manager_start "$1" ${TORTURE_FAILPOINTS:+SKEP_FAILPOINTS=$TORTURE_FAILPOINTS}
}

fault_kill() { # members…
    local n
    for n; do [ "${state[$n]}" = dead ] || manager_signal "$n" KILL; done
    for n; do [ "${state[$n]}" = dead ] || manager_kill "$n" KILL; done
    note kill "$*"
}

fault_power() { # members…: at the same moment
    local n modes=(none random random all)
    for n; do [ "${state[$n]}" = dead ] || manager_signal "$n" KILL; done
    for n; do
        [ "${state[$n]}" = dead ] || manager_kill "$n" KILL
        manager_crash "$n" "$RANDOM" "${modes[RANDOM % 4]}"
    done
    note power "$*"
}

fault_stop() {
    [ "${state[$1]}" = up ] || return
    manager_kill "$1" TERM
    # 143: it was not yet up to catch the signal.
    [ "$exit_status" -eq 0 ] || [ "$exit_status" -eq 143 ] || problem "m$1 ended with $exit_status when asked to stop"
    note stop "m$1"
}

fault_pause() {
    [ "${state[$1]}" = up ] || return
    manager_signal "$1" STOP
    state[$1]=paused
    note pause "m$1"
}

fault_cut() {
    local a=$1 b=$(($1 % 3 + 1)) c=$((($1 + 1) % 3 + 1))
    cuts=1
    case $2 in
    0) net_cut $a $b && net_cut $b $a && net_cut $a $c && net_cut $c $a && note isolate "m$a" ;;
    1) net_cut $a $b && net_cut $a $c && note mute "m$a" ;;
    2) net_cut $b $a && net_cut $c $a && note deaf "m$a" ;;
    3) net_cut $a $b && net_cut $b $a && note mesh "m$a m$b" ;;
    4) net_cut $a $b && note oneway "m$a to m$b" ;;
    5) for a in 1 2 3; do net_cut $a $((a % 3 + 1)) && net_cut $((a % 3 + 1)) $a; done && note split ;;
    esac
}

fault_fill() {
    local free
    [ $filled -eq 0 ] || return
    free=$(df --output=avail -k "$W/m$small" | tail -n 1)
    fallocate -l $((free - RANDOM % 200))K "$W/m$small/filler" 2>/dev/null ||
        dd if=/dev/zero of="$W/m$small/filler" bs=64k 2>/dev/null
    filled=1
    note fill "m$small"
}

# A fourth member, which joins and leaves or vanishes: changes of membership under all the rest. While a
# dead one is still counted, all the others are needed; an operator removes it.
fault_member() {
    case $visitor in
    '')
        manager_dirs 4
        start 4
        wait_for 10 manager_serves 4 || return
        ctl 4 swarm join --token "$token" --advertise-addr "$NET.4" "$NET.1:2377" "$NET.2:2377" "$NET.3:2377" \
            >/dev/null 2>&1 &
        visitor=joined
        note join
        ;;
    joined)
        [ $((RANDOM % 2)) -eq 0 ] || timeout 3 "$BIN/ctl" --host "unix://$W/m4/run/control.sock" swarm leave --force >/dev/null 2>&1
        visitor_end
        note leave
        ;;
    gone) timeout 5 bash -c "$(declare -f forget_visitors ctl); BIN=$BIN W=$W residents='$residents' forget_visitors $((RANDOM % 3 + 1))" && visitor='' ;;
    esac
}

visitor_end() {
    manager_kill 4 KILL
    rm -rf "$W/m4" "$W/m4.journal"
    visitor=gone
}

heal_net() {
    [ $cuts -eq 0 ] || net_heal
    cuts=0
}

heal_disk() {
    rm -f "$W/m$small/filler"
    filled=0
}

heal_member() {
    case ${state[$1]} in
    dead) start "$1" ;;
    paused)
        manager_signal "$1" CONT
        state[$1]=up
        ;;
    esac
}

# A member that ended by itself has a bug, or was told to by a failure point.
look_for_deaths() {
    local n
    for n in 1 2 3 4; do
        [ "${state[$n]:-dead}" = up ] && ! manager_runs "$n" || continue
        manager_wait "$n"
        [ -n "${TORTURE_FAILPOINTS:-}" ] && [ "$exit_status" -eq 137 ] ||
            problem "m$n ended by itself with $exit_status: $(tail -n 1 "$W/m$n.log")"
    done
}

step() {
    local n=$((RANDOM % 3 + 1)) other
    other=$((n % 3 + 1))
    case $((RANDOM % 27)) in
    24 | 25 | 26) fault_member ;;
    0 | 1) fault_kill $n ;;
    2) fault_kill $n $other ;;
    3) fault_kill 1 2 3 ;;
    4 | 5) fault_power $n ;;
    6 | 7) fault_power $n $other ;;
    8 | 9) fault_power 1 2 3 ;;
    10) fault_stop $n ;;
    11 | 12 | 13) fault_pause $n ;;
    14 | 15 | 16 | 17) fault_cut $n $((RANDOM % 6)) ;;
    18) fault_fill ;;
    19) heal_net ;;
    20 | 21 | 22 | 23)
        heal_net
        heal_disk
        for n in 1 2 3; do heal_member $n; done
        sleep 1.$((RANDOM % 10))
        ;;
    esac
    sleep 0.$((RANDOM % 8))$((RANDOM % 10))
    look_for_deaths
    heal_member $((RANDOM % 3 + 1))
}

# ---- the round -----------------------------------------------------------------------------------

finish() {
    local n began=$SECONDS
    heal_net
    heal_disk
    for n in 1 2 3; do heal_member $n; done
    clients_wait
    [ "$visitor" != joined ] || visitor_end
    [ -z "$visitor" ] || wait_for 60 forget_visitors 1 || problem "the fourth member cannot be removed"
    # shellcheck disable=SC2046
    "$BIN/torture/client" final $(sockets 3) >"$W/history0" 2>>"$W/client.log" ||
        problem "no recovery: $(tail -n 1 "$W/client.log")"
    recovered=$((SECONDS - began))
    look_for_deaths
    for n in 1 2 3; do
        manager_kill $n TERM
        [ "$exit_status" -eq 0 ] || problem "m$n ended with $exit_status at the end"
        manager_verify $n || problem "m$n's disk does not verify: $(tail -n 1 "$W/m$n.log")"
    done
    verdict=$("$BIN/torture/check" "$W"/history?) || problem "history"
    ! grep -q '^change: ' "$W/client.log" || problem "unexpected answer: $(grep '^change: ' "$W/client.log" | head -n 1)"
}

manager_disk $small 160
cluster_up 3
host_up 4
residents=$(ctl 1 node ls -q)
token=$(ctl 1 swarm join-token -q manager)
intervals=(50 300 2000)
ctl 1 swarm update --snapshot-interval "${intervals[RANDOM % 3]}" >/dev/null || die "no snapshot interval"
# shellcheck disable=SC2046
"$BIN/torture/client" setup $(sockets 3) 2>>"$W/client.log" || die "no keys"
[ -z "${TORTURE_FAILPOINTS:-}" ] || for n in 1 2 3; do manager_kill $n TERM && start $n; done
clients_start "$seconds" "$seed"
end=$((SECONDS + seconds))
while [ $SECONDS -lt $end ]; do step; done
verdict='' recovered=0
finish
faults='' total=0
for k in $(printf '%s\n' "${!count[@]}" | sort); do
    faults+="$k ${count[$k]} "
    total=$((total + count[$k]))
done
[ "$(wc -l <<<"$verdict")" -le 1 ] || head -n -1 <<<"$verdict"
ops=$(cat "$W"/history[123] | wc -l)
echo "seed $seed: $ops ops, $total faults (${faults% }), recovered in $recovered s: ${problems[*]:-legal}; $(tail -n 1 <<<"$verdict")"
[ ${#problems[@]} -eq 0 ]
