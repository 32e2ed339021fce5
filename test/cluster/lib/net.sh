# The lab's network: one bridge in a namespace of its own, one veth per host. Links are cut inside the
# bridge, out of reach of the hosts: a cut survives their reboots, stops every protocol (also ARP and
# addresses changed later), and leaves the rule sets of the hosts to the programs under test.

NET=10.77.0

switch_pid() { cat "$LAB/switch.pid" 2>/dev/null; }
switch_is_up() {
    local pid
    pid=$(switch_pid) && [ -n "$pid" ] && grep -qsz "^lab-switch $LAB\$" "/proc/$pid/cmdline"
}
in_switch() { nsenter -t "$(switch_pid)" -n "$@"; }

net_up() {
    (
        close_fds
        exec setsid unshare --net bash -c 'exec -a "lab-switch $1" sleep infinity' - "$LAB" \
            </dev/null >/dev/null 2>&1
    ) &
    echo $! >"$LAB/switch.pid"
    wait_until 5 switch_is_up || die "no network namespace: is CONFIG_NET_NS there?"
    in_switch ip link add br0 type bridge forward_delay 0 || die "no bridge: is CONFIG_BRIDGE there?"
    in_switch ip addr add $NET.1/24 dev br0
    in_switch ip link set lo up
    in_switch ip link set br0 up
    in_switch nft -f - <<'NFT' || die "no nftables bridge family: is CONFIG_NF_TABLES_BRIDGE there?"
table bridge lab {
    set cuts {
        type ifname . ifname
    }
    chain forward {
        type filter hook forward priority 0
        iifname . oifname @cuts drop
    }
}
NFT
}

# Gives a booted host its eth0.
net_attach() {
    local host=$1 pid=$2
    net_detach "$host"
    in_switch ip link add "v-$host" type veth peer name eth0 netns "$pid" || return 1
    in_switch ip link set "v-$host" master br0 up
    nsenter -t "$pid" -n sh -ec "
        ip link set lo up
        ip addr add $(host_addr "$host")/24 dev eth0
        ip link set eth0 up
        ip route add default via $NET.1"
}

# A dead host's namespace may live on for a moment; its cable is pulled at once.
net_detach() { in_switch ip link del "v-$1" 2>/dev/null || :; }

net_partition() {
    local one_way='' hosts=() a b cuts
    for a; do
        case $a in
        --one-way) one_way=1 ;;
        *) hosts+=("$a") ;;
        esac
    done
    [ ${#hosts[@]} -eq 2 ] || die "partition takes two hosts"
    a=${hosts[0]} b=${hosts[1]}
    need_host "$a" && need_host "$b"
    [ "$a" != "$b" ] || die "partition takes two different hosts"
    cuts="\"v-$a\" . \"v-$b\""
    [ -n "$one_way" ] || cuts="$cuts, \"v-$b\" . \"v-$a\""
    rm -f "$LAB/ctl-host"
    in_switch nft add element bridge lab cuts "{ $cuts }"
}

net_heal() {
    rm -f "$LAB/ctl-host"
    in_switch nft flush set bridge lab cuts
}

# net_cuts: one line "a -> b" per cut direction.
net_cuts() {
    in_switch nft list set bridge lab cuts | grep -o '"v-[^"]*" \. "v-[^"]*"' |
        sed 's/"v-\([^"]*\)" \. "v-\([^"]*\)"/\1 -> \2/'
}
