#!/bin/bash
# Bad input: refused at once, with a sentence that names what is wrong and what would be right.
# lab: -m 1 -w 1
# seconds: 240
. "$(dirname "$0")/lib/test.sh"

new() { ctl service create --detach "$@"; }

# ---- joining: a managerd of its own on the host `client`, which belongs to no cluster --------------
state=/run/newcomer
check "a managerd that is in no cluster" lab exec client bash -c "
    mkdir -p $state
    setsid managerd --state-dir $state/state --run-dir $state --listen 10.77.0.200:2377 \
        </dev/null >$state/log 2>&1 &
    for i in {1..50}; do [ -S $state/control.sock ] && exit 0; sleep 0.1; done; exit 1"
newcomer() { lab exec client env SKEP_HOST=unix://$state/control.sock timeout 20 ctl "$@"; }
join() { newcomer swarm join --advertise-addr 10.77.0.200 "$@" 10.77.0.11:2377; }
token=$(lab exec m1 ctl swarm join-token -q worker)
secret=${token##*-}
digest=${token%-*} digest=${digest##*-}
refuses "a cluster's question to a node in none" "not (part|a member|in|a manager)|no (swarm|cluster)|swarm init" newcomer node ls
refuses "no token" "token" newcomer swarm join 10.77.0.11:2377
refuses "a token that is none" "token" join --token nonsense
refuses "a token cut short" "token" join --token "${token%?????}"
refuses "a right digest with a wrong secret" "token" join --token "SWMTKN-1-$digest-$(tr '0-9a-z' '1-9a-z0' <<<"$secret")"
refuses "a token of another cluster" "token|digest|CA|certificate|another cluster" \
    join --token "SWMTKN-1-$(tr '0-9a-z' '1-9a-z0' <<<"$digest")-$secret"
refuses "a manager that is not there" "10.77.0.99|refused|unreachable|time|route" \
    newcomer swarm join --advertise-addr 10.77.0.200 --token "$token" 10.77.0.99:2377
check "rotate the token" ctl swarm join-token --rotate -q worker
refuses "the old token" "token" join --token "$token"
same "nobody joined by all that" 2 "$(ctl node ls -q | wc -l)"

# ---- services ---------------------------------------------------------------------------------------
check "a service" new --name taken --replicas 0 busybox true
refuses "a name in use" "taken.*(exists|in use|conflict)|(exists|in use|conflict).*taken" new --name taken busybox true
refuses "negative replicas" "replicas|invalid" new --replicas=-1 busybox true
refuses "replicas that are no number" "replicas|invalid" new --replicas=many busybox true
refuses "a name with blanks" "name" new --name 'a b' busybox true
refuses "an image in capitals" "reference|image|lowercase" new Busybox true
refuses "an unknown mode" "mode" new --mode sometimes busybox true
refuses "a constraint that does not parse" "constraint" new --constraint 'node.role' busybox true
refuses "a bad port" "port" new -p 99999:80 busybox true
refuses "a bad memory limit" "memory|size|invalid" new --limit-memory lots busybox true
refuses "a bad mount" "mount|type|target" new --mount type=nonsense,target=/x busybox true
refuses "a relative mount target" "target|absolute" new --mount type=volume,source=v,target=x busybox true
refuses "no image" "requires at least 1 argument" new
refuses "an unknown flag" "unknown flag.*--frob" new --frob busybox true
refuses "a secret that is not there" "secret.*(nosuch|not found)" new --secret nosuch busybox true
refuses "a network that is not there" "network.*(nosuch|not found)|nosuch.*not found" new --network nosuch busybox true
refuses "a service that is not there" "no such service|not found" ctl service inspect nosuch
refuses "scaling it" "nosuch" ctl service scale nosuch=3
refuses "removing it" "nosuch" ctl service rm nosuch
refuses "a node that is not there" "nosuch" ctl node inspect nosuch
refuses "an unknown availability" "availability" ctl node update --availability maybe w1
refuses "demoting the last manager" "last|quorum" ctl node demote m1
refuses "removing a node that is up" "down" ctl node rm w1
refuses "a filter that is none" "filter" ctl service ls --filter frob=1
refuses "a command that is none" "unknown|not a .*command" ctl service frobnicate
same "only the first service exists" 1 "$(ctl service ls -q | wc -l)"
check "remove it" ctl service rm taken

# ---- networks ---------------------------------------------------------------------------------------
net() { ctl network create -d overlay "$@"; }
check "a network of 13 addresses" net --subnet 10.150.0.0/28 tiny
check "a service on it that publishes a port" new --name open --network tiny -p 8150:80 --replicas 0 busybox true
refuses "a network's name in use" "tiny already exists" net tiny
refuses "a name of the engine's" "predefined.*host" net host
refuses "a subnet that is none" "subnet|CIDR" net --subnet ten x
refuses "host bits" "10.151.0.0/24 is meant" net --subnet 10.151.0.7/24 x
refuses "a subnet over another's" "overlaps with 10.150.0.0/28 of network tiny" net --subnet 10.150.0.0/16 x
refuses "a subnet over the hosts" "overlaps with 10.77.0.*needs itself" net --subnet 10.77.0.0/16 x
refuses "subnets over each other" "overlap" net --subnet 10.151.0.0/24 --subnet 10.151.0.0/25 x
refuses "two subnets" "one subnet per address family" net --subnet 10.151.0.0/24 --subnet 10.152.0.0/24 x
refuses "a range outside" "range" net --subnet 10.151.0.0/24 --ip-range 10.152.0.0/28 x
refuses "a gateway outside" "gateway" net --subnet 10.151.0.0/24 --gateway 10.152.0.1 x
refuses "an aux-address outside" "aux|reserved|subnet" net --subnet 10.151.0.0/24 --aux-address a=10.152.0.9 x
refuses "an unknown driver" "nosuch.*driver" ctl network create -d nosuch x
refuses "an unknown option" "colour is unknown" net --opt colour=red x
refuses "a VNI out of range" "vxlanid_list" net --opt com.docker.network.driver.overlay.vxlanid_list=0 x
refuses "a second ingress network" "ingress network .ingress. is already present" net --ingress x
refuses "an attachable ingress network" "attachable" net --ingress --attachable x
refuses "a network in use" "network tiny is in use by service open" ctl network rm tiny
refuses "a network of the engine's" "pre-defined" ctl network rm bridge
refuses "a network that is not there" "no such network|not found" ctl network rm nosuch
refuses "the ingress network by name" "ingress" new --network ingress busybox true
refuses "host beside another" "host goes with no other" new --network host --network tiny busybox true
refuses "a published port in use" "8150.*in use by service .open." new -p 8150:80 busybox true
refuses "the same as a host's port" "8150.*in use by service .open." new -p published=8150,target=80,mode=host busybox true
refuses "target port 0" "port" new -p 80:0 busybox true
refuses "target port 70000" "port" new -p 80:70000 busybox true
refuses "a port in the mesh with dnsrr" "dnsrr" new --endpoint-mode dnsrr -p 80:80 busybox true
same "no network came of that" 1 "$(ctl network ls -q -f driver=overlay | grep -vc "$(ctl network ls -q -f name=ingress)")"
check "remove the service" ctl service rm open
check "remove the network" ctl network rm tiny

# ---- tasks that cannot run say why ------------------------------------------------------------------
check "a constraint that no node meets" new --name picky --replicas 1 --constraint node.labels.disk==ssd busybox true
only_placed() { ctl service ps "$1" --format "{{.Node}}" | grep -qx "$2"; }
task_says() { ctl service ps "$1" --no-trunc --format '{{.CurrentState}} {{.Error}}' | grep -iE "$2"; }
eventually 10 "its task is pending with a reason" task_says picky "pending.*(no suitable node|constraint)"
check "label a node" ctl node update --label-add disk=ssd w1
eventually 20 "and it is placed there" only_placed picky w1
check "an image that nobody has" new --name imageless --replicas 1 nosuch:1
eventually 30 "its tasks are rejected with a reason" task_says imageless "rejected.*(no such image|nosuch)"
check "more memory than any node has" new --name huge --replicas 1 --reserve-memory 9999g busybox true
eventually 10 "is pending for want of memory" task_says huge "pending.*(insufficient|resources)"
check "a command that is not in the image" new --name wrong --replicas 1 busybox /no/such/command
eventually 30 "fails with the engine's reason" task_says wrong "failed.*(no such file|starting container failed|not found)"
check "remove them" ctl service rm picky imageless huge wrong
ctl node update --label-rm disk w1 >/dev/null
lab exec client bash -c "pkill -x managerd; rm -rf $state"
eventually 30 "no container is left" no_containers
finish
