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

# ---- networks ---------------------------------------------------------------------------------------

# A web server that answers with its task's slot and container; ends at once when told to.
# shellcheck disable=SC2016
SERVE='mkdir -p /tmp/w; echo $SLOT $HOSTNAME >/tmp/w/index.html; exec httpd -f -p 80 -h /tmp/w'

# web NAME REPLICAS [FLAGS...]: a service of such servers, waiting for its tasks.
web() {
    local name=$1 replicas=$2
    shift 2
    ctl service create -q --wait-timeout 40s --name "$name" --replicas "$replicas" --stop-grace-period 2s --env 'SLOT={{.Task.Slot}}' \
        --update-monitor 1s "$@" busybox sh -c "$SERVE"
}

# task_on SERVICE HOST: the container of one of its tasks there.
task_on() { lab docker "$2" ps -q --no-trunc --filter "label=com.docker.swarm.service.name=$1" | head -n 1; }
# in_task SERVICE HOST CMD...: inside it.
in_task() {
    local id
    id=$(task_on "$1" "$2") && [ -n "$id" ] || { echo "no task of $1 on $2"; return 1; }
    shift
    lab docker "$1" exec "$id" "${@:2}"
}
# hosts_of SERVICE: where its tasks run, once each.
hosts_of() { running "$1" | sort -u; }

# fetch HOST ADDRESS[:PORT] TIMES: from a host, the answers with their counts.
fetch() { lab exec "$1" sh -c "for i in \$(seq $3); do curl -s -m 3 http://$2/ || echo failed; done" | sort | uniq -c; }
# slots N: the text on stdin has answers of N different slots and none that failed.
slots() {
    local text
    text=$(cat)
    echo "$text"
    ! grep -q failed <<<"$text" && [ "$(awk '{ print $2 }' <<<"$text" | sort -u | grep -c '^[0-9]')" -eq "$1" ]
}
host_address() { lab exec "$1" ip -4 -o addr show eth0 | awk '{ sub("/.*", "", $4); print $4 }'; }
vip_of() { ctl service inspect --format '{{range .Endpoint.VirtualIPs}}{{.Addr}} {{end}}' "$1" | awk -v n="${2:-1}" '{ sub("/.*", "", $n); print $n }'; }

# load_start NAME HOST TARGET... and load_end NAME: requests without pause from a host; load_end prints what
# became of them and fails if any failed.
load_start() {
    local name=$1 host=$2
    shift 2
    touch "/tmp/skep-load.$name.$$"
    lab exec "$host" "${SKEP_BUILD:-$here/../../build/release}/http_load" -c 4 -w 10000 -t 300 -s "/tmp/skep-load.$name.$$" "$@" \
        >"/tmp/skep-load.$name.$$.out" 2>&1 &
    eval "load_pid_$name=$!"
    sleep 1
}
load_end() {
    local var=load_pid_$1 out=/tmp/skep-load.$1.$$.out i
    rm -f "/tmp/skep-load.$1.$$"
    for ((i = 0; i < 100; i++)); do kill -0 "${!var}" 2>/dev/null && sleep 0.1 || break; done
    cat "$out"
    grep -q '^requests [1-9][0-9]* failed 0 ' "$out"
}
