#!/bin/bash
# A minute of random faults, several at once, while services change: afterwards everything is as asked for.
# lab: -m 3 -w 2
# seconds: 400
# CHAOS_SEED=N repeats the choice of faults; CHAOS_SECONDS=60 is how long they go on.
. "$(dirname "$0")/lib/test.sh"
seed=${CHAOS_SEED:-$((RANDOM * 32768 + RANDOM))}
seconds=${CHAOS_SECONDS:-60}
RANDOM=$((seed % 32768))
echo "  seed $seed"
hosts=(m1 m2 m3 w1 w2)
wanted=$(mktemp)
trap 'rm -f "$wanted"' EXIT

pick() { echo "${hosts[RANDOM % 5]}"; }

# One fault; the lab refuses what makes no sense now (killing the dead), which is fine.
fault() {
    local host=$1 other=$2 daemon
    case $3 in
    0 | 1 | 2) daemon=agentd ;;
    3 | 4) daemon=dockerd ;;
    *) daemon=managerd ;;
    esac
    case $4 in
    0 | 1 | 2 | 3) echo "kill $host $daemon" ;;
    4) echo "kill $host" ;;
    5) echo "pause $host $daemon" ;;
    6) echo "pause $host" ;;
    7) [ "$host" = "$other" ] || echo "partition $host $other" ;;
    8) [ "$host" = "$other" ] || echo "partition $host $other --one-way" ;;
    9) echo "heal" ;;
    esac
}

# Brings a host back to life in whatever state it is.
mend() {
    local host=$1 daemon
    lab resume "$host"
    for daemon in dockerd managerd agentd; do lab resume "$host" $daemon; done
    lab start "$host"
} >/dev/null 2>&1

# Asks for another size; what was acknowledged last is what must be there in the end.
resize() {
    local size=$((1 + $1 % 9))
    if timeout 10 "$here/lab" ctl service scale --detach "$2=$size" >/dev/null 2>&1; then
        echo "$size" >"$wanted.$2"
    else
        echo unknown >"$wanted.$2" # no answer: may or may not have happened
    fi
}

check "a service of 6" create red 6
check "and one of 3" create blue 3
echo 6 >"$wanted.red"
echo 3 >"$wanted.blue"
eventually 60 "9 tasks run" engines_run '\(red\|blue\)' 9

end=$((SECONDS + seconds)) count=0
while [ $SECONDS -lt $end ]; do
    line=$(fault "$(pick)" "$(pick)" $((RANDOM % 8)) $((RANDOM % 10)))
    host=$(pick)
    # shellcheck disable=SC2086
    [ -z "$line" ] || { lab $line >/dev/null 2>&1 && count=$((count + 1)) && echo "          $line"; }
    case $((RANDOM % 4)) in
    0) resize $RANDOM red ;;
    1) resize $RANDOM blue ;;
    *) sleep 0.$((RANDOM % 10)) ;;
    esac
    mend "$host"
done
check "faults were made ($count)" test $count -ge 5

lab heal
for h in "${hosts[@]}"; do mend "$h"; done
eventually 30 "a leader is there" has_leader
eventually 90 "all nodes are ready" all_ready 5
for s in red blue; do
    [ "$(cat "$wanted.$s")" != unknown ] || resize 4 $s
    size=$(cat "$wanted.$s")
    says "$s is as large as it was last asked to be" "^[0-9]+/$size\$" \
        ctl service ls --filter name=$s --format '{{.Replicas}}'
    eventually 90 "its $size tasks run, says the cluster" tasks_run $s "$size"
    eventually 60 "$size containers run, say the engines" engines_run $s "$size"
done
before=$(containers $(engines))
sleep 5
same "and nothing moves any more" "$before" "$(containers $(engines))"
rm -f "$wanted".*
check "remove them" ctl service rm red blue
eventually 60 "no container is left" no_containers
[ $failed -eq 0 ] || echo "  again: CHAOS_SEED=$seed $0"
finish
