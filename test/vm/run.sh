#!/bin/bash
# Runs test/vm/test_* in a virtual machine with a Debian kernel, without hardware support (qemu's TCG):
# for kernel parts that this machine's own kernel may lack (IPVS, WireGuard, ESP). See README.md here.
# Arguments: names of tests; for one test, after --, its own arguments.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${SKEP_BUILD:-build/release}
out=build/vm
wait_s=${SKEP_VM_WAIT_S:-600}

modules='ip_vs ip_vs_rr ip_vs_wrr ip_vs_lc ip_vs_wlc ip_vs_sh ip_vs_mh
    nf_tables nft_chain_nat nft_ct nft_nat nft_masq nft_redir nft_numgen nft_hash nft_fib_inet nft_fib_ipv4
    nft_fib_ipv6 nft_reject_inet nft_reject_ipv4 nft_objref nft_xfrm nf_conntrack nf_conntrack_netlink
    veth bridge br_netfilter vxlan dummy tun wireguard sctp
    esp4 esp6 xfrm_user gcm seqiv echainiv ghash_generic ghash_clmulni_intel aesni_intel ctr cryptd hmac
    sha512_generic sha256_generic drbg authenc'
programs='ip bridge nft nsenter unshare tcpdump wg ethtool conntrack ipvsadm ping'

fail() {
    echo "vm: $*" >&2
    exit 1
}

cloud_kernel() {
    apt-cache depends linux-image-cloud-amd64 2>/dev/null |
        sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1
}

# Debian's kernel, unpacked below build/: nothing is installed on this machine, no boot loader asked.
fetch_kernel() {
    local package
    compgen -G "$out/kernel/boot/vmlinuz-*" >/dev/null && return
    package=$(cloud_kernel)
    if [ -z "$package" ] && apt-get -q update >"$out/apt.log" 2>&1; then package=$(cloud_kernel); fi
    [ -n "$package" ] || fail "apt knows no linux-image-cloud-amd64 (apt-get update?)"
    mkdir -p "$out/deb"
    (cd "$out/deb" && apt-get -q download "$package") 2>"$out/apt.log" || fail "download of $package: $(cat "$out/apt.log")"
    rm -rf "$out/kernel.new" "$out/kernel"
    dpkg -x "$out/deb/$package"_*.deb "$out/kernel.new" || fail "unpack $package"
    rm -rf "$out/deb"
    depmod -b "$out/kernel.new" "${package#linux-image-}" || fail "depmod"
    mv "$out/kernel.new" "$out/kernel"
}

# A program or script and the libraries it is linked with.
copy() {
    local file=$1 to=$2 lib
    mkdir -p "$root$(dirname "$to")"
    cp -L "$file" "$root$to" || fail "copy $file"
    for lib in $(ldd "$file" 2>/dev/null | grep -o '/[^ ]*'); do
        [ -e "$root$lib" ] || { mkdir -p "$root$(dirname "$lib")" && cp -L "$lib" "$root$lib"; }
    done
}

copy_modules() {
    local version=$1 m file
    mkdir -p "$root/modules"
    for m in $modules; do
        # Parts that are built in, or that this version has no more, are no files.
        modprobe -d "$out/kernel" -S "$version" --show-depends "$m" 2>>"$out/modprobe.log"
    done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' >"$out/order"
    while read -r file; do
        cp "$file" "$root/modules/"
        basename "$file"
    done <"$out/order" >"$root/modules/order"
    grep -q '^ip_vs.ko' "$root/modules/order" || fail "no ip_vs among the modules of $version: $(tail -n 3 "$out/modprobe.log")"
}

make_initramfs() {
    local version=$1 p path
    root=$out/root
    rm -rf "$root"
    mkdir -p "$root"/{bin,sbin,dev,proc,sys,run,tmp,root,etc,t,usr/bin,usr/sbin}
    copy "$(command -v busybox)" /bin/busybox
    for p in $("$root/bin/busybox" --list); do
        case $p in sh | ash | ip | busybox | nsenter | unshare) ;; *) ln -s busybox "$root/bin/$p" ;; esac
    done
    # Not busybox's own: its shell would use its own ip.
    copy /bin/dash /bin/sh
    for p in $programs; do
        path=$(command -v "$p") || continue # tests that need it say so
        rm -f "$root/bin/$p"
        copy "$path" "/usr/bin/$p"
    done
    copy test/vm/init /init
    chmod 755 "$root/init"
    copy_modules "$version"
    for p in "${tests[@]}"; do
        case $p in
        *.sh) copy "test/vm/$p" "/t/$p" ;;
        *) copy "$build/vm/$p" "/t/$p" ;;
        esac
        echo "$p"
    done >"$root/t/list"
    echo "${args[*]}" >"$root/t/args"
    for p in $(command -v "$build/agentd" "$build/managerd" "$build/ctl"); do copy "$p" "/t/$(basename "$p")"; done
    strip "$root"/t/* 2>/dev/null
    (cd "$root" && find . | busybox cpio -o -H newc 2>/dev/null) >"$out/initramfs" || fail "cpio"
}

args=()
names=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    names+=("$1")
    shift
done
[ $# -eq 0 ] || args=("${@:2}")
tests=()
for t in test/vm/test_*.sh test/vm/test_*.c; do
    [ -e "$t" ] || continue
    name=$(basename "${t%.c}")
    [ ${#names[@]} -eq 0 ] || [[ " ${names[*]} " == *" $name "* ]] || continue
    tests+=("$name")
done
[ ${#tests[@]} -gt 0 ] || fail "no such test: ${names[*]}"
command -v qemu-system-x86_64 >/dev/null || fail "no qemu-system-x86_64 (make deps)"
mkdir -p "$out"
make -s -j"$(nproc)" all vm-tests || fail "build"
fetch_kernel
version=$(basename "$out"/kernel/boot/vmlinuz-*)
version=${version#vmlinuz-}
make_initramfs "$version"
echo "vm: Linux $version, initramfs $(($(stat -c %s "$out/initramfs") >> 20)) MB: ${tests[*]}"
timeout "$wait_s" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 1 -m 768 \
    -kernel "$out/kernel/boot/vmlinuz-$version" -initrd "$out/initramfs" -nographic -no-reboot \
    -nic none -monitor none -serial stdio \
    -append "console=ttyS0 quiet panic=-1 mitigations=off nokaslr tsc=reliable random.trust_cpu=on" \
    </dev/null 2>&1 | sed -u 's/\r//g; s/\x1b\[[0-9;?]*[A-Za-z]//g; s/\x1bc//g' | tee "$out/log"
rc=${PIPESTATUS[0]}
[ "$rc" -ne 124 ] || fail "not done after $wait_s s"
grep -q '^RC=' "$out/log" || fail "ended without a result"
grep -q '^RC=0$' "$out/log"
