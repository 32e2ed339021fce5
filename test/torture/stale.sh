#!/bin/bash
# A leader that stood still while another one was elected must not refuse a change for what it last knew:
# it is asked to remove a service that was created meanwhile, and may say anything but "not found". (Found
# by points.sh: an exchange was told "out of sequence" though its value had been there all the time.)
#   stale.sh [TIMES]     default 5. Needs root and `make torture`. Closes with `N passed, N failed`.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BIN=${SKEP_BUILD:-$(cd "$here/../.." && pwd)/build/release}
. "$here/lib.sh"
go_inside "$@"
passed=0 failed=0

created() { ctl "$1" service create --detach --replicas 0 --name "$2" none >/dev/null 2>>"$W/ctl.log"; }

try() { # NAME
    local old other out asking
    old=$(leader)
    other=$((old % 3 + 1))
    manager_signal "$old" STOP
    wait_for 30 created $other "$1" || die "no service through m$other"
    out=$(mktemp -p "$W")
    ctl "$old" service rm "$1" >"$out" 2>&1 &
    asking=$!
    sleep 0.2
    manager_signal "$old" CONT
    wait $asking
    if grep -qi 'not found' "$out"; then
        echo "m$old: $(cat "$out")"
        failed=$((failed + 1))
    else
        passed=$((passed + 1))
    fi
}

cluster_up 3
for ((i = 1; i <= ${1:-5}; i++)); do try "late$i"; done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
