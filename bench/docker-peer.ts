/**
 * dockerd (Debian's `docker.io`) as a peer: its own network and mount
 * namespaces, data, sockets, cgroups and containerd, so
 * that it meets no other Docker of the machine. `DOCKER_SERVICE_PREFER_OFFLINE_IMAGE` keeps it from
 * asking a registry that it cannot reach before each task: its best case.
 */
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { Daemon } from './daemon.ts'
import { startManager } from './manager-peer.ts'
import type { Peer } from './peer.ts'

const DOCKERD = '/usr/sbin/dockerd'

/**
 * dockerd writes a key to `/etc/docker` whatever its options say; here that is a directory of ours.
 */
const SCRIPT = `etc=$1; shift
  ip link set lo up && mkdir -p /etc/docker && mount --bind "$etc" /etc/docker &&
  exec ${DOCKERD} "$@"`

/** Where the swarm listens, inside the namespace. */
const LISTEN_ADDRESS = '127.0.0.1:2377'

/**
 * Starts dockerd below `parent` and makes it a manager. @throws when `docker.io` is not installed
 */
export async function startDocker(parent: string): Promise<Peer> {
  const directory = mkdtempSync(join(parent, 'docker-'))
  const socketPath = join(directory, 'docker.sock')
  const settings = join(directory, 'daemon.json')
  writeFileSync(settings, '{}')
  const options = [
    `--config-file=${settings}`,
    `--cgroup-parent=/${basename(directory)}`,
    `--data-root=${join(directory, 'data')}`,
    `--exec-root=${join(directory, 'exec')}`,
    `--host=unix://${socketPath}`,
    `--pidfile=${join(directory, 'pid')}`,
  ]
  mkdirSync(join(directory, 'etc'))
  const daemon = new Daemon(directory, socketPath, {
    file: 'unshare',
    args: ['--net', '--mount', 'sh', '-c', SCRIPT, 'sh', join(directory, 'etc'), ...options],
    env: { DOCKER_SERVICE_PREFER_OFFLINE_IMAGE: '1' },
  })
  return startManager({ name: 'docker', directory, daemon, listenAddress: LISTEN_ADDRESS })
}
