#!/bin/bash
# Runs the cluster tests (all, or those named) one after another, each with a time limit. Tests that want
# the same lab share one; a test that fails, or leaves hosts down or links cut, costs its followers a
# fresh one. Closes with the totals of all tests.
#   test/cluster/run.sh [-k] [test_x.sh ...]     -k keeps the lab of the last failed test and stops there
set -u
here=$(cd "$(dirname "$0")" && pwd)
export SKEP_LAB_DIR=${SKEP_LAB_DIR:-/run/skep-test-$$}
keep='' passed=0 failed=0 lab_args=''
[ "${1:-}" != -k ] || { keep=1 && shift; }
trap '[ -n "$keep" ] && [ $failed -gt 0 ] || "$here/lab" down 2>/dev/null' EXIT
trap 'exit 130' INT TERM HUP

header() { sed -n "s/^# $1: *//p" "$2" | head -n 1; }

# The lab a test found must be the lab it leaves.
lab_is_whole() {
    [ -n "$lab_args" ] && "$here/lab" ps >/dev/null 2>&1 &&
        ! "$here/lab" ps | grep -qE '^cut|down|dead|paused' &&
        [ -z "$("$here/lab" ctl service ls -q 2>&1)" ]
}

get_lab() {
    [ "$1" != own ] || return 0
    [ "$1" = "$lab_args" ] && lab_is_whole && return 0
    "$here/lab" down 2>/dev/null
    lab_args=$1
    # shellcheck disable=SC2086
    "$here/lab" up $1 && return 0
    lab_args=''
    return 1
}

run_test() {
    local test=$1 wants seconds out line
    wants=$(header lab "$test")
    seconds=$(header seconds "$test")
    echo "== $(basename "$test" .sh): $(sed -n 2p "$test" | sed 's/^# *//')"
    if ! get_lab "${wants:-own}"; then
        echo "FAILED  no lab to run in"
        failed=$((failed + 1))
        return 1
    fi
    out=$(mktemp)
    timeout -k 10 "${seconds:-60}" bash "$test" 2>&1 | tee "$out"
    local rc=${PIPESTATUS[0]}
    line=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$out" | tail -n 1)
    rm -f "$out"
    [ "$rc" -ne 124 ] && [ "$rc" -ne 137 ] || echo "FAILED  took longer than ${seconds:-60} s"
    if [ -n "$line" ]; then
        passed=$((passed + ${line%% *}))
        line=${line#*, }
        line=${line%% *}
    else
        line=0
    fi
    [ "$rc" -eq 0 ] || [ "$line" -gt 0 ] || line=1
    failed=$((failed + line))
    [ "$line" -eq 0 ] && return
    [ -n "$keep" ] || lab_args='' # its followers get a fresh lab
    return 1
}

# Tests with the same wish stand together.
tests=$(
    for t in "${@:-$here/test_*.sh}"; do
        for f in $t; do
            [ -e "$f" ] || f=$here/$f
            printf '%s\t%s\n' "$(header lab "$f")" "$f"
        done
    done | sort | cut -f 2
)
for t in $tests; do
    run_test "$t" || [ -z "$keep" ] || break
done
[ -z "$keep" ] || [ $failed -eq 0 ] || echo "the lab is kept: SKEP_LAB_DIR=$SKEP_LAB_DIR $here/lab ps"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
