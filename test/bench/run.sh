#!/bin/bash
# Runs the benchmarks one after another and shows their figures. Each prints its own lines, figure beside
# goal; none of them passes or fails by time. Argument: build folder; further ones: names of benchmarks.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${1:-build/release}
shift
rc=0
echo "$(nproc) x $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), Linux $(uname -r)"
for b in test/bench/bench_*.c; do
    [ -e "$b" ] || continue
    name=$(basename "$b" .c)
    [ $# -eq 0 ] || [[ " $* " == *" ${name#bench_} "* ]] || continue
    echo "== ${name#bench_}"
    "$build/bench/$name" || { rc=1 && echo "FAILED ${name#bench_}"; }
done
exit $rc
