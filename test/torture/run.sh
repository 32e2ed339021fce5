#!/bin/bash
# Rounds of torture (README.md): real managers, faults from a seed, and a judgement of what clients saw.
#   run.sh [--rounds N] [--seconds S] [--seed FIRST] [-j JOBS] [--keep]
# Prints a line per round and closes with `N passed, N failed`. A round that failed keeps its folder.
# SKEP_BUILD: build folder (default build/release), with `make torture` done. SKEP_TEST_DIR: where the
# disks of the managers are (a real file system). Needs root.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
. "$here/lib.sh"
rounds=10 seconds=60 first=1 jobs=1 keep=
while [ $# -gt 0 ]; do
    case $1 in
    --rounds) rounds=$2 && shift ;;
    --seconds) seconds=$2 && shift ;;
    --seed) first=$2 && shift ;;
    -j) jobs=$2 && shift ;;
    -j*) jobs=${1#-j} ;;
    --keep) keep=1 ;;
    *) die "unknown argument '$1'" ;;
    esac
    shift
done
[ "$(id -u)" -eq 0 ] || die "needs root"
export SKEP_BUILD=${SKEP_BUILD:-$root/build/release}
[ -x "$SKEP_BUILD/torture/client" ] || die "run: make torture"
base=$(mktemp -d "${SKEP_TEST_DIR:-$SKEP_BUILD}/t.XXXXXX") || exit 2
passed=0 failed=0
declare -A running=()
trap 'kill -9 "${!running[@]}"; wait; rm -rf --one-file-system "$base"; exit 130' INT TERM HUP

begin() { # SEED
    mkdir -p "$base/$1"
    namespaces "$here/round.sh" "$1" "$seconds" "$base/$1" >"$base/$1/log" 2>&1 &
    running[$!]=$1
}

reap() {
    local done_pid rc seed
    wait -n -p done_pid "${!running[@]}"
    rc=$?
    seed=${running[$done_pid]}
    unset "running[$done_pid]"
    tail -n 1 "$base/$seed/log"
    if [ $rc -eq 0 ]; then
        passed=$((passed + 1))
        [ -n "$keep" ] || rm -rf --one-file-system "${base:?}/$seed"
    else
        failed=$((failed + 1))
        echo "  kept: $base/$seed (again: test/torture/run.sh --rounds 1 --seconds $seconds --seed $seed)"
    fi
}

for ((seed = first; seed < first + rounds; seed++)); do
    while [ ${#running[@]} -ge "$jobs" ]; do reap; done
    begin "$seed"
done
while [ ${#running[@]} -gt 0 ]; do reap; done
rmdir "$base" 2>/dev/null
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
