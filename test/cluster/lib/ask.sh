# Questions to a cluster in a lab, used by the demo and the tests. Sourced; `lab` is in PATH.

ctl() { lab ctl "$@"; }

# A command line for containers that ends at once when told to, and says a line per second.
# shellcheck disable=SC2016
TALK='trap exit TERM; while :; do echo $GREETING from $HOSTNAME; sleep 1 & wait $!; done'

# create NAME REPLICAS [FLAGS...]: a service of such containers, not waiting for its tasks.
create() {
    local name=$1 replicas=$2
    shift 2
    ctl service create --detach --name "$name" --replicas "$replicas" --stop-grace-period 2s "$@" \
        busybox sh -c "$TALK"
}

nodes() { ctl node ls --format '{{.Hostname}} {{.Status}} {{.ManagerStatus}}'; }
node_is() { nodes | grep -q "^$1 $2"; }
all_ready() { [ "$(nodes | grep -c ' Ready')" -eq "$1" ]; }
leader() { nodes | sed -n 's/^\([^ ]*\) .*Leader$/\1/p'; }
followers() { nodes | sed -n 's/^\([^ ]*\) .*Reachable$/\1/p'; }
has_leader() { [ -n "$(leader)" ]; }
new_leader() {
    local l
    l=$(leader) && [ -n "$l" ] && [ "$l" != "$1" ]
}

# running SERVICE: one line "node" per task that is meant to run and does.
running() {
    ctl service ps "$1" --filter desired-state=running --format '{{.Node}} {{.CurrentState}}' |
        sed -n 's/ Running.*//p'
}
tasks_run() { [ "$(running "$1" | wc -l)" -eq "$2" ]; }
none_on() { ! running "$1" | grep -qx "$2" && tasks_run "$1" "$3"; }
only_on() { ! running "$1" | grep -qvx "$2" && tasks_run "$1" "$3"; }

# kill_all DAEMON HOST...: at the same moment.
kill_all() {
    local daemon=$1 h jobs=() rc=0
    shift
    for h; do
        lab kill "$h" "$daemon" &
        jobs+=($!)
    done
    for h in "${jobs[@]}"; do wait "$h" || rc=1; done
    return $rc
}

# containers HOST...: "host id started-at name" of the running containers, from the engines themselves.
containers() {
    local h ids
    for h; do
        {
            ids=$(lab docker "$h" ps -q --no-trunc)
            # shellcheck disable=SC2086
            [ -z "$ids" ] || lab docker "$h" inspect -f "$h {{.Id}} {{.State.StartedAt}} {{.Name}}" $ids
        } &
    done | sort
    # The pipe is closed when the last of them is done.
}
engines() { lab ps | awk '$5 == "running" && $4 == "up" { print $1 }'; }
engines_but() { engines | grep -vxF "$(printf '%s\n' "$@")"; }

# engine_count SERVICE: its running containers on all hosts that are up.
engine_count() { containers $(engines) | grep -c "/$1\."; }
engines_run() { [ "$(engine_count "$1")" -eq "$2" ]; }
no_containers() { [ -z "$(containers $(engines))" ]; }

# lost BEFORE HOST...: containers of those hosts that stand in BEFORE and are gone or restarted.
lost() {
    local before=$1
    shift
    comm -23 <(grep -E "^($(tr ' ' '|' <<<"$*")) " <<<"$before") <(containers "$@")
}
