#!/bin/sh
# Unpacks QEMU and a stock Debian kernel into a folder; nothing is installed. Usage: qemu-fetch.sh FOLDER
#
# Takes what apt would install here, so libraries that the machine has are not fetched again. The unpacked
# programs find theirs by LD_LIBRARY_PATH. The file `complete` appears last: it holds the kernel's release.
set -eu
target=$1
[ ! -s "$target/complete" ] || exit 0
command -v apt-get >/dev/null 2>&1 || { echo "no apt-get to fetch QEMU and a kernel with" >&2; exit 1; }
mkdir -p "$target"
# Another process may be at it: the one that comes second finds it done.
exec 9>"$target/lock"
flock 9
[ ! -s "$target/complete" ] || exit 0

apt-get update -qq || echo "apt-get update failed; trying with the lists that are there" >&2
kernel=$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1)
[ -n "$kernel" ] || { echo "apt knows no linux-image-amd64" >&2; exit 1; }
names=$(apt-get install -s --no-install-recommends qemu-system-x86 | sed -n 's/^Inst \([^ ]*\) .*/\1/p')

rm -rf "$target/packages" "$target/root"
mkdir -p "$target/packages" "$target/root"
# _apt, which fetches, may not write here: apt then fetches as root and says so.
(cd "$target/packages" && apt-get download -qq $names qemu-system-x86 "$kernel" 2>"$target/fetch.log") || {
  cat "$target/fetch.log" >&2
  exit 1
}
for package in "$target"/packages/*.deb; do dpkg -x "$package" "$target/root"; done
rm -rf "$target/packages"
release=${kernel#linux-image-}
modules=$target/root/lib/modules/$release
[ -d "$modules" ] || modules=$target/root/usr/lib/modules/$release
depmod -b "${modules%/lib/modules/*}" "$release"
printf '%s\n' "$release" >"$target/complete"
