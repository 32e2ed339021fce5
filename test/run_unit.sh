#!/bin/sh
# Runs the given check programs one after another; prints each failing one's output and the totals.
passed=0 failed=0
for t in "$@"; do
    out=$(ASAN_OPTIONS=detect_leaks=1 CK_FORK=${CK_FORK:-no} timeout 300 "$t" 2>&1)
    rc=$?
    # check closes with "NN%: Checks: C, Failures: F, Errors: E"
    line=$(printf '%s\n' "$out" | grep -E '^[0-9]+%: Checks: ' | tail -n 1)
    checks=$(printf '%s' "$line" | sed -n 's/.*Checks: \([0-9]*\),.*/\1/p')
    bad=$(printf '%s' "$line" | sed -n 's/.*Failures: \([0-9]*\), Errors: \([0-9]*\).*/\1 \2/p' |
        awk '{print $1 + $2}')
    if [ $rc -ne 0 ] || [ -z "$checks" ]; then
        printf '%s\n' "$out" | tail -n 60
        echo "FAILED $(basename "$t") (exit $rc)"
        [ "${bad:-0}" -gt 0 ] || bad=1
    else
        echo "ok $(basename "$t"): $checks"
    fi
    passed=$((passed + ${checks:-0} - ${bad:-0}))
    failed=$((failed + ${bad:-0}))
done
[ $passed -ge 0 ] || passed=0
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
