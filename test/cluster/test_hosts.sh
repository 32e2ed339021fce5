#!/bin/bash
# Power cuts of whole hosts: their tasks move, the rest is not touched, and everybody comes back.
# lab: -m 3 -w 2
# seconds: 480
. "$(dirname "$0")/lib/test.sh"

# A cut-off host's tasks run elsewhere; the others' containers are the same.
power_cut() {
    local host=$1 others before
    others=$(engines_but "$host")
    before=$(containers $others)
    check "cut the power of $host" lab kill "$host"
    eventually 20 "a leader is there" has_leader
    eventually 60 "$host is seen as down" node_is "$host" Down
    eventually 60 "its tasks run elsewhere" none_on steady "$host" 8
    eventually 30 "8 containers run on the others" engines_run steady 8
    same "no container of the others was touched" "" "$(lost "$before" $others)"
    before=$(containers $others)
    check "boot $host" lab start "$host"
    eventually 30 "all nodes are ready" all_ready 5
    eventually 30 "8 tasks run, no more and no less" engines_run steady 8
    same "its return touches no container" "" "$(lost "$before" $others)"
}

check "a service of 8" create steady 8
eventually 30 "8 tasks run" engines_run steady 8
power_cut w1
power_cut "$(followers | head -n 1)"
power_cut "$(leader)"

# Twice the same host within a minute, and while it is booting.
check "cut the power of w2" lab kill w2
check "boot it" lab start w2
check "cut it again at once" lab kill w2
check "boot it" lab start w2
eventually 60 "all nodes are ready" all_ready 5
eventually 60 "8 containers run" engines_run steady 8

# Everything at once, as when a data centre loses power.
check "cut the power of every host" lab kill m1 m2 m3 w1 w2
check "boot them all" lab start m1 m2 m3 w1 w2
eventually 30 "a leader is there" has_leader
eventually 60 "all nodes are ready" all_ready 5
eventually 60 "8 tasks run, says the cluster" tasks_run steady 8
eventually 60 "8 containers run, say the engines" engines_run steady 8
check "remove the service" ctl service rm steady
eventually 30 "no container is left" no_containers
finish
