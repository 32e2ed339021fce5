# The daemons of a host. Found by name among the processes of the host's PID namespace (processes in
# containers have namespaces of their own), so there are no pid files to be wrong. Nothing restarts a
# daemon but `lab start`.

# Process name as the kernel knows it.
daemon_comm() {
    case $1 in registry) echo docker-registry ;; *) echo "$1" ;; esac
}

daemon_pids() {
    host_is_up "$1" && pgrep -x --ns "$(host_init_pid "$1")" --nslist pid "$(daemon_comm "$2")"
}

daemon_is_up() { [ -n "$(daemon_pids "$1" "$2")" ]; }
daemon_is_down() { ! daemon_is_up "$1" "$2"; }

# daemon_state HOST DAEMON: running, paused, dead, or - when the host is not meant to run it.
daemon_state() {
    local pid daemons
    read -r daemons <"$LAB/hosts/$1/daemons" || daemons=''
    [[ " $daemons " == *" $2 "* ]] || { echo - && return; }
    pid=$(daemon_pids "$1" "$2") && pid=${pid%%[!0-9]*}
    if [ -z "$pid" ]; then
        echo dead
    elif host_is_frozen "$1" || grep -qs '^State:.*T' "/proc/$pid/status"; then
        echo paused
    else
        echo running
    fi
}

# storage_driver: overlay2 where the disk of the lab carries it, else vfs.
storage_driver() {
    local d=$DATA/.probe driver=vfs
    mkdir -p "$d"/{lower/dir,upper,work,merged}
    if mount -t overlay overlay -o "lowerdir=$d/lower,upperdir=$d/upper,workdir=$d/work" "$d/merged" 2>/dev/null; then
        rmdir "$d/merged/dir" 2>/dev/null && driver=overlay2
        umount "$d/merged"
    fi
    rm -rf "$d"
    echo $driver
}

# daemon_command HOST DAEMON: sets daemon_argv.
daemon_command() {
    local addr
    addr=$(host_addr "$1")
    case $2 in
    dockerd)
        daemon_argv=(dockerd --data-root /var/lib/docker --exec-root /run/docker
            -H unix:///run/docker.sock --pidfile /run/docker.pid --exec-opt native.cgroupdriver=cgroupfs
            --storage-driver "$(cat "$LAB/storage-driver")" --cgroup-parent "/$LAB_NAME/$1/docker")
        ;;
    managerd) daemon_argv=(managerd --state-dir /var/lib/skep --run-dir /run/skep --listen "$addr:2377") ;;
    agentd) daemon_argv=(agentd --state-dir /var/lib/skep --run-dir /run/skep --docker unix:///run/docker.sock) ;;
    registry) daemon_argv=(bash "$here/lib/registry.sh") ;;
    esac
}

# Starts without waiting until it serves.
daemon_start() {
    local host=$1 daemon=$2 daemon_argv
    host_is_up "$host" || { warn "$host is down; run: lab start $host"; return 1; }
    daemon_is_down "$host" "$daemon" || { warn "$daemon runs already on $host"; return 1; }
    case " $(cat "$LAB/hosts/$host/daemons") " in
    *" $daemon "*) ;;
    *) warn "$host is not meant to run $daemon" && return 1 ;;
    esac
    rm -f "$LAB/ctl-host"
    daemon_command "$host" "$daemon"
    (
        close_fds
        exec </dev/null >>"$LAB/hosts/$host/log/$daemon" 2>&1
        [ "$daemon" != dockerd ] || rm -f "/proc/$(host_init_pid "$host")/root/run/docker.pid"
        # The shell in between ends at once, so that the host's init becomes the parent.
        host_exec "$host" bash -c 'cd /; setsid "$@" &' - "${daemon_argv[@]}"
    )
}

daemon_serves() {
    local run
    run=/proc/$(host_init_pid "$1")/root/run
    daemon_is_up "$1" "$2" || return 1
    case $2 in
    dockerd) [ -S "$run/docker.sock" ] && host_exec "$1" docker version -f '{{.Server.Version}}' >/dev/null ;;
    managerd) [ -S "$run/skep/control.sock" ] ;;
    registry) host_exec "$1" bash -c ': </dev/tcp/127.0.0.1/5000 && : </dev/tcp/127.0.0.1/5001' ;;
    esac
}

# Waits until a started daemon serves; gives up early on one that has ended.
daemon_wait() {
    local end=$((SECONDS + 60))
    until daemon_serves "$1" "$2"; do
        sleep 0.05
        daemon_is_up "$1" "$2" || wait_until 1 daemon_is_up "$1" "$2" || break
        [ $SECONDS -lt $end ] || break
    done
    daemon_serves "$1" "$2" && return
    tail -n 5 "$LAB/hosts/$1/log/$2" >&2
    warn "$2 on $1 does not serve; see: lab logs $1 $2"
}

daemon_start_wait() { daemon_start "$1" "$2" && daemon_wait "$1" "$2"; }

# daemon_signal HOST DAEMON SIGNAL
daemon_signal() {
    local pids
    pids=$(daemon_pids "$1" "$2")
    [ -n "$pids" ] || { warn "$2 does not run on $1"; return 1; }
    rm -f "$LAB/ctl-host"
    # shellcheck disable=SC2086
    kill "-$3" $pids
}

daemon_kill() {
    daemon_signal "$1" "$2" KILL || return 1
    wait_until 10 daemon_is_down "$1" "$2" || { warn "$2 on $1 survives SIGKILL"; return 1; }
}

daemon_stop() {
    daemon_signal "$1" "$2" TERM || return 1
    wait_until 30 daemon_is_down "$1" "$2" || { warn "$2 on $1 ignores SIGTERM for 30 s"; return 1; }
}

daemon_pause() {
    daemon_signal "$1" "$2" STOP || return 1
    all_stopped() { [ "$(daemon_state "$1" "$2")" = paused ]; }
    wait_until 5 all_stopped "$1" "$2" || { warn "$2 on $1 does not stop"; return 1; }
}

daemon_resume() {
    [ "$(daemon_state "$1" "$2")" = paused ] || { warn "$2 on $1 is not paused"; return 1; }
    daemon_signal "$1" "$2" CONT
}

lab_docker() {
    local host=$1
    shift
    host_exec "$host" docker -H unix:///run/docker.sock "$@"
}
