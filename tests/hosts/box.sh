#!/bin/bash
# A cluster in a box: hosts on one machine, each a set of namespaces with its own name, address, network, /dev/shm, IPC
# and TMPDIR, joined by a bridge. All else of the file system is shared, as on a cluster. Needs root.
#
#   box.sh N COMMAND ...      make host1 .. hostN (10.77.0.1 ..), run COMMAND on host1, and remove them
#   box.sh N                  the same, until standard input ends; prints the box's directory when the hosts are there
#
# In a box (its directory is $DDMD_BOX):
#
#   $DDMD_BOX/ssh HOST COMMAND ...   run COMMAND on HOST: what launchers are told to use in ssh's place
#   box.sh bytes HOST                bytes that HOST has sent and received over its link
#   box.sh rate HOST RATE|none       limit its link in both directions, for example to 100mbit
#   box.sh cut HOST | mend HOST      pull its cable out, and plug it in
#   box.sh kill HOST                 kill -9 every process there
#
# Three ranks on each of two hosts; a shell on the first of three hosts:
#
#   box.sh 2 mpiexec --host host1:3,host2:3 --map-by ppr:3:node:oversubscribe --bind-to none -n 6 ddmd-mpi ...   (Open MPI)
#   box.sh 2 mpiexec -hosts host1,host2 -ppn 3 -n 6 ddmd-mpi ...                                                 (MPICH)
#   box.sh 3 bash
#
# The hosts share one PID namespace of the box, whose first process is this script: when it ends, for whatever reason, the
# kernel kills every process of every host, and no namespace, link or address is left. Boxes do not see each other.
set -eu
self=$(realpath "$0")

# The box's first process.
inside() {
    local directory=$1 n_hosts=$2 i pid
    shift 2
    echo "127.0.0.1 localhost" >"$directory/hosts"
    ip link add switch type bridge
    ip link set switch up
    for i in $(seq 1 "$n_hosts"); do
        echo "10.77.0.$i host$i" >>"$directory/hosts"
        unshare --net --uts --ipc --mount "$self" keep "$directory" "host$i" </dev/null &
        pid=$!
        until [ -e "$directory/host$i.ready" ]; do sleep 0.01; done
        echo "$pid" >"$directory/host$i.pid"
        ip link add "link$i" type veth peer name eth0 netns "$pid"
        ip link set "link$i" master switch up
        nsenter --net --target "$pid" ip address add "10.77.0.$i/24" dev eth0
        nsenter --net --target "$pid" ip link set eth0 up
    done
    if [ $# -gt 0 ]; then
        "$directory/ssh" host1 "$(printf '%q ' "$@")"
    else
        echo "$directory"
        cat >/dev/null
    fi
}

# The process that keeps a host's namespaces.
keep() {
    echo "$2" >/proc/sys/kernel/hostname
    mount --bind "$1/hosts" /etc/hosts
    mount -t tmpfs tmpfs /dev/shm
    mount -t tmpfs tmpfs "$1/tmp"
    ip link set lo up
    touch "$1/$2.ready"
    exec sleep infinity
}

keeper() {
    cat "${DDMD_BOX:?not in a box}/$1.pid"
}

# The processes of a host but its keeper.
processes() {
    local net path
    net=$(readlink "/proc/$(keeper "$1")/ns/net")
    for path in /proc/[0-9]*; do
        if [ "$(readlink "$path/ns/net")" = "$net" ] && [ "${path#/proc/}" != "$(keeper "$1")" ]; then
            echo "${path#/proc/}"
        fi
    done
}

on_switch() {
    nsenter --net --target 1 "$@"
}

limit() {
    local rate=$1
    shift
    "$@" tc qdisc del dev "$device" root 2>/dev/null || true
    [ "$rate" = none ] || "$@" tc qdisc add dev "$device" root tbf rate "$rate" burst 256kbit latency 400ms
}

case ${1:-} in
[1-9]*)
    n_hosts=$1
    shift
    directory=$(mktemp -d "${TMPDIR:-/tmp}/ddmd-box-XXXXXX")
    trap 'rm -rf "$directory"' EXIT
    mkdir "$directory/tmp"
    install -m 755 "$(dirname "$self")/agent.sh" "$directory/ssh"
    unshare --mount --pid --net --fork --kill-child --mount-proc "$self" inside "$directory" "$n_hosts" "$@"
    ;;
inside | keep | processes) "$@" ;;
bytes) awk '/eth0:/ { sub(/.*:/, ""); print $9, $1 }' "/proc/$(keeper "$2")/net/dev" ;;
rate)
    device=eth0 limit "$3" nsenter --net --target "$(keeper "$2")"
    device=link${2#host} limit "$3" on_switch
    ;;
cut) on_switch ip link set "link${2#host}" down ;;
mend) on_switch ip link set "link${2#host}" up ;;
kill)
    while found=$(processes "$2") && [ -n "$found" ]; do
        # shellcheck disable=SC2086
        kill -9 $found 2>/dev/null || true
    done
    ;;
*)
    sed -n '2,/^set -eu/{ /^#/p }' "$self"
    exit 2
    ;;
esac
