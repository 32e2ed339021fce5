#!/bin/sh
# Builds the simulator with the planted bugs of managerd/raft/mutant.h (into build/mutants) and counts
# the seeds each of them survives. Every one must be found within SEEDS (default 10000) seeds; a run
# without a mutant must pass. Arguments: the numbers to try, default all.
#   test/sim/mutants.sh [N…]          SEEDS=10000 EVENTS=5000
cd "$(dirname "$0")/../.." || exit 2
seeds=${SEEDS:-10000} events=${EVENTS:-5000}
make -s -j2 B=build/mutants CC="${CC:-gcc} -DRAFT_MUTANTS" sim >&2 || exit 2
list=$(sed -n 's/^ *X( *\([0-9]*\), *\([A-Z_0-9]*\), *"\(.*\)").*/\1 \2 \3/p' managerd/raft/mutant.h)
missed=0
printf '| n | mutant | seeds to detection | found by |\n|---|---|---|---|\n'
while read -r number name text; do
    [ $# -eq 0 ] || echo " $* " | grep -q " $number " || continue
    out=$(build/mutants/sim --mutant "$number" --seeds "1..$seeds" --events "$events" \
        --until-failure 2>&1)
    line=$(printf '%s\n' "$out" | grep -m 1 -E '^seed [0-9]+ failed|assertion|ASSERT')
    if [ -z "$line" ]; then
        missed=$((missed + 1))
        printf '| %s | %s: %s | **not in %s** | – |\n' "$number" "$name" "$text" "$seeds"
        continue
    fi
    passed=$(printf '%s\n' "$out" | sed -n 's/^\([0-9]*\) passed, .*/\1/p')
    # An assertion ends the process: it says in which seed.
    [ -n "$passed" ] || passed=$(($(printf '%s\n' "$out" | sed -n 's/^in seed \([0-9]*\) .*/\1/p') - 1))
    printf '| %s | %s: %s | %s | %s |\n' "$number" "$name" "$text" "$((${passed:-0} + 1))" \
        "$(printf '%s' "$line" | sed 's/^seed [0-9]* failed after [0-9]* events: //' | cut -c1-70)"
done <<LIST
$list
LIST
[ $# -gt 0 ] || build/mutants/sim --mutant 0 --seeds 1..500 --events "$events" | tail -n 1 >&2
echo "$missed mutants not found" >&2
[ $missed -eq 0 ]
