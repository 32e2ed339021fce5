# Managers as light processes: each in a network namespace of its own on one bridge, its disk a folder
# on a real file system, watched by lostwrite.so. Sourced by round.sh and points.sh, which run inside
# namespaces of their own (namespaces below): when they end, every process, mount and link goes too.
#
# Sets: W (folder of this round), BIN (build folder). Managers are numbered from 1.

NET=10.78.0
ulimit -c unlimited # what crashes leaves its core in the round's folder
declare -A pid=() state=() holder=() # state: up, paused, dead

# namespaces CMD...: a machine of its own for CMD, in the place of this (sub)shell. Killing that shell
# with SIGKILL ends everything in it.
namespaces() {
    exec unshare --mount --net --pid --fork --kill-child --mount-proc --propagation private -- "$@"
}

die() {
    echo "torture: $*" >&2
    exit 2
}

# go_inside ARGS...: the script itself again, inside, in a folder W of its own that goes with it unless it
# fails; returns only there.
go_inside() {
    local inside rc
    if [ -n "${TORTURE_INSIDE:-}" ]; then
        W=$TORTURE_INSIDE
        exec 2> >(grep --line-buffered -v ' Killed  ' >&2) # what bash has to say about our own faults
        return
    fi
    [ "$(id -u)" -eq 0 ] || die "needs root"
    [ -x "$BIN/torture/client" ] || die "$BIN/torture is not built: make torture, with FAILPOINTS=1 if need be"
    W=$(mktemp -d "${SKEP_TEST_DIR:-$BIN}/t.XXXXXX") || exit 2
    (TORTURE_INSIDE=$W namespaces "$0" "$@") &
    inside=$!
    trap 'kill -9 $inside; wait; rm -rf --one-file-system "$W"; exit 130' INT TERM HUP
    wait $inside
    rc=$?
    [ $rc -ne 0 ] && [ -n "${TORTURE_KEEP:-}" ] && echo "kept: $W" || rm -rf --one-file-system "$W"
    exit $rc
}

# wait_for SECONDS CMD...
wait_for() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.05
    done
}

# ---- network -------------------------------------------------------------------------------------

net_up() {
    ip link set lo up
    ip link add br0 type bridge forward_delay 0 && ip link set br0 up || die "no bridge"
    nft -f - <<'NFT' || die "no nftables"
table bridge torture {
    set cuts {
        type ifname . ifname
    }
    chain forward {
        type filter hook forward priority 0
        iifname . oifname @cuts drop
    }
}
NFT
}

host_up() { # N
    unshare --net sleep infinity &
    holder[$1]=$!
    in_host() { [ "$(readlink "/proc/$1/ns/net")" != "$(readlink /proc/self/ns/net)" ]; }
    wait_for 5 in_host "${holder[$1]}" || die "no network namespace"
    ip link add "v$1" type veth peer name eth0 netns "${holder[$1]}" || die "no veth"
    ip link set "v$1" master br0 up
    nsenter --net="/proc/${holder[$1]}/ns/net" sh -ec "
        ip link set lo up
        ip addr add $NET.$1/24 dev eth0
        ip link set eth0 up"
}

# net_cut A B: what A sends does not arrive at B.
net_cut() { nft add element bridge torture cuts "{ \"v$1\" . \"v$2\" }"; }
net_heal() { nft flush set bridge torture cuts; }

# ---- managers ------------------------------------------------------------------------------------

manager_dirs() { # N
    mkdir -p "$W/m$1/links" "$W/m$1/state" "$W/m$1/run" "$W/core$1"
    chmod 0700 "$W/m$1/state" "$W/m$1/run"
}

# A file system of its own for member N: what fills it fills nobody else's.
manager_disk() { # N MIB
    mkdir -p "$W/m$1"
    truncate -s "$2M" "$W/disk$1" && mkfs.ext4 -q -F "$W/disk$1" && mount -o loop "$W/disk$1" "$W/m$1" ||
        die "no loop device"
}

# AddressSanitizer wants to be the first of the preloaded. plain_disk=1: a disk like any other.
plain_disk=''
preloads() {
    [ -z "$plain_disk" ] || return
    ldd "$BIN/managerd" | sed -n 's/.*libasan.* => \([^ ]*\).*/\1 /p'
    echo "$BIN/torture/lostwrite.so"
}

# manager_start N [NAME=VALUE...]: environment for the failure points.
manager_start() {
    local n=$1
    shift
    nsenter --net="/proc/${holder[$n]}/ns/net" env -C "$W/core$n" "$@" LD_PRELOAD="$(preloads)" \
        LOSTWRITE_DIR="$W/m$n/state" LOSTWRITE_LOG="$W/m$n.journal" LOSTWRITE_LINKS="$W/m$n/links" \
        "$BIN/managerd" --state-dir "$W/m$n/state" --run-dir "$W/m$n/run" --config "$W/empty.conf" \
        --listen "$NET.$n:2377" --advertise "$NET.$n:2377" </dev/null >>"$W/m$n.log" 2>&1 &
    pid[$n]=$!
    state[$n]=up
}

manager_serves() { [ -S "$W/m$1/run/control.sock" ] && ctl "$1" info >/dev/null 2>&1; }
manager_runs() { kill -0 "${pid[$1]}" 2>/dev/null; }

manager_signal() { kill "-$2" "${pid[$1]}" 2>/dev/null; } # N SIGNAL

# Ends N; exit_status says how it ended.
manager_kill() { # N SIGNAL
    manager_signal "$1" "$2"
    manager_signal "$1" CONT
    manager_wait "$1"
}

manager_wait() {
    wait "${pid[$1]}"
    exit_status=$?
    state[$1]=dead
} 2>/dev/null

# What a power cut would have left of its disk.
manager_crash() { # N SEED [none|random|all]
    "$BIN/torture/crash" "$W/m$1/state" "$W/m$1.journal" "$W/m$1/links" "$2" "${3:-random}" >>"$W/m$1.log" ||
        die "crash tool failed on m$1"
    rm -f "$W/m$1"/links/* # nothing can be taken back any more
}

ctl() { # N ARGS...
    local n=$1
    shift
    timeout 30 "$BIN/ctl" --host "unix://$W/m$n/run/control.sock" "$@"
}

# cluster_up N: managers 1 to N, all members.
cluster_up() {
    local i token
    : >"$W/empty.conf"
    net_up
    for ((i = 1; i <= $1; i++)); do
        manager_dirs "$i"
        host_up "$i"
        manager_start "$i"
    done
    for ((i = 1; i <= $1; i++)); do
        wait_for 30 manager_serves "$i" || die "m$i does not serve: $(tail -n 3 "$W/m$i.log")"
    done
    ctl 1 swarm init --advertise-addr "$NET.1" >/dev/null || die "no init"
    token=$(ctl 1 swarm join-token -q manager) || die "no token"
    for ((i = 2; i <= $1; i++)); do
        ctl "$i" swarm join --token "$token" --advertise-addr "$NET.$i" "$NET.1:2377" >/dev/null ||
            die "m$i could not join"
    done
    wait_for 60 cluster_has "$1" || die "not all are members"
}

# All N are voters, says manager 1. (Listed as reachable is a learner too.)
cluster_has() { [ "$(ctl 1 info 2>/dev/null | grep -cE ' (leader|voter)( |,|$)')" -eq "$1" ]; }

# Only the residents are left, says manager N. A join that was cut off may have left a manager behind.
residents='' # node ids
forget_visitors() { # N
    local rest
    rest=$(ctl "$1" node ls -q 2>/dev/null) && [ -n "$rest" ] || return 1
    rest=$(grep -vxF "$residents" <<<"$rest")
    [ -n "$rest" ] || return 0
    # shellcheck disable=SC2086
    ctl "$1" node demote $rest >/dev/null 2>&1
    # shellcheck disable=SC2086
    ctl "$1" node rm --force $rest >/dev/null 2>&1
    return 1
}

# The manager that says of itself that it leads.
leader() {
    local n
    for n in 1 2 3; do
        ctl $n node ls --format '{{.Self}} {{.ManagerStatus}}' 2>/dev/null | grep -q 'true Leader' && echo $n && return
    done
    echo 1
}

sockets() { # N
    local i
    for ((i = 1; i <= $1; i++)); do echo "$W/m$i/run/control.sock"; done
}

# ---- clients -------------------------------------------------------------------------------------

clients=()
clients_start() { # SECONDS SEED [COUNT]: three processes of four clients each
    local i
    # shellcheck disable=SC2046
    for i in 1 2 3; do
        "$BIN/torture/client" run "$1" $(($2 * 4 + i)) "${3:-4}" $(sockets 3) >"$W/history$i" 2>>"$W/client.log" &
        clients+=($!)
    done
}

clients_wait() {
    local p
    for p in "${clients[@]}"; do wait "$p" || problem "a client ended with $?"; done
}

# Nothing on its disk is damaged; it must not run.
manager_verify() { # N
    "$BIN/managerd" inspect --verify --state-dir "$W/m$1/state" >>"$W/m$1.log" 2>&1
}
