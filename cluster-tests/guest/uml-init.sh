#!/bin/sh
# PID 1 of a User Mode Linux guest. The host's files are below an overlay in memory: the guest sees them and
# changes only its own copy, except in the folders that the harness names in `writable`. The new root is
# pivoted to, not chrooted: the kernel starts modprobe in it, too. `skein_control=` on the kernel's command
# line names the control folder; the kernel hands what it does not know to init's environment.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
control=$skein_control
give_up() {
  echo "uml-init: $*" >&2
  exec busybox poweroff -f
}
release=$(uname -r)
modules=/usr/lib/uml/modules/$release

mount -t tmpfs -o size=75% memory /mnt || give_up 'no tmpfs'
mkdir /mnt/changes /mnt/work /mnt/root
insmod "$modules/kernel/fs/overlayfs/overlay.ko" || give_up 'no overlayfs'
mount -t overlay -o lowerdir=/,upperdir=/mnt/changes,workdir=/mnt/work root /mnt/root || give_up 'no overlay'
cd /mnt/root || give_up 'no root'

mount -t proc proc proc
mount -t sysfs sys sys
mount -t cgroup2 cgroup sys/fs/cgroup
mount -t devtmpfs dev dev
mkdir -p dev/pts dev/shm dev/net
mount -t devpts -o mode=620,ptmxmode=666 pts dev/pts
mount -t tmpfs shm dev/shm
[ -e dev/net/tun ] || mknod dev/net/tun c 10 200
mount -t tmpfs run run
mkdir -p run/netns run/lock run/skein-guest run/host-root
mount -t hostfs -o "$control" control run/skein-guest || give_up 'no control folder'
while read -r folder; do
  [ -z "$folder" ] || mount -t hostfs -o "$folder" writable ".$folder" || give_up "no $folder"
done <run/skein-guest/writable
mkdir -p lib/modules
[ -e "lib/modules/$release" ] || ln -s "$modules" "lib/modules/$release"

pivot_root . run/host-root || give_up 'no pivot_root'
umount -l /run/host-root
stty -F /dev/ttyS0 raw -echo
stty -F /dev/ttyS1 raw -echo
exec sh /run/skein-guest/session.sh /run/skein-guest /dev/ttyS0 /dev/ttyS1
