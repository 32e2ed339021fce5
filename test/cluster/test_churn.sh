#!/bin/bash
# A thousand services created and removed: nothing is left of them, in memory neither.
# lab: -m 3 -w 2
# seconds: 240
. "$(dirname "$0")/lib/test.sh"

# rss DAEMON HOST...: the resident memory in KiB of each, one per line.
rss() {
    local daemon=$1 h
    shift
    for h; do lab exec "$h" sh -c "grep -h VmRSS /proc/\$(pgrep -x $daemon)/status" | awk '{ print $2 }'; done
}
most() { sort -n | tail -n 1; }

# churn FROM TO: services without a place to run, created and removed on m1, four at a time.
churn() {
    lab exec m1 sh -c "seq $1 $2 | xargs -P 4 -I N sh -c '
        ctl service create -q --detach --name churn-N --replicas 2 --constraint node.labels.moon==yes \
            --env NUMBER=N busybox true >/dev/null && ctl service rm churn-N >/dev/null || echo failed N'"
}
real_churn() { # with containers
    local i
    for i in 1 2 3 4 5; do
        create "real-$i" 4 >/dev/null && eventually 30 "4 containers run" engines_run "real-$i" 4
        check "remove them" ctl service rm "real-$i"
    done
    eventually 30 "no container is left" no_containers
}

agentd_fits() { [ "$(rss agentd $everyone | most)" -le 8192 ]; }

managers="m1 m2 m3" everyone="m1 m2 m3 w1 w2"
# Logs of a few hundred entries, so that what they keep in memory is at its size early.
check "a short log" ctl swarm update --snapshot-interval 500
at_most "an idle managerd: KiB resident" 12288 "$(rss managerd $managers | most)"
eventually 20 "an idle agentd gives back what its start needed" agentd_fits
at_most "an idle agentd: KiB resident" 8192 "$(rss agentd $everyone | most)"
same "500 services come and go" "" "$(churn 1 500)"
real_churn
# shellcheck disable=SC2086
before=$(rss managerd $managers | most)
same "another 500" "" "$(churn 501 1000)"
# shellcheck disable=SC2086
after=$(rss managerd $managers | most)
at_most "managerd grows by KiB in the second half" 2048 $((after - before))
at_most "managerd after a thousand services: KiB" 14336 "$after"
at_most "agentd after them: KiB" 8192 "$(rss agentd $everyone | most)"
check "the log as it was" ctl swarm update --snapshot-interval 10000
same "nothing is left in the store" "" "$(ctl service ls -q)$(ctl node ps -q m1 m2 m3 w1 w2 2>/dev/null)"
finish
