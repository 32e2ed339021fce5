# A host: namespaces held by an init of its own (PID 1 of the host), a cgroup, and a disk. Killing the
# init kills every process of the host, containers included, and takes its mounts, its /run and its
# network with it: a power cut. Booting makes everything new around the same disk.

host_init_pid() {
    local pid
    read -r pid <"$LAB/hosts/$1/init.pid" && echo "$pid"
} 2>/dev/null

host_is_up() {
    local pid mark
    read -r pid <"$LAB/hosts/$1/init.pid" && read -r mark <"/proc/$pid/root/run/lab-host" &&
        [ "$mark" = "$LAB $1" ]
} 2>/dev/null

# ---- cgroups -------------------------------------------------------------------------------------
# One group per host and hierarchy: `init` holds what the lab starts, dockerd adds its containers.

cgroup_mounts() { awk '{ for (i = 1; i <= NF; i++) if ($i == "-") { if ($(i + 1) ~ /^cgroup2?$/) print $5; break } }' /proc/self/mountinfo; }

# The hierarchy that can freeze: the freezer of cgroup v1, or cgroup v2.
cgroup_find_freezer() {
    local m
    for m in $(cgroup_mounts); do
        [ "$(basename "$m")" != freezer ] || { echo "$m" && return; }
    done
    for m in $(cgroup_mounts); do
        [ "$m" != /sys/fs/cgroup ] || { echo "$m" && return; }
    done
}
CGROUP_FREEZER=$(cgroup_find_freezer)

cgroup_dir() { echo "$CGROUP_FREEZER/$LAB_NAME/$1"; }

cgroup_make() {
    local dir
    [ -n "$CGROUP_FREEZER" ] || die "no cgroup freezer (v1) and no cgroup v2 mounted"
    dir=$(cgroup_dir "$1")
    mkdir -p "$dir/init" || die "cannot make a cgroup in $dir"
}

# Removes a host's groups in every hierarchy, or the lab's with no host. Only empty ones can go.
cgroup_remove() {
    local m dir
    for m in $(cgroup_mounts); do
        dir=$m/$LAB_NAME${1:+/$1}
        [ ! -d "$dir" ] || find "$dir" -depth -type d -exec rmdir {} + 2>/dev/null
    done
    return 0
}

# freeze HOST 1|0
cgroup_freeze() {
    local dir
    dir=$(cgroup_dir "$1")
    if [ -e "$dir/cgroup.freeze" ]; then
        echo "$2" >"$dir/cgroup.freeze" &&
            wait_until 5 grep -qx "frozen $2" "$dir/cgroup.events"
    elif [ "$2" = 1 ]; then
        echo FROZEN >"$dir/freezer.state" && wait_until 5 grep -qx FROZEN "$dir/freezer.state"
    else
        echo THAWED >"$dir/freezer.state" && wait_until 5 grep -qx THAWED "$dir/freezer.state"
    fi
}

host_is_frozen() {
    local dir
    dir=$(cgroup_dir "$1")
    grep -qsx FROZEN "$dir/freezer.state" || grep -qsx 1 "$dir/cgroup.freeze"
}

# ---- life ----------------------------------------------------------------------------------------

# host_define NAME ROLE ADDRESS "DAEMON..."
host_define() {
    local dir=$LAB/hosts/$1
    mkdir -p "$dir/log" "$dir/stage" "$DATA/$1"/{docker,skep,etc-docker,etc-skep}
    chmod 0700 "$DATA/$1/skep"
    echo "$2" >"$dir/role"
    echo "$3" >"$dir/addr"
    echo "$4" >"$dir/daemons"
}

# /etc/hosts of every host, written when all are defined.
hosts_file() {
    local h
    echo "127.0.0.1 localhost"
    for h in $(all_hosts); do echo "$(host_addr "$h") $h"; done
}

host_boot() {
    local host=$1 dir=$LAB/hosts/$1 outer pid
    cgroup_make "$host"
    hosts_file >"$dir/hosts-file"
    (
        close_fds
        # Outside its cgroup nobody would find it: no cgroup (the lab is being removed), no host.
        echo 0 >"$(cgroup_dir "$host")/init/cgroup.procs" || exit 1
        exec setsid unshare --fork --pid --mount --uts --ipc --net --propagation private \
            bash "$here/lib/init.sh" "$LAB" "$host" "$DATA/$host" </dev/null >>"$dir/log/init" 2>&1
    ) &
    outer=$!
    find_init() { pid=$(pgrep -P $outer) && [ -e "/proc/$pid/root/run/lab-host" ]; }
    until find_init 2>/dev/null || [ ! -e /proc/$outer ]; do sleep 0.02; done
    if ! find_init 2>/dev/null; then
        tail -n 5 "$dir/log/init" >&2
        warn "$host did not boot"
        return 1
    fi
    echo "$pid" >"$dir/init.pid"
    net_attach "$host" "$pid" || warn "$host has no network"
}

# Cuts the power: every process of the host is gone when this returns.
host_kill() {
    local host=$1 pid
    host_is_up "$host" || { warn "$host is down already"; return 1; }
    rm -f "$LAB/ctl-host"
    net_detach "$host"
    pid=$(host_init_pid "$host")
    kill -9 "$pid"
    cgroup_freeze "$host" 0
    host_wait_gone "$host" "$pid"
}

host_processes() {
    local dir
    dir=$(cgroup_dir "$1") || return 0
    [ -d "$dir" ] && find "$dir" -name cgroup.procs -exec cat {} + 2>/dev/null
}

host_wait_gone() {
    no_process() { [ ! -e "/proc/$2" ] && [ -z "$(host_processes "$1")" ]; }
    wait_until 15 no_process "$1" "$2" || { warn "$1: processes live on: $(host_processes "$1" | tr '\n' ' ')"; return 1; }
    rm -f "$LAB/hosts/$1/init.pid"
    cgroup_remove "$1"
}

host_stop() {
    local host=$1 daemon
    host_is_up "$host" || { warn "$host is down already"; return 1; }
    host_is_frozen "$host" && { warn "$host is paused; resume it first"; return 1; }
    for daemon in agentd managerd dockerd registry; do
        [ -z "$(daemon_pids "$host" $daemon)" ] || daemon_stop "$host" $daemon || return 1
    done
    host_kill "$host"
}

host_start() {
    local host=$1 daemon rc=0
    rm -f "$LAB/ctl-host"
    host_is_up "$host" || host_boot "$host" || return 1
    for daemon in $(cat "$LAB/hosts/$host/daemons"); do
        [ -n "$(daemon_pids "$host" "$daemon")" ] || daemon_start "$host" "$daemon" || rc=1
    done
    for daemon in $(cat "$LAB/hosts/$host/daemons"); do
        daemon_wait "$host" "$daemon" || rc=1
    done
    return $rc
}

host_pause() {
    need_up "$1"
    rm -f "$LAB/ctl-host"
    host_is_frozen "$1" && { warn "$1 is paused already"; return 1; }
    cgroup_freeze "$1" 1 || { warn "$1 does not freeze"; return 1; }
}

host_resume() {
    need_up "$1"
    rm -f "$LAB/ctl-host"
    host_is_frozen "$1" || { warn "$1 is not paused"; return 1; }
    cgroup_freeze "$1" 0 || { warn "$1 does not thaw"; return 1; }
}

# host_exec HOST CMD...: everything run in a host also belongs to its cgroup, so that pausing and
# killing the host covers it.
host_exec() {
    local host=$1 pid
    shift
    [ $# -gt 0 ] || die "exec what?"
    pid=$(host_init_pid "$host")
    (
        echo 0 >"$(cgroup_dir "$host")/init/cgroup.procs" || exit 1
        exec env -u DOCKER_HOST -u DOCKER_CONTEXT -u SKEP_HOST PATH="$HOST_PATH" \
            nsenter -t "$pid" -m -u -i -n -p -- "$@"
    )
}

host_logs() {
    local file=$LAB/hosts/$1/log/${2:-}
    [ -n "${2:-}" ] && [ -f "$file" ] || die "$1 has logs of: $(ls "$LAB/hosts/$1/log" | tr '\n' ' ')"
    cat "$file"
}
