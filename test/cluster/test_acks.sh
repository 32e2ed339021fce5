#!/bin/bash
# No acknowledged change is lost, whatever dies while it is made.
# lab: -m 3 -w 0
# seconds: 360
. "$(dirname "$0")/lib/test.sh"
acks=$(mktemp) stop=$(mktemp)
trap 'rm -f "$acks" "$stop"' EXIT

# Writers make services without tasks, one after another, each on its own manager, and note a name once
# ctl has said yes.
writer() {
    local host=$1 i=0 name
    while [ -e "$stop" ]; do
        i=$((i + 1))
        name=ack-$host-$i
        if lab exec "$host" timeout 10 ctl service create --detach --name "$name" --replicas 0 busybox true \
            >/dev/null 2>&1; then
            echo "$name" >>"$acks"
        else
            sleep 0.2
        fi
    done
}

pids=()
for h in m1 m2 m3; do
    writer $h &
    pids+=($!)
done
sleep 2
for round in 1 2 3 4; do
    case $round in
    1 | 3) victims=$(leader) ;;
    2) victims=$(followers | head -n 1) ;;
    4) victims="m1 m2 m3" ;;
    esac
    victims=${victims:-m1}
    check "round $round: kill managerd on $victims" kill_all managerd $victims
    sleep 1
    for h in $victims; do check "start it" lab start "$h" managerd; done
    eventually 20 "a leader is there" has_leader
    sleep 1
done
for round in 5 6; do
    h=$(leader)
    check "round $round: cut the power of $h" lab kill "${h:-m1}"
    sleep 1
    check "boot it" lab start "${h:-m1}"
    eventually 30 "a leader is there" has_leader
done
rm -f "$stop"
wait "${pids[@]}"

count=$(wc -l <"$acks")
check "at least 50 changes were acknowledged ($count)" test "$count" -ge 50
for h in m1 m2 m3; do
    known() { lab exec "$1" ctl service ls --format '{{.Name}}'; }
    eventually 20 "$h answers" known $h
    same "$h knows every one of them" "" "$(comm -23 <(sort "$acks") <(known $h | sort) | head -n 5)"
done
ctl service ls -q | xargs -r -n 50 "$here/lab" ctl service rm >/dev/null
same "all can be removed" "" "$(ctl service ls -q)"
finish
