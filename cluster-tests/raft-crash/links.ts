/**
 * A member's name, identity and transport. The name says who; over the mesh the identity is the
 * node id of a key that is made from the name, over TCP it is the name itself. A server's address in
 * the configuration is `name@host:port`, so whoever knows the configuration can call everybody.
 */
import { createHash } from 'node:crypto'
import type { Clock } from '../../src/base/clock.ts'
import type { Logger } from '../../src/base/log.ts'
import type { Random } from '../../src/base/random.ts'
import { nodeKey } from '../../src/identity/node-key.ts'
import { createMesh } from '../../src/mesh/mesh.ts'
import { RaftTransport } from '../../src/mesh/raft-transport.ts'
import { TcpTransport, type Server, type Transport } from '../../src/raft/index.ts'
import type { Peer, ServerSettings } from './protocol.ts'

interface Components {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
}

/** A transport, and the way to tell it who is there. */
export interface Links {
  readonly transport: Transport
  setPeers(peers: readonly Peer[]): void
}

/** The server id of a name. */
export function identityOf(name: string, transport: ServerSettings['transport']): string {
  return transport === 'mesh' ? nodeKey(seedOf(name)).nodeId : name
}

/** What stands in the configuration for a peer. */
export function addressOf({ name, address }: Peer): string {
  return `${name}@${address}`
}

/** The peer behind a server of the configuration. */
export function peerOf({ address }: Server): Peer {
  const [name = '', place = ''] = address.split('@')
  return { name, address: place }
}

/** Listens; calls those it is told of. */
export function openLinks(components: Components, settings: ServerSettings): Promise<Links> {
  return settings.transport === 'mesh'
    ? openMesh(components, settings)
    : openTcp(components, settings)
}

async function openTcp(components: Components, { self }: ServerSettings): Promise<Links> {
  const transport = await TcpTransport.listen(components, { id: self.name, listen: self.address })
  const setPeers = (peers: readonly Peer[]): void => {
    transport.setPeers(new Map(peers.map(({ name, address }) => [name, address])))
  }
  return { transport, setPeers }
}

async function openMesh(components: Components, { self }: ServerSettings): Promise<Links> {
  const mesh = await createMesh(components, {
    privateKeySeed: seedOf(self.name),
    listenAddresses: [multiaddr(self.address)],
  })
  const transport = new RaftTransport({ mesh, log: components.log })
  const setPeers = (peers: readonly Peer[]): void => {
    mesh.setMembers(
      peers.map(({ name, address }) => {
        const { nodeId, peerId } = nodeKey(seedOf(name))
        return { nodeId, peerId, addresses: [multiaddr(address)] }
      }),
    )
  }
  return { transport, setPeers }
}

function seedOf(name: string): Uint8Array {
  return createHash('sha256').update(`crash test, ${name}`).digest()
}

function multiaddr(address: string): string {
  const [host, port] = address.split(':')
  return `/ip4/${host}/tcp/${port}`
}
