#!/bin/sh
# The first command on a fresh clone: sets up what is missing, then shows the main job (quickstart.ts).
set -eu
cd "$(dirname "$0")/.."

node_major=$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0)
if [ "$node_major" -lt 20 ]; then
  echo "skein: Node.js 20 or newer is needed to set up (found: $(node --version 2>/dev/null || echo none))" >&2
  exit 1
fi

# npm writes a copy of the lock file's content when it has installed it; a newer lock file means work.
if [ ! -x node_modules/node/bin/node ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  echo "skein: installing npm dependencies (Node 26 among them)"
  npm ci --no-fund --no-audit --loglevel=error
  touch node_modules/.package-lock.json
fi

sh scripts/prepare.sh
exec node_modules/node/bin/node scripts/quickstart.ts "$@"
