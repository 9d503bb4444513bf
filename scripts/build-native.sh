#!/bin/sh
# Builds the netlink addon (docs/decisions/0005-netlink-addon.md) by one compiler command. It is optional: where
# there is no compiler this says so in one sentence and succeeds, and Skein balances in userspace.
set -eu
cd "$(dirname "$0")/.."

target=build/native/netlink.node
headers=node_modules/node-api-headers/include
without='Skein runs without it and balances in userspace.'

[ "$(uname -s)" = Linux ] || { echo "skein: the netlink addon is for Linux. $without"; exit 0; }
if [ -f "$target" ] && [ -z "$(find native "$0" "$headers" -newer "$target" -type f 2>/dev/null)" ]; then
  exit 0
fi
compiler=${CC:-}
for candidate in cc gcc clang; do
  [ -n "$compiler" ] || compiler=$(command -v "$candidate" || true)
done
if [ -z "$compiler" ]; then
  echo "skein: no C compiler (package gcc and libc6-dev), so the netlink addon is not built. $without"
  exit 0
fi
if [ ! -f "$headers/node_api.h" ]; then
  echo "skein: node-api-headers is missing (npm ci), so the netlink addon is not built. $without"
  exit 0
fi

mkdir -p build/native
# Under another name first: a process that has the old one loaded keeps it.
part=$target.$$
if ! "$compiler" -std=gnu11 -O2 -Wall -Wextra -Werror=implicit-function-declaration -fPIC -shared \
  -fvisibility=hidden -pthread -I"$headers" -o "$part" native/*.c; then
  rm -f "$part"
  echo "skein: the netlink addon did not compile (see above). $without"
  exit 0
fi
mv -f "$part" "$target"
echo "skein: built the netlink addon"
