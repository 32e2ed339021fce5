#!/bin/bash
# Overlay networks: names, virtual addresses, published ports, node-local networks, and nothing left behind.
# lab: -m 1 -w 2
# seconds: 240
. "$(dirname "$0")/lib/test.sh"

# residue: what networks leave in a host's kernel and run directory.
residue() {
    local h
    for h in m1 w1 w2; do
        lab exec "$h" sh -c '
            ip -o link show | grep -E " (sk|vx)[0-9a-z]+[@:]" || :
            nft list tables 2>/dev/null | grep skep || :
            ls /run/skep/netns 2>/dev/null || :' | sed "s/^/$h /"
    done
}
# names TASK-SERVICE HOST NAME: the addresses that a name has inside a task, one a line.
names() { in_task "$1" "$2" nslookup "$3" | sed -n '/^Name/,$s/^Address[^:]*: *//p' | sort; }
name_count() { [ "$(names "$1" "$2" "$3" | wc -l)" -eq "$4" ]; }

says "a fresh cluster has ingress and the node-local networks" "ingress" ctl network ls --format '{{.Name}} {{.Driver}} {{.Scope}}'
before=$(residue)

# ---- names and virtual addresses --------------------------------------------------------------------

check "create a network" ctl network create --attachable back
says "it has a subnet of the pool" '10\.[0-9]+\.[0-9]+\.0/20' ctl network inspect --format '{{range .IPAM.Config}}{{.Subnet}}{{end}}' back
check "3 replicas of web" web web 3 --network back
check "a client task on every node" ctl service create -q --wait-timeout 40s --name shell --mode global --network name=back,alias=console \
    --stop-grace-period 1s busybox sleep 3600
vip=$(vip_of web)
for h in m1 w1 w2; do
    same "$h: the name is the virtual address" "$vip" "$(names shell $h web)"
done
check "tasks.web has all three addresses" name_count shell w1 tasks.web 3
check "names with the network's name behind" name_count shell w1 web.back 1
check "an alias" name_count shell w2 console 1
refuses "a name that nobody has" "can't find|NXDOMAIN|SERVFAIL|bad address" in_task shell w1 nslookup tasks.nobody
from_task() { in_task shell "$1" sh -c "for i in \$(seq $2); do /bin/wget -q -T 3 -O - http://$3/ || echo failed; done" | sort | uniq -c; }
for h in m1 w1 w2; do
    check "$h: wget http://web/ reaches all three replicas" slots 3 < <(from_task $h 12 web)
done
check "tasks talk to each other directly" in_task shell m1 sh -c 'for i in $(nslookup tasks.web | sed -n "/^Name/,\$s/^Address[^:]*: *//p"); do /bin/wget -q -T 3 -O /dev/null http://$i/ || exit 1; done'
own() { in_task web "$1" sh -c 'for i in 1 2 3 4 5 6; do /bin/wget -q -T 3 -O - http://web/ || echo failed; done' | sort | uniq -c; }
check "a task reaches its own virtual address" slots 3 < <(own "$(hosts_of web | head -n 1)")
check "packets of the network's full size pass" in_task shell m1 ping -c 2 -W 2 -s 1422 "$(names shell m1 tasks.web | head -n 1)"
check "the world outside is reachable" in_task shell w1 ping -c 1 -W 2 10.77.0.200
says "the gateway is the default route" "default via 10\." in_task shell w1 ip route

check "dnsrr" web plain 2 --network back --endpoint-mode dnsrr
check "its name has the addresses of its tasks" name_count shell w1 plain 2
check "no task, no name: scale to 0" ctl service scale --wait-timeout 40s plain=0
name_gone() { [ -z "$(names shell w1 plain)" ]; }
eventually 10 "the name has gone" name_gone

# ---- published ports --------------------------------------------------------------------------------

check "publish a port, a replica on m1 only" web door 1 --publish 8080:80 --constraint node.hostname==m1
for a in 10.77.0.11 10.77.0.101 10.77.0.102; do
    check "client gets an answer from $a:8080" slots 1 < <(fetch client $a:8080 3)
done
check "localhost answers, too" slots 1 < <(fetch w2 127.0.0.1:8080 3)
check "scale to 4" ctl service scale --wait-timeout 40s door=4
check "update: anywhere" ctl service update -q --wait-timeout 60s --constraint-rm node.hostname==m1 --update-parallelism 0 door
check "the answers come from all four" slots 4 < <(fetch client 10.77.0.102:8080 24)
check "UDP" ctl service create -q --wait-timeout 40s --name echo --publish 9090:9090/udp --constraint node.hostname==w1 --stop-grace-period 1s \
    busybox udp_echo 9090
udp() { lab exec client bash -c "exec 3<>/dev/udp/$1/9090; echo hello >&3; [ \"\$(timeout 3 dd bs=64 count=1 <&3)\" = hello ]"; }
eventually 10 "UDP through a node without a task" udp 10.77.0.102
eventually 10 "UDP through the node of its task" udp 10.77.0.101
says "and everything is programmed" "no differences" ctl net check
refuses "the port is taken" "port '?8080'? is already in use" ctl service create -d --publish 8080:80 busybox sleep 1
check "host mode" web here 1 --publish mode=host,published=8081,target=80 --network back --constraint node.hostname==w2
check "its node answers" slots 1 < <(fetch client 10.77.0.102:8081 2)
says "the others don't" failed fetch client 10.77.0.101:8081 1
says "a port chosen by the cluster" '3[0-2][0-9]{3}' sh -c "$(declare -f ctl); ctl service update -q --wait-timeout 60s --publish-add 80 here && ctl service inspect --format '{{.Endpoint.Ports}}' here"

check "source=preserve" ctl service update -q --wait-timeout 60s --publish-rm 80 --publish-add published=8080,target=80,source=preserve door
check "every node still answers" slots 4 < <(fetch client 10.77.0.101:8080 24)

# ---- looking at it ----------------------------------------------------------------------------------

says "inspect -v shows services, addresses and hosts" "$vip" ctl network inspect -v back
says "a node says how it balances" "nftables|ipvs" ctl node inspect --format '{{.Description.Network.Balancer}}' w1
says "the manager's own host says it, too" "Balancer: (nftables|ipvs)" ctl info
check "nothing differs" ctl net check

# ---- node-local networks ----------------------------------------------------------------------------

check "the host's own network" ctl service create -q --wait-timeout 40s --name onhost --network host --constraint node.hostname==w1 \
    --stop-grace-period 1s busybox sleep 3600
says "sees the host's devices" "10.77.0.101" in_task onhost w1 ip addr
check "a configuration" ctl network create --config-only --subnet 172.31.7.0/24 -o parent=eth0 lan-config
check "macvlan from it" ctl network create -d macvlan --scope swarm --config-from lan-config lan
check "a task in it" ctl service create -q --wait-timeout 40s --name inlan --network lan --constraint node.hostname==w2 --stop-grace-period 1s \
    busybox sleep 3600
says "has an address of it" "172.31.7." in_task inlan w2 ip addr

# ---- removal ----------------------------------------------------------------------------------------

refuses "a network in use" "network back .*in use" ctl network rm back
check "remove the services" ctl service rm web shell plain door echo here onhost inlan
eventually 30 "no container is left" no_containers
eventually 10 "remove the networks" ctl network rm back lan lan-config
as_before() { [ "$before" = "$(residue)" ]; }
eventually 20 "the hosts have what they had" as_before
finish
