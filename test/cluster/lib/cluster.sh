# Bringing a lab up and down, asking its cluster, and looking for what it left behind.

LAB_MANAGERS_MAX=50 # addresses .11 to .60
LAB_WORKERS_MAX=99  # addresses .101 to .199

# ---- up ------------------------------------------------------------------------------------------

lab_up() {
    local managers=3 workers=2 dedicated='' registry='' live_restore=false
    while [ $# -gt 0 ]; do
        case $1 in
        -m) managers=${2:-} && shift ;;
        -w) workers=${2:-} && shift ;;
        --dedicated-managers) dedicated=managerd ;;
        --registry) registry=1 ;;
        --live-restore) live_restore=true ;;
        *) die "up does not know '$1'; see: lab help" ;;
        esac
        shift
    done
    [[ $managers =~ ^[0-9]+$ ]] && [ "$managers" -ge 1 ] && [ "$managers" -le $LAB_MANAGERS_MAX ] ||
        die "-m takes 1 to $LAB_MANAGERS_MAX"
    [[ $workers =~ ^[0-9]+$ ]] && [ "$workers" -le $LAB_WORKERS_MAX ] || die "-w takes 0 to $LAB_WORKERS_MAX"
    need_tools ${registry:+docker-registry:docker-registry htpasswd:apache2-utils}
    [ -n "${LAB_NO_CLUSTER:-}" ] || need_programs
    if [ -e "$LAB/switch.pid" ] && switch_is_up; then
        die "a lab is up in $LAB; run: lab down"
    fi
    [ ! -e "$LAB" ] || [ -z "$(ls -A "$LAB")" ] || [ -e "$LAB/storage-driver" ] ||
        die "$LAB exists and is no lab"
    lab_remove # what a crash of the machine left
    trap 'lab_up_failed' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    lab_build "$managers" "$workers" "$dedicated" "$registry" "$live_restore" || exit 1
    trap - EXIT INT TERM HUP
    echo "lab: $LAB_NAME is up: $(all_hosts | tr '\n' ' ')"
}

lab_up_failed() {
    trap - EXIT
    trap '' INT TERM HUP
    # shellcheck disable=SC2046
    kill -9 $(jobs -p) 2>/dev/null
    wait 2>/dev/null
    if [ -n "${LAB_KEEP:-}" ]; then
        echo "lab: up failed; kept for a look: $LAB" >&2
    else
        echo "lab: up failed; removing what was there" >&2
        lab_down
    fi
    exit 1
}

# lab_build MANAGERS WORKERS DAEMONS-OF-MANAGERS REGISTRY LIVE-RESTORE; an empty third: all daemons
lab_build() {
    local i host jobs=() daemons="dockerd managerd agentd"
    [ -z "${LAB_NO_CLUSTER:-}" ] || daemons=dockerd
    mkdir -p "$LAB/hosts" "$DATA"
    storage_driver >"$LAB/storage-driver"
    net_up || return 1
    for ((i = 1; i <= $1; i++)); do
        host_define "m$i" manager "$NET.$((10 + i))" "${3:-$daemons}"
    done
    for ((i = 1; i <= $2; i++)); do host_define "w$i" worker "$NET.$((100 + i))" "$daemons"; done
    host_define client client "$NET.200" ""
    [ -z "$4" ] || host_define registry registry "$NET.250" registry
    for host in $(all_hosts); do
        echo "{ \"live-restore\": $5, \"insecure-registries\": [\"$NET.250:5000\", \"$NET.250:5001\"] }" \
            >"$DATA/$host/etc-docker/daemon.json"
    done
    image_busybox "$LAB/busybox.tar" &
    jobs=($!)
    for host in $(all_hosts); do
        host_boot "$host" &
        jobs+=($!)
    done
    wait_all "${jobs[@]}" || return 1
    lab_start_engines || return 1
    [ -n "${LAB_NO_CLUSTER:-}" ] || lab_start_cluster
}

lab_start_engines() {
    local host jobs=()
    for host in $(hosts_with dockerd); do
        { daemon_start_wait "$host" dockerd && image_load "$LAB/busybox.tar" "$host"; } &
        jobs+=($!)
    done
    for host in $(hosts_with registry); do
        daemon_start_wait "$host" registry &
        jobs+=($!)
    done
    wait_all "${jobs[@]}"
    local rc=$?
    rm -f "$LAB/busybox.tar"
    return $rc
}

lab_start_cluster() {
    local host first token jobs=()
    for host in $(hosts_with managerd); do daemon_start "$host" managerd || return 1; done
    for host in $(hosts_with managerd); do daemon_wait "$host" managerd || return 1; done
    for host in $(hosts_with agentd); do daemon_start "$host" agentd || return 1; done
    first=$NET.11
    host_exec m1 ctl swarm init --advertise-addr "$first" >/dev/null || { warn "swarm init failed on m1"; return 1; }
    token=$(host_exec m1 ctl swarm join-token -q manager) || return 1
    for host in $(hosts_of manager); do
        [ "$host" = m1 ] || lab_join "$host" "$token" || return 1
    done
    token=$(host_exec m1 ctl swarm join-token -q worker) || return 1
    for host in $(hosts_of worker); do
        lab_join "$host" "$token" &
        jobs+=($!)
    done
    wait_all "${jobs[@]}" || return 1
    wait_until 30 lab_is_ready && return
    host_exec m1 ctl node ls >&2
    warn "not every node became Ready within 30 s"
}

hosts_of() {
    local h
    for h in $(all_hosts); do [ "$(host_role "$h")" != "$1" ] || echo "$h"; done
}

lab_join() {
    host_exec "$1" ctl swarm join --token "$2" --advertise-addr "$(host_addr "$1")" "$NET.11:2377" \
        >/dev/null || warn "$1 could not join"
}

# Every host that runs a node is listed as Ready. A dedicated manager has no agent, hence no state.
lab_is_ready() {
    local want nodes
    nodes=$(host_exec m1 timeout 3 ctl node ls --format '{{.Hostname}} {{.Status}} {{.ManagerStatus}}') || return 1
    for want in $(hosts_with agentd); do
        grep -qE "^$want Ready( |\$)" <<<"$nodes" || return 1
    done
    [ "$(grep -cE ' (Leader|Reachable)$' <<<"$nodes")" -eq "$(hosts_of manager | wc -l)" ]
}

# ---- asking --------------------------------------------------------------------------------------

# lab ctl: on the manager that answered last, unless something was done to the lab since.
lab_ctl() {
    local host candidates=
    host=$(cat "$LAB/ctl-host" 2>/dev/null)
    if [ -z "$host" ]; then
        for host in $(hosts_of manager) $(hosts_of worker); do
            [ "$(daemon_state "$host" managerd)" = running ] && candidates="$candidates $host"
        done
        for host in $candidates; do
            if host_exec "$host" timeout 3 ctl node ls -q >/dev/null 2>&1; then
                echo "$host" >"$LAB/ctl-host"
                break
            fi
            host=
        done
        [ -n "$host" ] || read -r host _ <<<"$candidates"
    fi
    [ -n "$host" ] || die "no managerd runs"
    # A manager may have been demoted or lost its peers: after a failure the next call looks anew, and
    # one that is no manager any more has done nothing, so that is now.
    host_exec "$host" ctl "$@" 2> >(tee "$LAB/ctl-error" >&2) && return
    local rc=$?
    rm -f "$LAB/ctl-host"
    sleep 0.05 # for tee
    if [ -z "${lab_ctl_again:-}" ] && grep -q 'not a swarm manager' "$LAB/ctl-error"; then
        lab_ctl_again=1 lab_ctl "$@"
        return
    fi
    return $rc
}

lab_ps() {
    local host state
    printf '%-10s %-9s %-13s %-8s %-9s %-9s %-9s\n' HOST ROLE ADDRESS STATE DOCKERD MANAGERD AGENTD
    for host in $(all_hosts); do
        state=down
        host_is_up "$host" && state=up && host_is_frozen "$host" && state=paused
        printf '%-10s %-9s %-13s %-8s %-9s %-9s %-9s\n' "$host" "$(host_role "$host")" "$(host_addr "$host")" \
            $state "$(daemon_state "$host" dockerd)" "$(daemon_state "$host" managerd)" "$(daemon_state "$host" agentd)"
    done
    net_cuts | sed 's/^/cut: /'
}

# ---- down ----------------------------------------------------------------------------------------

# Removes everything a lab of this name may hold, whatever state it is in. Hosts whose boot was
# interrupted have no init on record, but a cgroup and a command line.
lab_remove() {
    local host rest
    for host in $(all_hosts); do cgroup_freeze "$host" 0 2>/dev/null; done
    rest=$(lab_processes)
    # shellcheck disable=SC2086
    [ -z "$rest" ] || kill -9 $rest 2>/dev/null
    lab_is_dead() { [ -z "$(lab_processes)" ]; }
    wait_until 15 lab_is_dead
    cgroup_remove ""
    # What an interrupted `up` had mounted for a look (storage_driver), innermost first.
    awk -v a="$LAB/" -v b="$DATA/" 'index($5, a) == 1 || index($5, b) == 1 { print $5 }' /proc/self/mountinfo |
        sort -r | while read -r rest; do umount -l "$rest"; done
    rm -rf --one-file-system "$LAB" "$DATA"
    [ -z "$(lab_leftovers)" ]
}

lab_down() {
    wait_until 20 lab_remove && return
    lab_leftovers
    warn "not everything is gone"
}

lab_processes() {
    {
        host_processes ""
        pgrep -f "^lab-switch $LAB infinity"
        pgrep -f "lib/init\.sh $LAB "
    } | sort -u
}

# Prints what is left of a lab: processes, mounts, cgroups, files. A namespace without a process and
# without a mount does not exist.
lab_leftovers() {
    local found m
    found=$(
        for m in $(cgroup_mounts); do find "$m/$LAB_NAME" -maxdepth 0 -printf 'cgroup %p\n' 2>/dev/null; done
        lab_processes | sed 's/^/process /'
        awk -v lab="$LAB/" 'index($5 "/", lab) == 1 { print "mount", $5 }' /proc/self/mountinfo
        for m in "$LAB" "$DATA"; do [ ! -e "$m" ] || echo "file $m"; done
    )
    [ -z "$found" ] && return
    echo "$found"
    return 1
}
