#!/bin/sh
# Run by `cargo xtask package --check`: boots the systemd of a clean Debian in namespaces of its own, with nothing but
# /check.sh as a service.
#
#   boot.sh ROOT CGROUP        CGROUP: an empty cgroup of version 2 for it
#
# First run outside, where it joins the cgroup and makes the namespaces; then again as their first process.
set -eu
root=$1

if [ "${2-}" ]; then
    echo $$ >"$2/cgroup.procs"
    exec unshare --cgroup --net --mount --uts --ipc --pid --fork --kill-child /bin/sh "$0" "$root"
fi

mount --make-rprivate /
mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
# systemd raises limits of the whole machine here. The network's settings are those of this namespace.
for global in dev fs kernel vm; do
    mount --bind proc/sys/$global proc/sys/$global
    mount -o remount,bind,ro proc/sys/$global
done
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
# Of this mount alone: no pin in there is one of the machine's.
mount -t bpf bpf sys/fs/bpf
mount -t tmpfs tmpfs run
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
    cp -a /dev/$device dev/
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd

mkdir -p run/systemd/system
cat >run/systemd/system/check.target <<'END'
[Unit]
DefaultDependencies=no
Wants=check.service
END
cat >run/systemd/system/check.service <<'END'
[Unit]
DefaultDependencies=no
SuccessAction=exit-force
FailureAction=exit-force
SuccessActionExitStatus=0
FailureActionExitStatus=1
[Service]
Type=oneshot
ExecStart=/bin/sh /check.sh
StandardOutput=append:/check.log
StandardError=append:/check.log
END
# Nothing else of a boot is wanted here, and no journal is there.
for unit in datapath.service docker.service docker.socket containerd.service; do
    mkdir -p run/systemd/system/$unit.d
    printf '[Unit]\nDefaultDependencies=no\n' >run/systemd/system/$unit.d/alone.conf
done
for unit in datapath docker; do
    printf '[Service]\nStandardError=append:/%s.log\n' $unit >>run/systemd/system/$unit.service.d/alone.conf
done

pivot_root . mnt
umount -l /mnt
# As systemd has it on a machine: services see namespaces that are mounted after their start.
mount --make-rshared /
# A container, for systemd: it leaves the machine's clock and devices alone.
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C \
    /lib/systemd/systemd --unit=check.target --show-status=no </dev/null
