#!/bin/sh
# A machine in the machine: systemd as process 1 of namespaces of its own, over this machine's files; what it changes stays in
# memory. machine.sh FOLDER, in a mount namespace of its own; prints a process id, and ends when standard input does.
set -eu

if [ "$1" = inside ]; then
    folder=$2 root=$2/root
    mount -t proc proc "$root/proc"
    mount -t sysfs -o ro sysfs "$root/sys"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
    for place in run tmp dev; do mount -t tmpfs -o mode=755 tmpfs "$root/$place"; done
    chmod 1777 "$root/tmp"
    for device in null zero full random urandom tty; do
        touch "$root/dev/$device"
        mount --bind "/dev/$device" "$root/dev/$device"
    done
    mkdir "$root/dev/pts" "$root/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    ip link set lo up
    cd "$root"
    pivot_root . mnt
    umount -l mnt
    # Nothing of what runs on the machine outside, and nothing that keeps packages from starting what they want.
    rm -rf /etc/systemd/system /usr/sbin/policy-rc.d /etc/synhold /var/lib/synhold
    mkdir /etc/systemd/system
    : >/etc/fstab
    exec env -i container=synhold-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        /lib/systemd/systemd --system --unit=basic.target --log-target=journal --show-status=no
fi

folder=$1
mount --make-rprivate /
mount -t tmpfs tmpfs "$folder"
mkdir "$folder/up" "$folder/work" "$folder/root" "$folder/cgroup"
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/up,workdir=$folder/work" "$folder/root"
mount -t cgroup2 cgroup2 "$folder/cgroup"
group=$folder/cgroup/synhold-test-$$
mkdir "$group"
sh -c 'echo $$ >"$1/cgroup.procs"; exec unshare --mount --pid --net --ipc --uts --cgroup --fork --kill-child sh "$0" inside "$2"' \
    "$0" "$group" "$folder" >&2 </dev/null &
machine=$!
echo "$machine"
cat >/dev/null
kill -9 "$machine" 2>/dev/null || true
wait "$machine" 2>/dev/null || true
# Its processes are gone with its process 1, if not at once.
while ! find "$group" -depth -type d -exec rmdir {} + 2>/dev/null; do
    [ -d "$group" ] || break
done
