# shellcheck shell=bash
# What the scripts beside this file share. Sourced, never run.

PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin:${HOME:-/root}/.cargo/bin"

say() { printf '==> %s\n' "$*"; }
die() {
    printf 'error: %s\n' "$1" >&2
    shift
    [ $# = 0 ] || printf '    %s\n' "$@" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        die "this step needs root: $*" "run it as root, or install sudo"
    fi
}

# The address that kube-lite itself will use. Docker's contexts are left out on purpose.
unset DOCKER_CONTEXT
docker_address() {
    if [ -n "${DOCKER_HOST:-}" ]; then
        printf '%s\n' "$DOCKER_HOST"
    elif [ ! -S /var/run/docker.sock ] && [ -S /run/docker.sock ]; then
        printf 'unix:///run/docker.sock\n'
    else
        printf 'unix:///var/run/docker.sock\n'
    fi
}

# docker_curl PATH [CURL OPTIONS]: one call of Docker's HTTP API, where there is no docker command.
docker_curl() {
    local address path=$1
    address=$(docker_address)
    shift
    case $address in
        unix://*) curl -sS -f --unix-socket "${address#unix://}" "$@" "http://docker$path" ;;
        tcp://* | http://*) curl -sS -f "$@" "http://${address#*://}$path" ;;
        *) die "DOCKER_HOST=$address needs the docker command" "on Debian: apt-get install docker.io" ;;
    esac
}

# Does a Docker daemon answer? A hung one counts as no; nothing here waits longer than 5 s.
docker_answers() {
    local address
    address=$(docker_address)
    case $address in
        unix://*) [ -S "${address#unix://}" ] || return 1 ;;
    esac
    if have curl && [[ $address == unix://* ]]; then
        docker_curl /_ping --max-time 5 >/dev/null 2>&1
    elif have docker; then
        DOCKER_HOST=$address timeout 5 docker version --format '{{.Server.Version}}' >/dev/null 2>&1
    elif have curl; then
        docker_curl /_ping --max-time 5 >/dev/null 2>&1
    else
        die "there is a Docker address, $address, but nothing to talk to it with" \
            "on Debian: apt-get install curl"
    fi
}

# apt_install PACKAGE...: from Debian's or Ubuntu's own archive, quietly unless it fails.
apt_install() {
    local log
    log=$(mktemp)
    if ! {
        as_root apt-get -q -o DPkg::Lock::Timeout=300 update &&
            as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
                apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@"
    } >"$log" 2>&1 </dev/null; then
        tail -n 15 "$log" >&2
        rm -f "$log"
        die "could not install: $*" "see the lines above; then try: apt-get update && apt-get install $*"
    fi
    rm -f "$log"
}
