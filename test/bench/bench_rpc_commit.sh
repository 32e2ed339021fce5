#!/bin/bash
# Committed transactions per second as clients get them: 64 clients in eight other processes, each with one
# acknowledged change in flight, against three managers (processes in network namespaces) whose logs are on
# one disk, every commit synced on a majority. First through all three managers, so that two thirds are
# forwarded over TLS; then through the leader only. Goal: 5000. SKEP_BENCH_SECONDS=5 per figure;
# SKEP_TEST_DIR: another disk.
set -u
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BIN=$(cd "$root" && realpath "${SKEP_BUILD:-build/release}")
. "$root/test/torture/lib.sh"
go_inside
plain_disk=1
seconds=${SKEP_BENCH_SECONDS:-5}

cpu_ticks() { # of the managers, all threads
    local n sum=0 user system
    for n in 1 2 3; do
        read -r user system < <(awk '{ print $14, $15 }' "/proc/${pid[$n]}/stat")
        sum=$((sum + user + system))
    done
    echo $sum
}

# load NAME SOCKETS…: eight processes, spread over the sockets
load() {
    local name=$1 i jobs=() before
    shift
    before=$(cpu_ticks)
    for ((i = 0; i < 8; i++)); do
        shift_by=$((i % $# + 1))
        "$BIN/torture/load" "$seconds" 8 "${!shift_by}" >"$W/load$i" &
        jobs+=($!)
    done
    for i in "${jobs[@]}"; do wait "$i" || die "a client failed"; done
    awk -v name="$name" -v seconds="$seconds" -v ticks=$(($(cpu_ticks) - before)) -v hz="$(getconf CLK_TCK)" '
        { n += $1; p50 += $1 * $2; if ($3 > p99) p99 = $3 }
        END { printf "rpc commit, 3 managers, 64 clients in 8 processes, %s: %7.0f /s (goal 5000), ", name, n / seconds
              printf "p50 %.1f ms, p99 %.1f ms, ", p50 / n / 1000, p99 / 1000
              printf "%.0f us of the managers'\'' CPU each\n", ticks / hz * 1e6 / (n / seconds * (seconds + 1)) }' "$W"/load?
}

cluster_up 3
# shellcheck disable=SC2046
load "through all   " $(sockets 3)
load "through leader" "$W/m$(leader)/run/control.sock"
