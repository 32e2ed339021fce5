#!/bin/bash
# `make install` into an empty folder gives the expected tree, and systemd accepts the units.
set -u
cd "$(dirname "$0")/.." || exit 1
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
passed=0 failed=0

check() {
    local why=$1
    shift
    if out=$("$@" 2>&1); then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED %s: %s\n%s\n' "$why" "$*" "$out"
    fi
}

check "install" make -s install DESTDIR="$tree" PREFIX=/usr
for p in managerd agentd ctl; do
    check "$p is a program" test -x "$tree/usr/bin/$p"
    check "$p runs from there" "$tree/usr/bin/$p" --version
done
check "the gate is installed" test -x "$tree/usr/libexec/skep/skep-gate"
check "the gate needs nothing of an image" sh -c "! ldd '$tree/usr/libexec/skep/skep-gate' >/dev/null 2>&1"
for page in man1/ctl.1 man8/managerd.8 man8/agentd.8; do
    check "$page is there" test -s "$tree/usr/share/man/$page"
    check "$page is well-formed" sh -c "! man --warnings -E UTF-8 -l -Tutf8 -Z '$tree/usr/share/man/$page' 2>&1 >/dev/null | grep ."
done
check "bash completion parses" bash -n "$tree/usr/share/bash-completion/completions/ctl"
check "bash completion completes" bash -c ". $tree/usr/share/bash-completion/completions/ctl && complete -p ctl"
check "zsh completion is there" test -s "$tree/usr/share/zsh/site-functions/_ctl"
check "fish completion is there" test -s "$tree/usr/share/fish/vendor_completions.d/ctl.fish"
for u in skep-managerd skep-agentd; do
    unit=$tree/usr/lib/systemd/system/$u.service
    check "$u starts the installed program" grep -q "^ExecStart=/usr/bin/${u#skep-}\$" "$unit"
    check "$u has no blanks left to fill" sh -c "! grep -n '@[A-Z]*@' $unit"
    # systemd-analyze wants the program where the unit says it is.
    sed "s,=/usr/bin/,=$tree/usr/bin/," "$unit" >"$tree/$u.service"
    check "systemd accepts $u" sh -c "systemd-analyze verify --man=no $tree/$u.service 2>&1 | (! grep .)"
done
check "nothing unexpected is installed" sh -c "! find $tree/usr -type f | grep -vE \
    '/bin/(managerd|agentd|ctl)\$|/libexec/skep/skep-gate\$|/man[18]/[a-z-]+\.[18]\$|/completions/ctl\$|/_ctl\$|/ctl\.fish\$|/skep-(managerd|agentd)\.service\$'"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
