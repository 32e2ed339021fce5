#!/bin/bash
# Bad input about networks and ports: a clear error, nothing half made.
# lab: -m 1 -w 2
# seconds: 90
. "$(dirname "$0")/lib/test.sh"

networks() { ctl network ls -q | wc -l; }
before=$(networks)
refuses "no CIDR" "invalid subnet" ctl network create --subnet 10.1.2.3 x
refuses "a prefix beyond 32" "invalid subnet" ctl network create --subnet 10.1.2.0/33 x
refuses "no room" "subnet" ctl network create --subnet 10.1.2.0/32 x
refuses "loopback" "subnet|loopback" ctl network create --subnet 127.0.0.0/16 x
refuses "multicast" "subnet|multicast" ctl network create --subnet 224.0.0.0/16 x
refuses "two subnets that overlap" "overlap" ctl network create --subnet 10.1.0.0/16 --subnet 10.1.2.0/24 x
refuses "a gateway outside" "no matching subnet|gateway" ctl network create --subnet 10.1.0.0/16 --gateway 10.2.0.1 x
refuses "a range outside" "no matching subnet|range" ctl network create --subnet 10.1.0.0/16 --ip-range 10.2.0.0/24 x
refuses "an unknown driver" "driver" ctl network create -d nope x
refuses "a bad name" "name" ctl network create 'no/slash'
refuses "an MTU that is none" "mtu" ctl network create -o com.docker.network.driver.mtu=12 x
refuses "a second ingress" "ingress" ctl network create --ingress x
refuses "attachable ingress" "ingress" ctl network create --ingress --attachable x
refuses "config-from of nothing" "not found|no such" ctl network create -d macvlan --config-from nowhere x
same "nothing was made" "$before" "$(networks)"

check "a network" ctl network create --subnet 10.200.0.0/24 mine
refuses "its name again" "already exists" ctl network create mine
refuses "its addresses again" "overlap" ctl network create --subnet 10.200.0.128/25 other
refuses "what is not there" "not found" ctl network rm nowhere
refuses "what every cluster has" "predefined|cannot be removed|can't be removed" ctl network rm host

check "a route on a host" lab exec w1 ip route add 10.211.0.0/16 via 10.77.0.1
route_known() { ctl node inspect w1 | grep -q 10.211.0.0/16; }
eventually 15 "the cluster knows of it" route_known
refuses "a subnet that the host needs" "10.211" ctl network create --subnet 10.211.3.0/24 x
check "without the route" lab exec w1 ip route del 10.211.0.0/16
route_gone() { ! route_known; }
eventually 15 "the cluster knows that" route_gone

for port in 0:80 70000:80 80:70000 x:80 8080:80/icmp; do
    refuses "publish $port" "invalid|not within|proto" ctl service create -d --publish $port busybox sleep 1
done
refuses "a network that is not there" "not found" ctl service create -d --network nowhere busybox sleep 1
refuses "ingress by name" "ingress" ctl service create -d --network ingress busybox sleep 1
refuses "dnsrr with a mesh port" "dnsrr|ingress" ctl service create -d --endpoint-mode dnsrr --publish 8099:80 busybox sleep 1
same "no service was made" "" "$(ctl service ls -q)"

check "a subnet of 6" ctl network create --subnet 10.201.0.0/29 tiny
check "more tasks than it has addresses" ctl service create -d --name many --replicas 9 --network tiny --stop-grace-period 1s busybox sleep 3600
some_run() { [ "$(running many | wc -l)" -ge 3 ]; }
eventually 30 "as many run as there are addresses" some_run
says "the others say why they wait" "address" ctl service ps --no-trunc --format '{{.CurrentState}} {{.Error}}' many
check "scale down: room again" ctl service scale --wait-timeout 40s many=2
check "remove" ctl service rm many
eventually 30 "no container is left" no_containers
eventually 10 "remove the networks" ctl network rm mine tiny
finish
