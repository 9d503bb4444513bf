#!/bin/sh
# Makes sure that the system packages Skein uses are there: crun and conmon run containers, iproute2 and
# nftables connect them, busybox-static is what the demonstration image is made from; and a C compiler for
# the netlink addon, which is then built. Says what it installs. Without root it prints the command; the
# compiler alone is a wish, and everything goes on without it. With --tests also what the tests use, with
# --bench what the benchmarks of the load balancers use.
set -eu
cd "$(dirname "$0")/.."

# npm puts node_modules/.bin first, where a package has a tool of its own named nft.
PATH=$(printf '%s' "$PATH" | tr ':' '\n' | grep -v node_modules | tr '\n' ':')/usr/sbin:/sbin

missing=''
has() { command -v "$1" >/dev/null 2>&1; }
need() { # need COMMAND PACKAGE
  has "$1" || missing="$missing $2"
}
need crun crun
need conmon conmon
need ip iproute2
need nft nftables
need mount mount
need nsenter util-linux
[ -x /bin/busybox ] || missing="$missing busybox-static"
[ "${1:-}" != --tests ] || need setcap libcap2-bin
if [ "${1:-}" = --bench ]; then
  need wrk wrk
  need cc 'gcc libc6-dev'
  need ipvsadm ipvsadm
fi

# Wishes: what is not there is said, and what needs it is skipped with the reason. The kernel of
# cluster-tests/guest is a package here; QEMU and its kernel are only unpacked, by that harness itself.

wanted=''
if [ "${1:-}" = --tests ] || [ "${1:-}" = --bench ]; then
  [ -x /usr/bin/linux.uml ] || wanted="$wanted user-mode-linux"
  has ipvsadm || wanted="$wanted ipvsadm"
  has iptables-legacy || wanted="$wanted iptables"
  has modprobe || wanted="$wanted kmod"
fi
[ -f build/native/netlink.node ] || has cc || has gcc || has clang || wanted="$wanted gcc libc6-dev"

install_packages() { # install_packages PACKAGE...
  echo "skein: installing system packages: $*"
  export DEBIAN_FRONTEND=noninteractive
  log=$(mktemp)
  if ! { apt-get update && apt-get install -y --no-install-recommends "$@"; } >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    return 1
  fi
  rm -f "$log"
}

if [ -n "$missing" ]; then
  if ! command -v apt-get >/dev/null 2>&1; then
    echo "skein: please install with your package manager:$missing" >&2
    exit 1
  fi
  if [ "$(id -u)" -ne 0 ]; then
    echo "skein: system packages are missing. As root, run:" >&2
    echo "  apt-get update && apt-get install -y --no-install-recommends$missing$wanted" >&2
    exit 1
  fi
  # Unquoted: a list of names.
  if ! install_packages $missing; then
    echo "skein: the packages could not be installed; see above" >&2
    exit 1
  fi
fi

if [ -n "$wanted" ] && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
  install_packages $wanted || echo "skein: could not be installed, see above:$wanted" >&2
fi
sh scripts/build-native.sh
