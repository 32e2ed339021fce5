#!/bin/bash
# TCP from a container to a container on another host: through a virtual address, directly, and over
# Docker's own overlay between the same two engines, in turns. Prints the medians of ROUNDS (5) rounds of
# SECONDS (3) each and their ratios. Goals: VIP >= 95 % of direct, direct >= Docker's.
set -u
cd "$(dirname "$0")/../.." || exit 1
rounds=${ROUNDS:-5} seconds=${SECONDS_EACH:-3}
export SKEP_LAB_DIR=${SKEP_LAB_DIR:-/run/skep-bench}
lab=test/cluster/lab
trap '$lab down' EXIT
$lab up -m 1 -w 1 || exit 1

die() { echo "bench_overlay: $*" >&2 && exit 1; }
pid_of() { $lab docker "$1" inspect -f '{{.State.Pid}}' "$2"; }
# in_net HOST PID CMD...: in a container's network, outside of its file system.
in_net() { $lab exec "$1" nsenter -t "$2" -n "${@:3}"; }
serve() { in_net "$1" "$2" iperf3 -s -D >/dev/null; }
# measure HOST PID ADDRESS: Mbit/s received.
measure() { in_net "$1" "$2" iperf3 -c "$3" -t "$seconds" -J | jq '.end.sum_received.bits_per_second / 1e6 | floor'; }

# ---- ours ----
$lab ctl network create bench >/dev/null
for s in server:w1 client:m1; do
    $lab ctl service create -q --wait-timeout 40s --name "${s%:*}" --network bench --constraint "node.hostname==${s#*:}" \
        busybox sleep 3600 >/dev/null || die "no ${s%:*}"
done
container() { $lab docker "$1" ps -q --filter "label=com.docker.swarm.service.name=$2"; }
server=$(pid_of w1 "$(container w1 server)")
client=$(pid_of m1 "$(container m1 client)")
direct=$(in_net w1 "$server" ip -4 -o addr show eth0 | awk '{ sub("/.*", "", $4); print $4 }')
vip=$($lab ctl service inspect --format '{{range .Endpoint.VirtualIPs}}{{.Addr}}{{end}}' server)
serve w1 "$server"

# ---- Docker's, where it can run ----
docker=''
if $lab docker m1 swarm init --listen-addr 10.77.0.11:2399 --advertise-addr 10.77.0.11:2399 --data-path-port 4790 >/dev/null 2>&1 &&
    $lab docker w1 swarm join --listen-addr 10.77.0.101:2399 --advertise-addr 10.77.0.101:2399 \
        --token "$($lab docker m1 swarm join-token -q worker)" 10.77.0.11:2399 >/dev/null 2>&1 &&
    $lab docker m1 network create -d overlay --attachable theirs >/dev/null &&
    $lab docker m1 run -d --name their-client --network theirs busybox sleep 3600 >/dev/null &&
    $lab docker w1 run -d --name their-server --network theirs busybox sleep 3600 >/dev/null; then
    their_server=$(pid_of w1 their-server)
    their_client=$(pid_of m1 their-client)
    docker=$($lab docker w1 inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' their-server)
    serve w1 "$their_server"
fi

for ((i = 0; i < rounds; i++)); do
    echo "vip $(measure m1 "$client" "${vip%/*}")"
    echo "direct $(measure m1 "$client" "$direct")"
    [ -z "$docker" ] || echo "docker $(measure m1 "$their_client" "$docker")"
done | sort -k1,1 -k2,2n | awk '{ n[$1]++; v[$1, n[$1]] = $2 }
    function median(x) { return v[x, int((n[x] + 1) / 2)] }
    END {
        printf "container to container across hosts, TCP, Mbit/s: VIP %d, direct %d", median("vip"), median("direct")
        if ("docker" in n) printf ", Docker overlay %d", median("docker")
        printf "\nVIP / direct %.2f (goal 0.95)", median("vip") / median("direct")
        if ("docker" in n) printf ", direct / Docker %.2f (goal 1)", median("direct") / median("docker")
        printf "\n"
    }'
