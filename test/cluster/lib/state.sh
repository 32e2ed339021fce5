# Names and paths of a lab, and small helpers. Sourced by `lab`.
#
#   $LAB/hosts/NAME/{role,addr,daemons}  what the host is       $LAB/hosts/NAME/init.pid  its init
#   $LAB/hosts/NAME/disk                 what survives a power cut ($DATA/NAME)
#   $LAB/hosts/NAME/log                  one file per daemon     $LAB/switch.pid   holder of the bridge
# Nothing else is remembered: which daemons run, which are frozen, which links are cut is read from the
# kernel each time, so the lab cannot be wrong about it.

LAB=$(realpath -m "${SKEP_LAB_DIR:-/run/skep-lab}")
LAB_NAME=$(basename "$LAB")
SKEP_BUILD=${SKEP_BUILD:-$root/build/release}
[ ! -d "$SKEP_BUILD" ] || SKEP_BUILD=$(realpath "$SKEP_BUILD")
HOST_PATH=$SKEP_BUILD:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# /run is a small tmpfs on most machines: images and Raft logs go to a disk then.
if [ "$(stat -f -c %T "$(dirname "$LAB")" 2>/dev/null)" = tmpfs ]; then
    DATA=/var/tmp/$LAB_NAME
else
    DATA=$LAB/data
fi

die() {
    echo "lab: $*" >&2
    exit 1
}

warn() {
    echo "lab: $*" >&2
    return 1
}

# wait_until SECONDS COMMAND...: polls until the command succeeds.
wait_until() {
    local end=$((${EPOCHREALTIME/./} + $1 * 1000000))
    shift
    until "$@" 2>/dev/null; do
        [ "${EPOCHREALTIME/./}" -lt $end ] || return 1
        sleep 0.05
    done
}

# wait_all PID...: waits for background jobs; fails if one failed.
wait_all() {
    local job rc=0
    for job; do wait "$job" || rc=1; done
    return $rc
}

# A daemon must not inherit locks and pipes of whoever called the lab.
close_fds() {
    local fd
    for fd in /proc/"$BASHPID"/fd/*; do
        fd=${fd##*/}
        [ "$fd" -le 2 ] || eval "exec $fd>&-"
    done 2>/dev/null
}

need_root() {
    [ "$(id -u)" -eq 0 ] || die "needs root (namespaces, mounts, Docker engines); try: sudo lab ..."
}

need_tools() {
    local tool missing=
    for tool in unshare nsenter:util-linux ip:iproute2 nft:nftables pgrep:procps dockerd:docker.io \
        containerd:docker.io docker:docker.io iptables:iptables busybox:busybox-static "$@"; do
        command -v "${tool%%:*}" >/dev/null || missing="$missing ${tool%%:*} (package ${tool##*:})"
    done
    [ -z "$missing" ] || die "missing:$missing; run 'make deps' as root"
}

need_programs() {
    local p
    for p in managerd agentd ctl; do
        [ -x "$SKEP_BUILD/$p" ] || die "$SKEP_BUILD/$p is missing; run 'make all' or set SKEP_BUILD"
    done
}

is_daemon() {
    case $1 in managerd | agentd | dockerd | registry) return 0 ;; *) return 1 ;; esac
}

all_hosts() {
    local h
    for h in "$LAB"/hosts/*; do
        [ ! -d "$h" ] || echo "${h##*/}"
    done | sort -V
}

# hosts_with DAEMON: the hosts that are meant to run it.
hosts_with() {
    local h daemons
    for h in $(all_hosts); do
        read -r daemons <"$LAB/hosts/$h/daemons" || continue
        [[ " $daemons " != *" $1 "* ]] || echo "$h"
    done
}

host_addr() { cat "$LAB/hosts/$1/addr"; }
host_role() { cat "$LAB/hosts/$1/role"; }

need_host() {
    [ -n "$1" ] && [ -d "$LAB/hosts/$1" ] || die "no host '$1'; there are: $(all_hosts | tr '\n' ' ')"
}

need_up() {
    need_host "$1"
    host_is_up "$1" || die "$1 is down; run: lab start $1"
}
