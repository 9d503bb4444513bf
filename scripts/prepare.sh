#!/bin/sh
# Makes sure that the system packages Skein uses are there: crun and conmon run containers, iproute2 and
# nftables connect them, busybox-static is what the demonstration image is made from. Says what it
# installs; without root it prints the command and goes on only if asked to (--optional).
set -eu

missing=''
need() { # need COMMAND PACKAGE
  command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ] || missing="$missing $2"
}
need crun crun
need conmon conmon
need ip iproute2
need nft nftables
need mount mount
need nsenter util-linux
[ -x /bin/busybox ] || missing="$missing busybox-static"
[ "${1:-}" != --tests ] || need setcap libcap2-bin

[ -n "$missing" ] || exit 0
install="apt-get install -y --no-install-recommends$missing"

if ! command -v apt-get >/dev/null 2>&1; then
  echo "skein: please install with your package manager:$missing" >&2
  exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
  echo "skein: system packages are missing. As root, run:" >&2
  echo "  apt-get update && $install" >&2
  exit 1
fi
echo "skein: installing system packages:$missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! { apt-get update && $install; } >"$log" 2>&1; then
  cat "$log" >&2
  rm -f "$log"
  echo "skein: the packages could not be installed; see above" >&2
  exit 1
fi
rm -f "$log"
