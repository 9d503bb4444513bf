#!/bin/busybox sh
# PID 1 of a QEMU guest, in its initial RAM disk: loads the modules that lead to the host's files over 9p,
# lays an overlay in memory on them (as `uml-init.sh` does) and goes there. The second folder that the host
# shares is the control folder.
box=/bin/busybox
$box mkdir -p /proc /layers
$box mount -t proc proc /proc
for module in /modules/*; do $box insmod "$module"; done
$box mount -t tmpfs -o size=75% memory /layers
$box mkdir /layers/host /layers/changes /layers/work /layers/root
transport=trans=virtio,version=9p2000.L
$box mount -t 9p -o $transport,msize=262144,cache=loose,ro host /layers/host
$box mount -t overlay -o lowerdir=/layers/host,upperdir=/layers/changes,workdir=/layers/work root /layers/root
cd /layers/root || exit 1

$box mount -t proc proc proc
$box mount -t sysfs sys sys
$box mount -t cgroup2 cgroup sys/fs/cgroup
$box mount -t devtmpfs dev dev
$box mkdir -p dev/pts dev/shm
$box mount -t devpts pts dev/pts
$box mount -t tmpfs shm dev/shm
$box mount -t tmpfs run run
$box mkdir -p run/netns run/lock run/skein-guest
$box mount -t 9p -o $transport,cache=none control run/skein-guest
number=0
while read -r folder; do
  [ -n "$folder" ] || continue
  $box mount -t 9p -o $transport,cache=none "writable$number" ".$folder"
  number=$((number + 1))
done <run/skein-guest/writable
$box mkdir -p lib/modules
$box ln -s "$($box cat run/skein-guest/module-folder)" "lib/modules/$($box uname -r)"

# Ports of the virtual serial device, by name.
for port in sys/class/virtio-ports/*; do
  case $($box cat "$port/name") in
    stdout) out=/dev/${port##*/} ;;
    stderr) err=/dev/${port##*/} ;;
  esac
done
exec $box switch_root -c /dev/console /layers/root /bin/sh /run/skein-guest/session.sh /run/skein-guest "$out" "$err"
