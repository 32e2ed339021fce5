#!/bin/bash
# Runs every kind of test there is, cheapest first, all of them even if one fails. Each part ends with
# `N passed, N failed`, or counts as one; the last line sums them up.
set -u
cd "$(dirname "$0")/.." || exit 1
jobs=$(nproc)
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
passed=0 failed=0 summary=

part() {
    local name=$1 log=$logs/${1// /-} start=$SECONDS rc line ok bad
    shift
    echo "==== $name: $*"
    "$@" 2>&1 | tee "$log"
    rc=${PIPESTATUS[0]}
    line=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$log" | tail -n 1)
    ok=$(sed 's/ .*//' <<<"${line:-0}")
    bad=$(sed 's/.*, //; s/ .*//' <<<"${line:-0}")
    if [ "$rc" -ne 0 ]; then
        [ "$bad" -gt 0 ] || bad=1
    elif [ -z "$line" ]; then
        ok=1
    fi
    passed=$((passed + ok))
    failed=$((failed + bad))
    summary+=$(printf '%-10s %6d passed %4d failed %5d s' "$name" "$ok" "$bad" $((SECONDS - start)))$'\n'
}

part build make -s -j"$jobs" all
part tidy test/tidy.sh
part unit make -s -j"$jobs" unit
if [ -e test/sim/main.c ]; then
    part "sim build" make -s -j"$jobs" sim
    part sim build/release/sim --seeds 1..5000 -j"$jobs"
fi
part vm test/vm/run.sh
if compgen -G 'test/fuzz/fuzz_*.c' >/dev/null; then part fuzz test/fuzz/run.sh; fi
if [ -e managerd/main.c ] && [ -e agentd/main.c ] && [ -e ctl/main.c ]; then
    part install deploy/test_install.sh
    part "torture build" bash -c "make -s -j$jobs torture && make -s -j$jobs FAILPOINTS=1 torture"
    part torture test/torture/short.sh
    part cluster test/cluster/run.sh
else
    part lab test/cluster/run.sh test_lab.sh
fi
echo "===="
printf '%s' "$summary"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
