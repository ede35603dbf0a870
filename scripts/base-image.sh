#!/usr/bin/env bash
# Makes the base image of docker/Dockerfile without a container registry, and starts a Docker Engine
# if none answers: for machines that reach Debian's packages and nothing else.
#
#   scripts/base-image.sh [IMAGE]    default: python:3.11-slim-bookworm
#   scripts/base-image.sh --stop     end the engine that this script has started
#
# Where a registry can be reached there is no need for it: docker pulls the official image. This one
# is Debian's own Python 3.11, under the same name, with a compiler (offline there is nowhere else to
# get one for the build) and the certificates that this machine trusts. It needs root and apt for what
# is missing. Run again it does only what is not done yet; from nothing it takes one to two minutes.
#
# KVNODE_ENGINE_DIR: where the engine it starts keeps its data (default: $TMPDIR/kvnode-engine).
# Exit codes: 0 engine and image are there, 1 they could not be made, 64 usage.
set -euo pipefail

IMAGE=python:3.11-slim-bookworm
SUITE=bookworm
PACKAGES=python3,python3-venv,python3-pip,python3-dev,gcc,libc6-dev,ca-certificates
CERTIFICATES=/etc/ssl/certs/ca-certificates.crt
START_SECONDS_MAX=30
DIRECTORY=${KVNODE_ENGINE_DIR:-${TMPDIR:-/tmp}/kvnode-engine}

say() { echo "base-image: $*" >&2; }
fail() {
    say "$*"
    exit 1
}
engine_answers() { docker info >/dev/null 2>&1; }
has_image() { docker image inspect "$1" >/dev/null 2>&1; }

# install COMMAND PACKAGE: have the command, from the package if need be.
install() {
    if command -v "$1" >/dev/null 2>&1; then return; fi
    if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null 2>&1; then
        fail "$1 is missing, and only root can have apt-get install $2"
    fi
    say "installing $2"
    {
        apt-get update -q
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y "$2"
    } >>"$DIRECTORY/apt.log" 2>&1 || fail "$2 could not be installed: $DIRECTORY/apt.log"
}

# Where systemd is, installing the engine has started it already. Elsewhere it is started here, with
# its data below $DIRECTORY, out of the way of an engine that the machine gets later.
start_engine() {
    install docker docker.io
    install dockerd docker.io
    install iptables iptables
    if engine_answers; then return; fi
    [[ $(id -u) == 0 ]] || fail "no Docker Engine answers, and only root can start one"
    say "starting a Docker Engine"
    setsid dockerd --data-root "$DIRECTORY/data" --exec-root "$DIRECTORY/exec" \
        --pidfile "$DIRECTORY/dockerd.pid" >"$DIRECTORY/dockerd.log" 2>&1 </dev/null &
    local deadline=$((SECONDS + START_SECONDS_MAX))
    until engine_answers; do
        ((SECONDS < deadline)) || fail "the engine does not start: $DIRECTORY/dockerd.log"
        sleep 0.3
    done
}

stop_engine() {
    local pid
    if [[ ! -s $DIRECTORY/dockerd.pid ]]; then
        say "no engine was started from $DIRECTORY"
        return
    fi
    pid=$(<"$DIRECTORY/dockerd.pid")
    # The number may be somebody else's by now.
    if [[ $(ps -o comm= -p "$pid" 2>/dev/null) == dockerd ]]; then
        kill "$pid"
        say "stopped the engine, process $pid"
    fi
}

make_image() {
    install debootstrap debootstrap
    local root=$DIRECTORY/root
    say "making $1 out of Debian's packages, log: $DIRECTORY/debootstrap.log"
    rm -rf "$root"
    debootstrap --variant=minbase --include="$PACKAGES" "$SUITE" "$root" \
        >"$DIRECTORY/debootstrap.log" 2>&1 || fail "debootstrap: $DIRECTORY/debootstrap.log"
    if [[ -r $CERTIFICATES ]]; then cp "$CERTIFICATES" "$root$CERTIFICATES"; fi
    ln -sf python3 "$root/usr/bin/python"
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    tar -C "$root" -c . | docker import --change 'CMD ["python3"]' - "$1" >/dev/null
    rm -rf "$root"
}

case ${1-} in
    -h | --help)
        sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "$0"
        exit 0
        ;;
    --stop)
        stop_engine
        exit 0
        ;;
    -*)
        say "unknown option $1"
        exit 64
        ;;
esac
IMAGE=${1:-$IMAGE}
mkdir -p "$DIRECTORY"
engine_answers || start_engine
has_image "$IMAGE" || make_image "$IMAGE"
say "$IMAGE is there"
