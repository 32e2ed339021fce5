#!/bin/bash
# Runs the cluster tests (all, or those named), each with a time limit, several at a time in labs of their
# own. Tests that want the same lab share one, one after another; a test that fails, or leaves hosts down
# or links cut, costs its followers a fresh one. Closes with the totals of all tests.
#   test/cluster/run.sh [-j JOBS] [-k] [test_x.sh ...]
#     -j  tests at a time (default: cores, at most 4)
#     -k  stops at the first test that fails and keeps its lab
set -u
here=$(cd "$(dirname "$0")" && pwd)
base=${SKEP_LAB_DIR:-/run/skep-test-$$}
jobs=$(nproc) keep=''
[ "$jobs" -le 4 ] || jobs=4
while getopts j:k option; do
    case $option in
    j) jobs=$OPTARG ;;
    k) keep=1 && jobs=1 ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))

header() { sed -n "s/^# $1: *//p" "$2" | head -n 1; }

# ---- one worker: takes tests off the queue, has one lab at a time -----------------------------------

# The lab a test found must be the lab it leaves.
lab_is_whole() {
    "$here/lab" ps >/dev/null 2>&1 && ! "$here/lab" ps | grep -qE '^cut|down|dead|paused' &&
        [ -z "$("$here/lab" ctl service ls -q 2>&1)" ]
}

get_lab() {
    [ "$1" != own ] || return 0
    [ "$1" = "$lab_args" ] && lab_is_whole && return 0
    "$here/lab" down
    lab_args=$1
    # shellcheck disable=SC2086
    "$here/lab" up $1 && return 0
    lab_args=''
    return 1
}

# run_test FILE: its output and its verdict go to stdout; "PASSED FAILED" to the totals.
run_test() {
    local test=$1 wants seconds out rc line ok=0 bad=0
    wants=$(header lab "$test")
    wants=${wants:-own}
    seconds=$(header seconds "$test")
    echo "== $(basename "$test" .sh): $(sed -n 2p "$test" | sed 's/^# *//')"
    if ! get_lab "$wants"; then
        echo "  FAILED  no lab to run in"
        echo "0 1" >>"$queue.totals"
        return 1
    fi
    out=$(SKEP_LAB_DIR=$SKEP_LAB_DIR$([ "$wants" != own ] || echo -own) \
        timeout -k 10 "${seconds:-60}" bash "$test" 2>&1)
    rc=$?
    echo "$out"
    line=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' <<<"$out" | tail -n 1)
    if [ -n "$line" ]; then
        ok=${line%% *}
        bad=${line#*, }
        bad=${bad%% *}
    elif [ $rc -eq 0 ]; then
        ok=1
    fi
    [ $rc -ne 124 ] && [ $rc -ne 137 ] || echo "  FAILED  took longer than ${seconds:-60} s"
    [ $rc -eq 0 ] || [ "$bad" -gt 0 ] || bad=1
    echo "$ok $bad" >>"$queue.totals"
    [ "$bad" -eq 0 ]
}

worker() {
    local test lab_args='' log=$queue.log.$1 rc
    export SKEP_LAB_DIR=$base-$1
    trap 'exit 130' INT TERM HUP
    while test=$(flock "$queue" sh -c "head -n 1 $queue; sed -i 1d $queue") && [ -n "$test" ]; do
        run_test "$test" >"$log" 2>&1
        rc=$?
        flock "$queue.print" cat "$log"
        if [ $rc -ne 0 ] && [ -n "$keep" ]; then
            echo "the lab is kept: SKEP_LAB_DIR=$SKEP_LAB_DIR $here/lab ps"
            return
        fi
        [ $rc -eq 0 ] || lab_args='' # its followers get a fresh lab
    done
    "$here/lab" down
}

# ---- all of them ------------------------------------------------------------------------------------

queue=$(mktemp)
workers=()
cleanup() {
    local i
    trap '' INT TERM HUP
    # shellcheck disable=SC2046
    kill $(jobs -p) 2>/dev/null
    wait
    for ((i = 0; i < jobs; i++)); do
        [ -n "$keep" ] || SKEP_LAB_DIR=$base-$i "$here/lab" down
        SKEP_LAB_DIR=$base-$i-own "$here/lab" down
    done
    rm -f "$queue" "$queue".*
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

# The longest first; of those, the ones with the same wish together.
for t in "${@:-$here/test_*.sh}"; do
    for f in $t; do
        [ -e "$f" ] || f=$here/$f
        [ -e "$f" ] || { echo "no such test: $t" && exit 2; }
        printf '%s\t%s\t%s\n' "$(header seconds "$f")" "$(header lab "$f")" "$f"
    done
done | sort -t "$(printf '\t')" -k1,1nr -k2,2 | cut -f 3 >"$queue"
touch "$queue.totals" "$queue.print"
for ((i = 0; i < jobs; i++)); do
    worker $i &
    workers+=($!)
done
wait "${workers[@]}"
awk '{ p += $1; f += $2 } END { printf "%d passed, %d failed\n", p, f; exit (f > 0) }' "$queue.totals"
