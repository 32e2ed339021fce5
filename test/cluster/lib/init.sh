#!/bin/bash
# Init of a lab host (PID 1 of its namespaces): arranges the mounts, then reaps orphans for ever.
# Arguments: lab folder, host name, disk folder. All mounts are private to the host and go with it.
set -eu
lab=$1 host=$2 disk=$3
stage=$lab/hosts/$host/stage

mount -n --make-rprivate /
mount -n -t proc proc /proc
hostname "$host"
mount -n -t tmpfs -o mode=0755 tmpfs "$stage"
mkdir "$stage"/{run,etc,var,opt,sys,upper,work}
mount -n -t tmpfs -o mode=0755 tmpfs "$stage/run"

# /etc, /var and /opt: the machine's own below, what the host writes in memory above.
for d in etc var opt; do
    mkdir "$stage/upper/$d" "$stage/work/$d"
    mount -n -t overlay overlay -o "lowerdir=/$d,upperdir=$stage/upper/$d,workdir=$stage/work/$d" "$stage/$d"
done
mkdir -p "$stage"/etc/{docker,skep} "$stage"/var/lib/{docker,skep}
echo "$host" >"$stage/etc/hostname"
cat "$lab/hosts/$host/hosts-file" >"$stage/etc/hosts"
rm -f "$stage/etc/resolv.conf"
# Nobody serves names at this address: look-ups are refused at once instead of timing out.
printf 'nameserver 10.77.0.1\noptions timeout:1 attempts:1\n' >"$stage/etc/resolv.conf"
mount -n --bind "$disk/docker" "$stage/var/lib/docker"
mount -n --bind "$disk/skep" "$stage/var/lib/skep"
mount -n --bind "$disk/etc-docker" "$stage/etc/docker"
mount -n --bind "$disk/etc-skep" "$stage/etc/skep"

# A sysfs that shows this network namespace, with the machine's cgroups in it.
mount -n -t sysfs sysfs "$stage/sys"
mount -n --rbind /sys/fs/cgroup "$stage/sys/fs/cgroup"
umount -n -l /sys

mkdir -p "$stage"/run/{skep,docker,lock}
chmod 0700 "$stage/run/skep"
printf '%s %s\n' "$lab" "$host" >"$stage/run/.lab-host"
# The stage may lie below a folder that is about to be covered, so it moves out of the way first.
mount -n --move "$stage" /mnt
for d in sys etc opt run var; do mount -n --move /mnt/$d /$d; done
umount -n -l /mnt
cd /
mount -n --make-rshared /
mv /run/.lab-host /run/lab-host

trap : HUP INT TERM
while :; do
    sleep infinity &
    wait $! || :
done
