# The vocabulary of cluster tests, sourced by test_*.sh. A test states what must hold, and closes with
# `finish`. Its header says which lab it wants: `# lab: -m 3 -w 2` (arguments of `lab up`; the runner
# may share that lab with other tests, so leave it as you found it) or `# lab: own`; and how long it
# may take: `# seconds: 90`.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PATH=$here:$PATH
. "$here/lib/ask.sh"
passed=0 failed=0

# report STATUS WHY: counts one statement.
report() {
    if [ "$1" -eq 0 ]; then
        passed=$((passed + 1))
        echo "  ok      $2"
    else
        failed=$((failed + 1))
        echo "  FAILED  $2"
    fi
}

# check WHY COMMAND...: the command succeeds. Its output is shown only if it does not.
check() {
    local why=$1 out rc
    shift
    out=$("$@" 2>&1)
    rc=$?
    report $rc "$why"
    [ $rc -eq 0 ] || printf '          %s: exit %s\n%s\n' "$*" $rc "$out" | head -n 30
    return $rc
}

# refuses WHY TEXT COMMAND...: the command fails, and says TEXT (extended regular expression).
refuses() {
    local why=$1 text=$2 out rc
    shift 2
    out=$("$@" 2>&1)
    rc=$?
    if [ $rc -ne 0 ] && grep -qiE -- "$text" <<<"$out"; then
        report 0 "$why"
    else
        report 1 "$why"
        printf '          %s: exit %s, wanted a failure that says /%s/:\n%s\n' "$*" $rc "$text" "$out" | head -n 30
        return 1
    fi
}

# says WHY TEXT COMMAND...: the command succeeds and prints TEXT (extended regular expression).
says() {
    local why=$1 text=$2 out rc
    shift 2
    out=$("$@" 2>&1)
    rc=$?
    if [ $rc -eq 0 ] && grep -qE -- "$text" <<<"$out"; then
        report 0 "$why"
    else
        report 1 "$why"
        printf '          %s: exit %s, wanted /%s/:\n%s\n' "$*" $rc "$text" "$out" | head -n 30
        return 1
    fi
}

# says_not WHY TEXT COMMAND...: whatever its status, the command does not print TEXT.
says_not() {
    local why=$1 text=$2 out
    shift 2
    out=$("$@" 2>&1)
    if grep -qE -- "$text" <<<"$out"; then
        report 1 "$why"
        printf '          %s: must not say /%s/:\n%s\n' "$*" "$text" "$out" | head -n 30
        return 1
    fi
    report 0 "$why"
}

# at_most WHY LIMIT VALUE: a number that has a limit; says both.
at_most() {
    if [ -n "$3" ] && [ "$3" -le "$2" ]; then
        report 0 "$1: $3 of at most $2"
    else
        report 1 "$1: ${3:-nothing}, more than $2"
    fi
}

# eventually SECONDS WHY COMMAND...: the command succeeds within that time. Says how long it took.
eventually() {
    local seconds=$1 why=$2 start=${EPOCHREALTIME/./} took out
    shift 2
    until out=$("$@" 2>&1); do
        took=$(((${EPOCHREALTIME/./} - start) / 1000))
        if [ $took -ge $((seconds * 1000)) ]; then
            report 1 "$why (not within $seconds s)"
            printf '          %s:\n%s\n' "$*" "$out" | head -n 30
            return 1
        fi
        sleep 0.1
    done
    took=$(((${EPOCHREALTIME/./} - start) / 1000))
    report 0 "$why ($took ms)"
}

# same WHY WANT GOT
same() {
    if [ "$2" = "$3" ]; then
        report 0 "$1"
    else
        report 1 "$1"
        printf '          wanted: %s\n          got:    %s\n' "$2" "$3"
        return 1
    fi
}

finish() {
    echo "$passed passed, $failed failed"
    [ $failed -eq 0 ]
    exit
}
