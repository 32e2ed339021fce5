#!/bin/bash
# Everything about the tree that a compiler does not check: layering, banned calls, sizes, guards
# (test/tidy.pl), formatting (clang-format) and the shell scripts (shellcheck). With arguments: only
# those files. Counts files.
set -u
cd "$(dirname "$0")/.." || exit 1

tracked() {
    if [ -d .git ] || [ -f .git ]; then
        git ls-files -co --exclude-standard
    else
        find . -path ./build -prune -o -type f -print | sed 's,^\./,,'
    fi | sort
}

if [ $# -gt 0 ]; then
    files=$(printf '%s\n' "$@")
else
    files=$(tracked)
fi
sources=$(grep -E '\.[ch]$' <<<"$files" | while read -r f; do [ ! -f "$f" ] || echo "$f"; done)
scripts=$(while read -r f; do
    [ -f "$f" ] || continue
    case $f in
    *.sh) echo "$f" ;;
    *.*) ;;
    *) head -c 32 "$f" | grep -aqE '^#!/bin/(ba)?sh' && echo "$f" ;;
    esac
done <<<"$files")
passed=0 failed=0

if [ -n "$sources" ]; then
    # shellcheck disable=SC2086
    out=$(perl test/tidy.pl $sources)
    line=$(tail -n 1 <<<"$out")
    head -n -1 <<<"$out"
    passed=$((passed + ${line%% *}))
    line=${line#*, }
    failed=$((failed + ${line%% *}))
    for f in $sources; do
        if out=$(clang-format --dry-run -Werror "$f" 2>&1); then
            passed=$((passed + 1))
        else
            failed=$((failed + 1))
            echo "$f: not formatted as .clang-format says (make format): $(grep -c 'error:' <<<"$out") places"
        fi
    done
fi
for f in $scripts; do
    # Sourced parts are followed; a value used by another part, or a function called by name, is no
    # finding; lists of hosts are split on purpose.
    if shellcheck -x -s bash -S warning -e SC1090,SC1091,SC2154,SC2034,SC2046 "$f"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
