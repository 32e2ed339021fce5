#!/bin/bash
# Runs inside the host `registry`: two of Debian's docker-registry, port 5000 open and port 5001 for
# user lab, password lab. Their data is on the host's disk.
set -eu
data=/var/lib/docker
mkdir -p $data/open $data/auth
htpasswd -Bbn lab lab >$data/htpasswd
config() {
    cat <<YAML
version: 0.1
log: {level: warn}
storage:
  filesystem: {rootdirectory: $data/$1}
  delete: {enabled: true}
http: {addr: ":$2"}
YAML
}
config open 5000 >$data/open.yml
config auth 5001 >$data/auth.yml
printf 'auth:\n  htpasswd: {realm: lab, path: %s}\n' $data/htpasswd >>$data/auth.yml
docker-registry serve $data/open.yml &
exec docker-registry serve $data/auth.yml
