#!/bin/sh
# Last stage of a guest's init, the same for every tier: runs the command, reports its status, powers off.
# Usage: session.sh CONTROL STDOUT STDERR, the last two being devices that lead to the host.
#
# The command writes into pipes, not to the devices: it must not believe that it has a terminal.
control=$1 out=$2 err=$3
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
exec </dev/null

hostname skein-guest
ip link set lo up
while read -r module; do
  [ -z "$module" ] || modprobe "$module" || echo "guest: no module $module" >&2
done <"$control/modules"

mkfifo /run/guest-out /run/guest-err
(trap '' TERM; exec cat </run/guest-out >"$out") & copier_out=$!
(trap '' TERM; exec cat </run/guest-err >"$err") & copier_err=$!

setsid sh "$control/command" >/run/guest-out 2>/run/guest-err
status=$?

# What the command left behind may hold the pipes: it is ended, then the copiers come to their end.
kill -TERM -1 2>/dev/null
waited=0
while kill -0 $copier_out 2>/dev/null || kill -0 $copier_err 2>/dev/null; do
  waited=$((waited + 1))
  [ $waited -le 40 ] || break
  sleep 0.05
done
echo $status >"$control/status"
sync
exec busybox poweroff -f
