#!/bin/bash
# Builds every test/fuzz/fuzz_X.c and runs each for a short while, starting from the corpus in
# test/fuzz/corpus/X. An input that crashes stays in build/fuzz/found/X; once fixed, it belongs in the
# corpus.   FUZZ_SECONDS=10 per target; arguments: names of targets (default all)
set -u
cd "$(dirname "$0")/../.." || exit 1
seconds=${FUZZ_SECONDS:-10}
passed=0 failed=0
make -s -j"$(nproc)" B=build/fuzz CC=clang SAN=fuzzer-no-link,address,undefined WARNINGS=-w fuzzers || {
    echo "the fuzz targets do not build"
    echo "0 passed, 1 failed"
    exit 1
}

fuzz() {
    local name=$1 corpus=test/fuzz/corpus/$1 work=build/fuzz/corpus/$1 found=build/fuzz/found/$1 log dict=''
    log=build/fuzz/$name.log
    mkdir -p "$work" "$found"
    [ ! -e "$corpus.dict" ] || dict=-dict=$corpus.dict
    [ -d "$corpus" ] || corpus=
    # shellcheck disable=SC2086
    if build/fuzz/fuzz/fuzz_$name -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -verbosity=1 \
        -print_final_stats=1 -artifact_prefix="$found/" $dict "$work" $corpus >"$log" 2>&1; then
        echo "ok $name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs," \
            "$(grep -oE 'cov: [0-9]+' "$log" | tail -n 1)"
        passed=$((passed + 1))
    else
        tail -n 60 "$log"
        echo "FAILED $name; inputs: $(find "$found" -type f | tr '\n' ' ')"
        failed=$((failed + 1))
    fi
}

if [ $# -gt 0 ]; then
    names=$*
else
    names=$(for f in test/fuzz/fuzz_*.c; do [ ! -e "$f" ] || basename "$f" .c | sed 's/^fuzz_//'; done)
fi
for name in $names; do fuzz "$name"; done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
