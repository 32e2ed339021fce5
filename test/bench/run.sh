#!/bin/bash
# Runs the benchmarks (programs and scripts) one after another and shows their figures. Each prints its own
# lines, figure beside goal; none of them passes or fails by time. Argument: build folder; further ones:
# names of benchmarks. The scripts bring up a lab and need root.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${1:-build/release}
[ $# -eq 0 ] || shift
rc=0
echo "$(nproc) x $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), Linux $(uname -r)"
for b in test/bench/bench_*.c test/bench/bench_*.sh; do
    [ -e "$b" ] || continue
    name=$(basename "$b")
    name=${name#bench_}
    [ $# -eq 0 ] || [[ " $* " == *" ${name%.*} "* ]] || continue
    echo "== ${name%.*}"
    case $b in
    *.sh) SKEP_BUILD=$build "$b" ;;
    *) "$build/bench/bench_${name%.*}" ;;
    esac || { rc=1 && echo "FAILED ${name%.*}"; }
done
exit $rc
