/**
 * The only file that builds libp2p: TCP, Noise, Yamux, and none of libp2p's own ideas about
 * liveness, reconnection, discovery or limits. Source: `reference/libp2p.md` §2.2, §2.3, §3.2,
 * §5.1.
 *
 * The gate: a connection from a key that is no member is refused as soon as Noise has proven the
 * key, unless the join lane is open and has room. A refused stranger's own dial still succeeds on
 * its side, so every handler asks again who is calling.
 */
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import type {
  Connection,
  Libp2p,
  MultiaddrConnection,
  PrivateKey,
  Stream,
  Upgrader,
} from '@libp2p/interface'
import { noise } from '@libp2p/noise'
import { peerIdFromString } from '@libp2p/peer-id'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import type { Clock } from '../base/clock.ts'
import { SwarmError } from '../base/errors.ts'
import { withoutPeerId } from './addresses.ts'
import { quietLogger } from './quiet-log.ts'
import { type Membership, Strangers } from './strangers.ts'
import { wholeWrites } from './whole-writes.ts'

/** Yamux window of each stream, fixed: what an unread stream may hold of this process's memory. */
export const STREAM_WINDOW_BYTES = 256 * 1024
/** Above the window, so that a paused stream is never reset for what was under way. */
export const READ_BUFFER_BYTES_MAX = 4 * 1024 * 1024
/** Above every writer's own limit; a stream beyond it is a bug and is reset. */
export const WRITE_BUFFER_BYTES_MAX = 8 * 1024 * 1024
/** Streams that one peer may have open. */
export const STREAMS_PER_CONNECTION_MAX = 512
/** Room for 1,000 members dialled from both sides, and strangers. */
export const CONNECTIONS_MAX = 2_100
/**
 * New connections a second from one address: many nodes may share one behind NAT or on a test host.
 */
export const CONNECTIONS_PER_SECOND_PER_ADDRESS_MAX = 64
/** Connections in their handshake. */
export const PENDING_CONNECTIONS_MAX = 64
/** Handshake and stream negotiation. */
export const UPGRADE_TIMEOUT_MS = 5_000

/** Peer-store ages: nothing of ours depends on it, and its forgetting must not interfere. */
const NEVER_MS = 1_000 * 365 * 24 * 3_600 * 1_000

/** What the host is made of. */
export interface HostOptions {
  /** Ed25519 seed, 32 bytes. */
  readonly privateKeySeed: Uint8Array
  /** Multiaddrs; empty = only dials. */
  readonly listenAddresses: readonly string[]
}

/** Who may connect. Asked at each connection, so answers may change. */
export interface Gate extends Membership {
  /** Whether strangers may come as far as the join protocol. */
  admitsStrangers(): boolean
}

/** Takes a stream that a peer opened. The connection's `remotePeer` is proven. */
export type StreamHandler = (stream: Stream, connection: Connection) => void

/** A running libp2p. */
export interface Host {
  /** Where it listens, without `/p2p/…`, wildcard addresses resolved. */
  addresses(): readonly string[]
  /** Connections that are open now, in both directions. */
  connectionCount(): number
  /** `streamsMax`: how many of this protocol one connection may have; all when absent. */
  handle(protocol: string, handler: StreamHandler, streamsMax?: number): Promise<void>
  /** A new connection; `peerId` undefined = whoever answers. */
  dial(address: string, peerId: string | undefined, signal: AbortSignal): Promise<Connection>
  /**
   * Makes a connection of a wire that is no socket, with the handshake and the multiplexer of every
   * other one. The far end must prove to be who the wire's address names.
   */
  upgradeOutbound(wire: MultiaddrConnection, signal: AbortSignal): Promise<Connection>
  /** The answering side of `upgradeOutbound`; its handlers are called as for any connection. */
  upgradeInbound(wire: MultiaddrConnection, signal: AbortSignal): Promise<void>
  /** Aborts every connection to `peerId`. */
  hangUp(peerId: string, cause: string): void
  stop(): Promise<void>
}

/** Builds and starts libp2p. @throws UNAVAILABLE when it cannot listen */
export async function startHost(
  components: { readonly clock: Clock },
  options: HostOptions,
  gate: Gate,
): Promise<Host> {
  const privateKey = await generateKeyPairFromSeed('Ed25519', options.privateKeySeed)
  try {
    const strangers = new Strangers(components.clock, gate)
    const node = await createNode(options, privateKey, gateHooks(gate, strangers))
    node.addEventListener('connection:open', ({ detail }) => strangers.opened(detail))
    node.addEventListener('connection:close', ({ detail }) => strangers.closed(detail))
    return hostOver(node)
  } catch (error) {
    throw new SwarmError(
      'UNAVAILABLE',
      `mesh: cannot listen on ${options.listenAddresses.join()}`,
      {
        cause: error,
      },
    )
  }
}

/** libp2p, and what makes connections of its wires. */
type SkeinNode = Libp2p<{ readonly wires: { readonly upgrader: Upgrader } }>

function createNode(
  options: HostOptions,
  privateKey: PrivateKey,
  connectionGater: ReturnType<typeof gateHooks>,
): Promise<SkeinNode> {
  return createLibp2p({
    privateKey,
    logger: quietLogger,
    addresses: { listen: [...options.listenAddresses] },
    transports: [tcp({ maxConnections: CONNECTIONS_MAX })],
    connectionEncrypters: [wholeWrites(noise(), STREAM_WINDOW_BYTES)],
    streamMuxers: [muxer()],
    connectionGater,
    connectionMonitor: { enabled: false },
    services: { wires: ({ upgrader }: { readonly upgrader: Upgrader }) => ({ upgrader }) },
    peerStore: { maxAddressAge: NEVER_MS, maxPeerAge: NEVER_MS },
    connectionManager: {
      maxConnections: CONNECTIONS_MAX,
      inboundConnectionThreshold: CONNECTIONS_PER_SECOND_PER_ADDRESS_MAX,
      maxIncomingPendingConnections: PENDING_CONNECTIONS_MAX,
      inboundUpgradeTimeout: UPGRADE_TIMEOUT_MS,
      inboundStreamProtocolNegotiationTimeout: UPGRADE_TIMEOUT_MS,
      outboundStreamProtocolNegotiationTimeout: UPGRADE_TIMEOUT_MS,
      reconnectRetries: 0,
    },
  })
}

function muxer(): ReturnType<typeof yamux> {
  return yamux({
    enableKeepAlive: false,
    maxInboundStreams: STREAMS_PER_CONNECTION_MAX,
    maxOutboundStreams: STREAMS_PER_CONNECTION_MAX,
    streamOptions: {
      initialStreamWindowSize: STREAM_WINDOW_BYTES,
      maxStreamWindowSize: STREAM_WINDOW_BYTES,
      maxReadBufferLength: READ_BUFFER_BYTES_MAX,
      maxWriteBufferLength: WRITE_BUFFER_BYTES_MAX,
    },
  })
}

interface GateHooks {
  denyInboundEncryptedConnection(peerId: { toString(): string }): boolean
}

/** The first hook at which the peer id is proven. */
function gateHooks(gate: Gate, strangers: Strangers): GateHooks {
  return {
    denyInboundEncryptedConnection: (peerId) => {
      if (gate.isMember(peerId.toString())) return false
      return !gate.admitsStrangers() || strangers.full
    },
  }
}

function hostOver(node: SkeinNode): Host {
  const { upgrader } = node.services.wires
  return {
    addresses: () => node.getMultiaddrs().map((address) => withoutPeerId(address.toString())),
    connectionCount: () => node.getConnections().length,
    handle: (protocol, handler, streamsMax = STREAMS_PER_CONNECTION_MAX) =>
      node.handle(protocol, handler, {
        maxInboundStreams: streamsMax,
        maxOutboundStreams: STREAMS_PER_CONNECTION_MAX,
      }),
    dial: (address, peerId, signal) =>
      node.dial(multiaddr(peerId === undefined ? address : `${address}/p2p/${peerId}`), {
        signal,
        force: true,
      }),
    upgradeOutbound: (wire, signal) => upgrader.upgradeOutbound(wire, { signal }),
    upgradeInbound: (wire, signal) => upgrader.upgradeInbound(wire, { signal }),
    hangUp: (peerId, cause) => {
      for (const connection of node.getConnections(peerIdFromString(peerId))) {
        connection.abort(new SwarmError('ABORTED', `connection: ${cause}`))
      }
    },
    stop: async () => {
      for (const connection of node.getConnections()) {
        connection.abort(new SwarmError('SHUTTING_DOWN', 'connection: this node stops'))
      }
      await node.stop()
    },
  }
}
