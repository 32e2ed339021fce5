#!/bin/bash
# Images come from a registry, with and without a password, and a digest pins them.
# lab: own
# seconds: 120
. "$(dirname "$0")/lib/test.sh"
trap 'lab down 2>/dev/null' EXIT
open=10.77.0.250:5000 closed=10.77.0.250:5001

# push HOST REPOSITORY: the test image under that name; the host itself forgets the name again.
push() {
    lab docker "$1" tag busybox:latest "$2" && lab docker "$1" push "$2" && lab docker "$1" rmi "$2"
}
login() { lab exec m1 sh -c "echo lab | docker login -u lab --password-stdin $closed"; }
on_worker="--constraint node.hostname==w1"

check "a cluster with a registry" lab up -m 1 -w 1 --registry
check "push to the open one" push m1 $open/app:1
# shellcheck disable=SC2086
check "a service of that image, where nobody has it" \
    ctl service create --detach --name app $on_worker $open/app:1 sleep 600
eventually 30 "runs" engines_run app 1
digest=$(lab docker w1 images --digests --format '{{.Repository}} {{.Digest}}' | sed -n "s|^$open/app ||p")
# shellcheck disable=SC2086
check "by digest" ctl service create --detach --name pinned $on_worker "$open/app@$digest" sleep 600
eventually 30 "runs" engines_run pinned 1

check "log in to the closed one" login
check "push to it" push m1 $closed/secret:1
# shellcheck disable=SC2086
check "a service without credentials" \
    ctl service create --detach --name outside --restart-condition none $on_worker $closed/secret:1 sleep 600
rejected() { ctl service ps outside --no-trunc --format '{{.CurrentState}} {{.Error}}' | grep -qi "rejected.*$1"; }
eventually 30 "is rejected and says why" rejected "no basic auth credentials\|unauthorized\|denied\|authentication"
# shellcheck disable=SC2086
check "a service with them" \
    lab exec m1 ctl service create --detach --with-registry-auth --name inside $on_worker $closed/secret:1 sleep 600
eventually 30 "runs" engines_run inside 1
says_not "and nobody can read them back" "bGFi" lab exec m1 ctl service inspect inside
check "remove all" ctl service rm app pinned outside inside
eventually 30 "no container is left" no_containers
finish
