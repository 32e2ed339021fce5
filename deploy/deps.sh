#!/bin/sh
# Installs the Debian packages given as arguments, if any is missing. Root only when there is work.
missing=
for p in "$@"; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "missing packages:$missing; run 'make deps' as root" >&2
    exit 1
fi
echo "installing:$missing"
# A package's service must not start here: policy-rc.d answers 101 = "not allowed" while we install.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
    trap 'rm -f $policy' EXIT INT TERM
fi
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086
{ apt-get update -q && apt-get install -q -y --no-install-recommends $missing; } >/tmp/skep-deps.log 2>&1 || {
    tail -n 20 /tmp/skep-deps.log >&2
    echo "installing failed; the whole log is /tmp/skep-deps.log" >&2
    exit 1
}
