# Builds a private root file system and runs a command in it as pid 1.
# usage: sh root.sh STATE LOWERDIRS HOSTNAME COMMAND...   (inside `unshare --mount --pid ...`)
#
# Every change goes to a tmpfs that dies with the mount namespace, so a killed machine leaves
# nothing. STATE is a directory of the outside; the pid and start time of this process, as the
# outside sees them, are written to STATE/pid.
# $BINDS: lines "SOURCE<tab>DESTINATION", files and directories of the outside to show inside.
# Prints "ready" once the root is in place.
set -eu
state=$1 lower=$2 name=$3
shift 3

# /proc is still the outside's. Field 22 is the start time; "(sh)" has no blank that would shift it.
read -r stat </proc/self/stat
echo "$stat" | cut -d' ' -f1,22 >"$state/pid.new"
mv "$state/pid.new" "$state/pid"

mkdir "$state/mnt"
cd "$state/mnt"
mount -t tmpfs -o mode=755 lab .
cd "$state/mnt"
mkdir upper work root
mount -t overlay -o "lowerdir=$lower,upperdir=upper,workdir=work" lab root
cd root

mount -t proc proc proc
mount -t sysfs sysfs sys
# crun refuses the hybrid cgroup mounts of some machines; a fresh hierarchy is never hybrid.
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 dev dev
mkdir dev/pts dev/shm dev/mqueue dev/net
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs shm dev/shm
mount -t mqueue mqueue dev/mqueue
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
mknod -m 666 dev/net/tun c 10 200
mknod -m 666 dev/fuse c 10 229
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
# Podman's overlay storage cannot have its upper layers on an overlay.
mount -t tmpfs -o mode=755 containers var/lib/containers
mount -t tmpfs -o mode=755,uid=1000,gid=1000 containers home/user/.local/share/containers
mkdir run/lock

printf '%s' "${BINDS-}" | while IFS='	' read -r source destination; do
    if [ -d "$source" ]; then
        mkdir -p ".$destination"
    else
        mkdir -p "$(dirname ".$destination")"
        [ -e ".$destination" ] || : >".$destination"
    fi
    mount --rbind "$source" ".$destination"
done
unset BINDS

hostname "$name"
# Not chroot: `podman exec` joins a container's mount namespace and would come out in the root
# of the outside.
pivot_root . mnt
cd /
umount -l /mnt
mount --make-rshared / # as systemd has it, and as rootless Podman wants it
echo ready
exec "$@" >&2
