#!/bin/bash
# The lab itself: hosts are hosts, faults are what they say, and nothing is left behind.
# lab: own
# seconds: 240
. "$(dirname "$0")/lib/test.sh"
export SKEP_LAB_DIR=/run/skep-labtest-$$ LAB_NO_CLUSTER=1
second=/run/skep-labtest2-$$
trap 'lab down; SKEP_LAB_DIR=$second lab down' EXIT
lab2() { SKEP_LAB_DIR=$second lab "$@"; }

run_id() { lab docker "$1" inspect -f '{{.Id}} {{.State.StartedAt}} {{.State.Running}}' "$2"; }
reach() { lab exec "$1" ping -c 1 -W 1 -q "$2"; }
fetch() { lab exec client curl -sSfm 3 "$1"; }
state() { lab ps | awk -v h="$1" '$1 == h { print $4, $5 }'; }

refuses "asking without a lab says what to do" "lab up" lab ps
refuses "no managers, no lab" "-m takes" lab up -m 0
check "up" lab up -m 2 -w 1
refuses "a second up is refused" "lab down" lab up
check "a second lab beside it" lab2 up -m 1 -w 0

for h in m1 m2 w1; do
    same "$h knows its name" $h "$(lab exec $h hostname)"
    same "the engine of $h knows it too" $h "$(lab docker $h info -f '{{.Name}}')"
done
same "the image has one id everywhere" 1 \
    "$(for h in m1 m2 w1; do lab docker $h images -q --no-trunc busybox:latest; done | sort -u | wc -l)"
for tool in sh httpd wget nc nslookup; do
    says "busybox has $tool" "bin/$tool" lab docker w1 run --rm busybox which $tool
done

check "a published port" lab docker m1 run -d --stop-timeout 1 --name web -p 8080:80 busybox \
    sh -c 'echo from $HOSTNAME >/tmp/index.html; exec httpd -f -p 80 -h /tmp'
eventually 5 "is reached from the client" fetch http://m1:8080/
check "a container elsewhere" lab docker m2 run -d --stop-timeout 1 --name idle busybox sleep 1000
before=$(run_id m2 idle)
same "the second lab sees none of it" "" "$(lab2 docker m1 ps -q)"
says "a host lists its own processes only" '^[0-9]{1,3}$' lab exec w1 sh -c 'ls -d /proc/[0-9]* | wc -l'

check "cut one way" lab partition m1 w1 --one-way
says "ps shows the cut" "cut: m1 -> w1" lab ps
refuses "no answer through it" "100% packet loss" reach w1 m1
check "other links work" reach w1 m2
check "heal" lab heal
eventually 10 "all is well again" reach w1 m1
check "cut both ways" lab partition m1 w1
refuses "no answer" "100% packet loss" reach m1 w1

check "power cut" lab kill m1
same "the host is down" "down dead" "$(state m1)"
refuses "a dead host runs nothing" "is down" lab exec m1 true
refuses "it cannot be killed twice" "down already" lab kill m1
check "boot" lab start m1
same "the host is up" "up running" "$(state m1)"
says "its disk is what it was" '^false$' lab docker m1 inspect -f '{{.State.Running}}' web
refuses "the cut outlived the boot" "100% packet loss" reach m1 w1
lab heal
check "its network works" reach m1 w1

check "kill an engine" lab kill m2 dockerd
same "only that is dead" "up dead" "$(state m2)"
refuses "twice is refused" "does not run" lab kill m2 dockerd
check "start it" lab start m2 dockerd
refuses "twice is refused" "runs already" lab start m2 dockerd
check "pause an engine" lab pause w1 dockerd
same "it is paused" "up paused" "$(state w1)"
check "resume it" lab resume w1 dockerd
check "pause a host" lab pause m2
same "all of it is paused" "paused paused" "$(state m2)"
check "resume it" lab resume m2
check "it answers" lab docker m2 ps
check "stop a host" lab stop w1
check "several at once" lab kill m1 m2
check "start them all" lab start m1 m2 w1
before=$(lab docker m2 start idle >/dev/null && run_id m2 idle)
check "restart of another engine" lab stop m1 dockerd
check "leaves containers alone" lab start m1 dockerd
same "same container, same start" "$before" "$(run_id m2 idle)"
refuses "an unknown host is named" "no host 'm9'" lab kill m9
refuses "an unknown command is named" "unknown command" lab frobnicate

lab docker m1 tag busybox other:1 && lab docker m1 save other:1 >"$SKEP_LAB_DIR/other.tar"
check "load an image archive everywhere" lab image other:2 "$SKEP_LAB_DIR/other.tar"
same "under the given name" 1 "$(for h in m1 m2 w1; do lab docker $h images -q --no-trunc other:2; done | sort -u | wc -l)"

check "down" lab down
check "nothing is left" lab leftovers
check "the second lab still works" lab2 docker m1 run --rm busybox true
check "down" lab2 down

# Interrupted at many moments while coming up.
for delay in 0.05 0.1 0.15 0.2 0.25 0.3 0.4 0.5 0.8; do
    timeout -s INT $delay lab up -m 2 -w 2 >/dev/null 2>&1
    sleep 0.3
    check "nothing is left of an up interrupted after $delay s" lab leftovers
done
finish
