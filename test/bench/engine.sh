#!/bin/bash
# A private Docker Engine for benchmarks and tests, in namespaces of its own, with one image "box:1" made
# from busybox. Needs root.   engine.sh up DIR: returns when DIR/docker.sock answers; engine.sh down DIR
set -eu
dir=$2
socket=unix://$dir/docker.sock

image() {
    local root=$dir/image
    mkdir -p "$root/bin" "$root/tmp" "$root/etc"
    cp "$(command -v busybox)" "$root/bin/busybox"
    for name in sh sleep echo cat true false kill env id stat ls; do ln -sf busybox "$root/bin/$name"; done
    tar -C "$root" -c . | docker -H "$socket" import - box:1 >/dev/null
    rm -r "$root"
}

case $1 in
up)
    mkdir -p "$dir"
    # shellcheck disable=SC2016
    setsid unshare -nm sh -c 'ip link set lo up; mount --make-rprivate /
        exec dockerd --data-root "$0/data" --exec-root "$0/exec" -H "unix://$0/docker.sock" \
            --pidfile "$0/pid" --iptables=false --ip6tables=false --ip-masq=false' "$dir" \
        >"$dir/log" 2>&1 </dev/null &
    for _ in $(seq 300); do
        ! docker -H "$socket" version >/dev/null 2>&1 || break
        sleep 0.1
    done
    docker -H "$socket" version >/dev/null
    image
    ;;
down)
    pid=$(cat "$dir/pid" 2>/dev/null || true)
    [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
    for _ in $(seq 200); do
        [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    rm -rf "$dir"
    ;;
*)
    echo "usage: engine.sh up|down DIR" >&2
    exit 125
    ;;
esac
