#!/bin/bash
# Managers under load are asked to stop, again and again: each has to end with status 0, whatever waits for
# an answer at that moment. (Found by round.sh: calls that were forwarded here were answered after their
# listener was gone. A build with SAN=address,undefined finds such things at once.)
#   stops.sh [TIMES [SEED]]   default 40 1. Needs root and `make torture`. Closes with `N passed, N failed`.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BIN=${SKEP_BUILD:-$(cd "$here/../.." && pwd)/build/release}
. "$here/lib.sh"
go_inside "$@"
RANDOM=${2:-1}
passed=0 failed=0
problem() { failed=$((failed + 1)); }
cluster_up 3
# shellcheck disable=SC2046
"$BIN/torture/client" setup $(sockets 3) || die "no keys"
clients_start 100000 1
for ((i = 1; i <= ${1:-40}; i++)); do
    n=$((RANDOM % 3 + 1))
    manager_kill $n TERM
    case $exit_status in
    0 | 143) passed=$((passed + 1)) ;; # 143: it was not yet up to catch the signal
    *)
        failed=$((failed + 1))
        echo "m$n ended with $exit_status: $(tail -n 1 "$W/m$n.log")"
        ;;
    esac
    manager_start $n
    sleep 0.$((RANDOM % 10))
done
kill -TERM "${clients[@]}"
clients_wait
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
