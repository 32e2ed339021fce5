#!/bin/bash
# A manager starts and votes on a disk without a free byte (F9): killed, power cut, started again while its
# file system is full, it serves, and two managers, one of them this one, elect a leader. (Found by round.sh:
# it ended because it could not write down its unchanged addresses.)
# Needs root and `make torture`. Closes with `N passed, N failed`.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BIN=${SKEP_BUILD:-$(cd "$here/../.." && pwd)/build/release}
. "$here/lib.sh"
go_inside "$@"
passed=0 failed=0

expect() { # WHAT CMD…
    local what=$1
    shift
    if "$@"; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "failed: $what: $(tail -n 1 "$W/m3.log")"
    fi
}

manager_disk 3 96
cluster_up 3
dd if=/dev/zero of="$W/m3/filler" bs=64k 2>/dev/null
dd if=/dev/zero of="$W/m3/filler2" bs=512 2>/dev/null
for how in KILL POWER TERM; do
    manager_kill 3 "${how/POWER/KILL}"
    [ $how != POWER ] || manager_crash 3 1
    manager_start 3
    expect "it serves after $how" wait_for 30 manager_serves 3
    expect "all are members" wait_for 30 cluster_has 3
done
manager_kill 1 KILL
led() { ctl 2 info 2>/dev/null | grep -q ' leader'; }
expect "a leader is there" wait_for 60 led
rm -f "$W"/m3/filler*
created() { ctl 3 service create --detach --replicas 0 --name last none >/dev/null 2>&1; }
expect "with space, a change through it" wait_for 60 created
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
