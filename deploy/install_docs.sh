#!/bin/sh
# Writes man pages and shell completion, as the programs in a build folder print them, below a share
# folder.   deploy/install_docs.sh BUILD SHARE
set -eu
build=$1 share=$2 ctl=$1/ctl
bash=$share/bash-completion/completions zsh=$share/zsh/site-functions fish=$share/fish/vendor_completions.d
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"$ctl" generate-man "$tmp"
for daemon in managerd agentd; do "$build/$daemon" --generate-man >"$tmp/$daemon.8"; done
for page in "$tmp"/*; do
    section=${page##*.}
    install -D -m 0644 "$page" "$share/man/man$section/${page##*/}"
done
install -d "$bash" "$zsh" "$fish"
"$ctl" completion bash >"$tmp/bash" && install -m 0644 "$tmp/bash" "$bash/ctl"
"$ctl" completion zsh >"$tmp/zsh" && install -m 0644 "$tmp/zsh" "$zsh/_ctl"
"$ctl" completion fish >"$tmp/fish" && install -m 0644 "$tmp/fish" "$fish/ctl.fish"
