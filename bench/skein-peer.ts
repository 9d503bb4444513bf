/** Skein as a peer: one daemon of this checkout, on loopback, a manager of its own swarm. */
import { once } from 'node:events'
import { mkdtempSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { Daemon } from './daemon.ts'
import { startManager } from './manager-peer.ts'
import type { Peer } from './peer.ts'

const SKEIN = join(import.meta.dirname, '..', 'skein')

/** Starts a daemon below `parent` and makes it a manager. */
export async function startSkein(parent: string): Promise<Peer> {
  const directory = mkdtempSync(join(parent, 'skein-'))
  const socketPath = join(directory, 'skein.sock')
  const listenAddress = `127.0.0.1:${await freePort()}`
  const daemon = new Daemon(directory, socketPath, {
    file: SKEIN,
    args: [
      'daemon',
      '--data-dir',
      join(directory, 'data'),
      '--listen-addr',
      listenAddress,
      '--socket',
      socketPath,
    ],
  })
  return startManager({ name: 'skein', directory, daemon, listenAddress })
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('no free port')
  return address.port
}
