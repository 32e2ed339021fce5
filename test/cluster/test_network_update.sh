#!/bin/bash
# No request fails while a service is updated, a node drained, a service scaled down.
# lab: -m 1 -w 2
# seconds: 200
. "$(dirname "$0")/lib/test.sh"

check "a network" ctl network create front
check "web, healthy before it counts" web web 4 --network front --publish 8080:80 --update-order start-first --update-parallelism 1 \
    --update-delay 0s --health-cmd '/bin/wget -q -O /dev/null http://127.0.0.1/' --health-interval 500ms --health-retries 5 --env V=1
# Few ports: each is used again within seconds, as those of a busy proxy are.
check "a client with few ports" lab exec client sh -c 'echo 40000 40499 >/proc/sys/net/ipv4/ip_local_port_range'
targets="10.77.0.11:8080 10.77.0.101:8080 10.77.0.102:8080"

# shellcheck disable=SC2086
load_start update client $targets
check "a rolling update, start-first" ctl service update -q --wait-timeout 60s --env-add V=2 web
check "0 failed requests during the update" load_end update
# shellcheck disable=SC2086
load_start drain client $targets
check "drain w1" ctl node update --availability drain w1
eventually 60 "w1 is empty" none_on web w1 4
sleep 2
check "0 failed requests during the drain" load_end drain
check "activate w1" ctl node update --availability active w1
# shellcheck disable=SC2086
load_start scale client $targets
check "scale down" ctl service scale --wait-timeout 40s web=2
sleep 3
check "scale up" ctl service scale --wait-timeout 40s web=5
check "0 failed requests while scaling" load_end scale
check "remove it" ctl service rm web
eventually 30 "no container is left" no_containers
eventually 10 "remove the network" ctl network rm front
finish
