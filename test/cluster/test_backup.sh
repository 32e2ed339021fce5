#!/bin/bash
# The only manager's disk is lost: a backup makes a new one. The workers find it with the CA they know, and no
# container of theirs is touched.
# lab: own
# seconds: 150
. "$(dirname "$0")/lib/test.sh"
trap 'lab down 2>/dev/null' EXIT

m1() { lab exec m1 "$@"; }
restore() { m1 managerd restore /run/backup --advertise 10.77.0.11:2377; }

check "a cluster" lab up -m 1 -w 1 --dedicated-managers
check "a service of 4" create steady 4
eventually 30 "4 tasks run" engines_run steady 4
says "save it" "objects at version" m1 ctl cluster backup /run/backup
says "for its owner's eyes only" "^600$" m1 stat -c %a /run/backup
refuses "a worker cannot" "" lab exec w1 ctl cluster backup /run/backup
refuses "inspect leaves a running manager alone" "managerd runs on it" m1 managerd inspect
check "stop the manager" lab stop m1 managerd
says "its data verifies" "everything verifies" m1 managerd inspect
says "every entry can be looked at" 'create service [a-z0-9]{25} "steady"' m1 managerd inspect --dump
says_not "without tokens and keys" "SWMTKN|PRIVATE KEY" m1 managerd inspect --dump
refuses "what is there is not overwritten" "holds Raft data already" restore
before=$(containers w1)
root=$(m1 cat /var/lib/skep/identity/ca.pem)

check "m1 loses its disk" m1 sh -c 'rm -rf /var/lib/skep/*'
check "a cut-off copy of the backup" m1 sh -c 'head -c 1000 /run/backup >/run/cut'
refuses "is refused" "cut off" m1 managerd restore /run/cut --advertise 10.77.0.11:2377
says "restore" "Cluster [a-z0-9]{25} restored" restore
says "what was restored verifies" "everything verifies" m1 managerd inspect
check "the manager starts" lab start m1 managerd
same "the CA is the same" "$root" "$(m1 cat /var/lib/skep/identity/ca.pem)"
eventually 20 "it leads" has_leader
says "it knows the service" "steady" ctl service ls
eventually 40 "the worker finds it" only_on steady w1 4
same "no container of the worker was touched" "" "$(lost "$before" w1)"
check "scale" ctl service scale --detach steady=7
eventually 40 "7 tasks run" engines_run steady 7
same "still none was touched" "" "$(lost "$before" w1)"
check "remove the service" ctl service rm steady
eventually 30 "no container is left" no_containers
finish
