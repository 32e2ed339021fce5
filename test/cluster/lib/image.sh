# Images. busybox:latest is put together from Debian's busybox-static as an image archive (with the C
# that a static program, too, needs to look names up), with fixed times and order, so that every engine gives it
# the same id; nothing is fetched from anywhere.

# image_busybox FILE: writes the archive.
image_busybox() {
    local dir tool arch layer
    dir=$LAB/image.$BASHPID
    mkdir -p "$dir"/fs/{bin,etc,proc,sys,dev,tmp,root,run,var}
    chmod 1777 "$dir/fs/tmp"
    cp "$(command -v busybox)" "$dir/fs/bin/busybox"
    for tool in $(busybox --list); do
        [ "$tool" = busybox ] || ln -s busybox "$dir/fs/bin/$tool"
    done
    rm "$dir/fs/bin/wget" && cp "$SKEP_BUILD/wget" "$dir/fs/bin/wget" # busybox's cannot look names up
    cp "$SKEP_BUILD/udp_echo" "$dir/fs/bin/udp_echo"
    ln -s bin "$dir/fs/sbin"
    echo 'root:x:0:0:root:/root:/bin/sh' >"$dir/fs/etc/passwd"
    echo 'nobody:x:65534:65534:nobody:/:/bin/false' >>"$dir/fs/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$dir/fs/etc/group"
    echo 'hosts: files dns' >"$dir/fs/etc/nsswitch.conf"
    image_libc "$dir/fs"
    image_tar "$dir/layer.tar" "$dir/fs" .
    layer=$(sha256sum "$dir/layer.tar" | cut -d ' ' -f 1)
    arch=$(dpkg --print-architecture)
    cat >"$dir/config.json" <<JSON
{"architecture":"$arch","os":"linux","created":"2024-01-01T00:00:00Z",
 "config":{"Env":["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],"Cmd":["sh"]},
 "rootfs":{"type":"layers","diff_ids":["sha256:$layer"]},
 "history":[{"created":"2024-01-01T00:00:00Z","comment":"Debian busybox-static"}]}
JSON
    echo '[{"Config":"config.json","RepoTags":["busybox:latest"],"Layers":["layer.tar"]}]' >"$dir/manifest.json"
    image_tar "$1" "$dir" manifest.json config.json layer.tar
    rm -rf "$dir"
}

# image_libc ROOT: the C library and its loader, where this machine has them.
image_libc() {
    local lib
    for lib in $(ldd /bin/ls | grep -oE '/[^ ]*/(libc\.so\.6|ld-linux[^ ]*)') /lib/*-linux-gnu*/libresolv.so.2; do
        mkdir -p "$1$(dirname "$lib")"
        cp -L "$lib" "$1$lib"
    done
}

# image_tar OUT FOLDER NAME...
image_tar() {
    local out=$1 dir=$2
    shift 2
    tar -C "$dir" --sort=name --mtime=@1704067200 --owner=0 --group=0 --numeric-owner -cf "$out" "$@"
}

# image_load ARCHIVE HOST...: into several engines at once.
image_load() {
    local file=$1 host jobs=()
    shift
    for host; do
        lab_docker "$host" load -q <"$file" >/dev/null &
        jobs+=($!)
    done
    wait_all "${jobs[@]}"
}

# lab image NAME FILE.tar: FILE is an image archive (docker save) or a root file system.
lab_image() {
    local name=${1:-} file=${2:-} hosts first archive host loaded
    [ -n "$name" ] && [ -f "$file" ] || die "usage: lab image NAME FILE.tar"
    hosts=$(for host in $(hosts_with dockerd); do host_is_up "$host" && echo "$host"; done)
    first=$(head -n 1 <<<"$hosts")
    [ -n "$first" ] || die "no host with a Docker engine is up"
    archive=$LAB/image.$$.tar
    if tar -tf "$file" manifest.json >/dev/null 2>&1; then
        loaded=$(lab_docker "$first" load <"$file" | sed -n 's/^Loaded image\( ID\)\?: //p' | head -n 1)
        [ -n "$loaded" ] && lab_docker "$first" tag "$loaded" "$name" || die "$file does not load"
    else
        lab_docker "$first" import - "$name" <"$file" >/dev/null || die "$file does not import"
    fi
    # shellcheck disable=SC2086
    lab_docker "$first" save "$name" >"$archive" && image_load "$archive" $hosts
    host=$?
    rm -f "$archive"
    return $host
}
