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

managers="m1 m2 m3" everyone="m1 m2 m3 w1 w2"
idle=$(rss managerd $managers | most)
at_most "an idle managerd: KiB resident" 12288 "$idle"
at_most "an idle agentd: KiB resident" 8192 "$(rss agentd $everyone | most)"
same "500 services come and go" "" "$(churn 1 500)"
real_churn
# shellcheck disable=SC2086
before=$(rss managerd $managers | most)
same "another 500" "" "$(churn 501 1000)"
# shellcheck disable=SC2086
after=$(rss managerd $managers | most)
at_most "managerd grows by KiB in the second half" 1024 $((after - before))
at_most "managerd after a thousand services: KiB" 24576 "$after"
at_most "agentd after them: KiB" 8192 "$(rss agentd $everyone | most)"
same "nothing is left in the store" "" "$(ctl service ls -q)$(ctl node ps -q m1 m2 m3 w1 w2 2>/dev/null)"
finish
