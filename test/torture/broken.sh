#!/bin/bash
# Shows that torture finds what it is for: managers whose fdatasync of the log does nothing, which lose
# power together after acknowledging changes. The checker has to say that acknowledged changes are lost.
# Needs root and `make FAILPOINTS=1 torture`. Closes with `1 passed, 0 failed`.
#   broken.sh [POINTS]    default below, from the fifth sync on: a start that was lied to is refused
#                         by the log itself. "" breaks nothing, and must then fail
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BIN=${SKEP_BUILD:-$(cd "$here/../.." && pwd)/build/failpoints}
. "$here/lib.sh"
go_inside "$@"
points=${1-wal.sync.before=skip@5+}
problem() { die "$1"; }
cluster_up 3
# shellcheck disable=SC2046
"$BIN/torture/client" setup $(sockets 3) || die "no keys"
for n in 1 2 3; do manager_kill $n KILL && manager_start $n ${points:+"SKEP_FAILPOINTS=$points"}; done
for n in 1 2 3; do wait_for 30 manager_serves $n || die "m$n does not serve"; done
clients_start 3 1
clients_wait
for n in 1 2 3; do manager_signal $n KILL; done
for n in 1 2 3; do manager_kill $n KILL; done
for n in 1 2 3; do manager_crash $n 1 none && manager_start $n; done
# shellcheck disable=SC2046
"$BIN/torture/client" final $(sockets 3) >"$W/history0" || die "no recovery"
verdict=$("$BIN/torture/check" "$W"/history?)
tail -n 4 <<<"$verdict"
if grep -q 'was acknowledged and is lost' <<<"$verdict" && grep -q ': ILLEGAL$' <<<"$verdict"; then
    echo "1 passed, 0 failed"
else
    echo "0 passed, 1 failed"
    exit 1
fi
