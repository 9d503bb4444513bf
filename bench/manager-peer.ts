/** A daemon as a peer: started, manager of its own swarm, with the image; or cleaned up. */
import type { Daemon } from './daemon.ts'
import { benchImage } from './image.ts'
import type { Peer, PeerName } from './peer.ts'

/** What a peer is made of. */
export interface ManagerOptions {
  readonly name: PeerName
  readonly directory: string
  readonly daemon: Daemon
  /** `127.0.0.1:2377`; also what the manager advertises. */
  readonly listenAddress: string
}

/** Starts the daemon and makes it a manager with the image. */
export async function startManager(options: ManagerOptions): Promise<Peer> {
  const { name, directory, daemon, listenAddress } = options
  try {
    await daemon.start()
    await daemon.client.initSwarm(listenAddress, '127.0.0.1')
    await daemon.client.loadImage(benchImage())
  } catch (error) {
    await daemon.remove()
    throw error
  }
  return {
    name,
    directory,
    client: daemon.client,
    startupMs: () => daemon.startupMs,
    async restart() {
      await daemon.stop()
      await daemon.start()
    },
    async stop() {
      try {
        // Takes containers, devices and namespaces away, which outlive a daemon that only stops.
        await daemon.client.leaveSwarm()
      } finally {
        await daemon.remove()
      }
    },
  }
}
