#!/bin/bash
# The torture of `make check`, about a minute: some short rounds, the proof that a lie is found, some
# failure points. Closes with the sum. Needs `make torture` and `make FAILPOINTS=1 torture`.
#   short.sh [SEED]      default: another one every day
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
seed=${1:-$(($(date +%s) / 86400))}
passed=0 failed=0

part() {
    local out
    out=$("$@" 2>&1)
    echo "$out"
    out=$(tail -n 1 <<<"$out")
    if [[ $out =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
        passed=$((passed + BASH_REMATCH[1])) failed=$((failed + BASH_REMATCH[2]))
    else
        failed=$((failed + 1))
    fi
}

part "$here/run.sh" --rounds 4 --seconds 10 -j 2 --seed "$seed"
part "$here/broken.sh"
part "$here/stale.sh" 3
part "$here/full.sh"
part "$here/points.sh" --points 2 --seed "$seed"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
