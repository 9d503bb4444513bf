/**
 * The mesh of one node: a libp2p host, a link to every member, and what travels on them: requests,
 * byte streams, Raft's frames, and the join lane for strangers.
 *
 * Initialisation: `createMesh` listens at once, but only members get past the gate and there are
 * none before `setMembers`; so handlers are registered between the two and miss nothing.
 */
import { assert } from '../base/assert.ts'
import type { Clock, Timer } from '../base/clock.ts'
import { SwarmError } from '../base/errors.ts'
import { base36 } from '../base/identifiers.ts'
import type { Logger } from '../base/log.ts'
import type { Random } from '../base/random.ts'
import { nodeKey } from '../identity/node-key.ts'
import { deadline } from '../base/deadline.ts'
import { DialSlots } from './dial-slots.ts'
import { DuplexStream, type StreamHeader } from './duplex-stream.ts'
import { startHost, type Host, type StreamHandler } from './host.ts'
import { JOIN_PROTOCOL } from './join-message.ts'
import { JoinServer, type JoinAuthority } from './join-server.ts'
import { DEFAULT_LINK_TIMERS, Link, type LinkSelf, type LinkTimers } from './link.ts'
import {
  type Duplex,
  type Member,
  type Mesh,
  type PeerState,
  REQUEST_TIMEOUT_MS,
  type RequestOptions,
} from './ports.ts'
import { CONTROL_PROTOCOL, type LossReason, RAFT_PROTOCOL, type Session } from './session.ts'
import { serveStream, STREAM_PROTOCOL } from './stream-lane.ts'
import { type TunnelGround, Tunnels } from './tunnel/tunnels.ts'

/** Digits that tell one start of a node from another. */
const INCARNATION_BYTES = 8
/** How often links are looked at, as a part of the time after which a silent peer is dead. */
const TICKS_PER_DEADLINE = 6

/** More unreachable members than this are left to their own timers, lest dialling be all we do. */
const NUDGED_LINKS_MAX = 32

/** What a mesh is built from. */
export interface MeshComponents {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
}

/** What a mesh is built with. */
export interface MeshOptions {
  /** The node's Ed25519 seed, 32 bytes. */
  readonly privateKeySeed: Uint8Array
  /** Multiaddrs; port 0 takes a free one. */
  readonly listenAddresses: readonly string[]
  /** What peers are told instead of where this node listens. */
  readonly announceAddresses?: readonly string[]
  readonly timers?: Partial<LinkTimers>
}

/** Takes Raft's frames and learns of lost peers. */
export interface RaftReceiver {
  onFrame(nodeId: string, body: Uint8Array): void
  onLost(nodeId: string, reason: LossReason): void
}

/** The mesh's own stream for Raft; used by `RaftTransport` alone. */
export interface RaftLane {
  setReceiver(receiver: RaftReceiver | undefined): void
  /** False when the frame was dropped: no link, or a full queue. */
  send(nodeId: string, body: Uint8Array): boolean
  /** As `send`, but replaces a frame of the same `key` that still waits. */
  sendLatest(nodeId: string, key: string, body: Uint8Array): boolean
}

/** A running mesh with what only the composition root needs. */
export interface MeshHost extends Mesh, AsyncDisposable {
  readonly raft: RaftLane
  /** Connections that are open now; about one a reachable peer. */
  connectionCount(): number
  /** Answers strangers on the join lane, as a manager or by saying that this node is none. */
  serveJoins(authority: JoinAuthority): void
  /** Cuts every link and stops libp2p; no timer and no socket is left. */
  close(): Promise<void>
}

/** Starts a mesh that listens and has no members yet. @throws UNAVAILABLE when it cannot listen */
export async function createMesh(
  components: MeshComponents,
  options: MeshOptions,
): Promise<MeshHost> {
  const mesh = new NodeMesh(components, options)
  await mesh.start()
  return mesh
}

class NodeMesh implements MeshHost {
  readonly raft: RaftLane
  readonly #components: MeshComponents
  readonly #options: MeshOptions
  readonly #timers: LinkTimers
  readonly #log: Logger
  readonly #self: LinkSelf
  readonly #handlers = new Map<string, Parameters<Mesh['handle']>[1]>()
  readonly #streamHandlers = new Map<string, Parameters<Mesh['handleStream']>[1]>()
  readonly #listeners = new Set<(peer: PeerState) => void>()
  /** Links by node id, and the same by peer id. */
  readonly #links = new Map<string, Link>()
  readonly #linksByPeerId = new Map<string, Link>()
  readonly #slots = new DialSlots()
  readonly #tunnelSlots = new DialSlots()
  #tunnels: Tunnels | undefined
  #host: Host | undefined
  #raftReceiver: RaftReceiver | undefined
  #joins: JoinServer | undefined
  #tickTimer: Timer | undefined
  #status: 'running' | 'closed' = 'running'

  constructor(components: MeshComponents, options: MeshOptions) {
    this.#components = components
    this.#options = options
    this.#timers = { ...DEFAULT_LINK_TIMERS, ...options.timers }
    this.#log = components.log.child({ component: 'mesh' })
    const { nodeId, peerId } = nodeKey(options.privateKeySeed)
    const incarnation = base36(components.random.bytes(INCARNATION_BYTES), 1)
    this.#self = { nodeId, peerId, incarnation }
    this.raft = {
      setReceiver: (receiver) => (this.#raftReceiver = receiver),
      send: (to, body) => this.#links.get(to)?.raft?.write(body) ?? false,
      sendLatest: (to, key, body) => this.#links.get(to)?.raft?.writeLatest(key, body) ?? false,
    }
  }

  get self(): Member {
    const { nodeId, peerId } = this.#self
    const addresses = this.#options.announceAddresses ?? this.#host?.addresses() ?? []
    return { nodeId, peerId, addresses }
  }

  async start(): Promise<void> {
    const host = await startHost(this.#components, this.#options, {
      isMember: (peerId) => this.#linksByPeerId.has(peerId),
      admitsStrangers: () => this.#joins !== undefined,
    })
    this.#host = host
    await host.handle(RAFT_PROTOCOL, (stream, connection) => {
      this.#memberSession(stream, connection)?.attachRaft(stream)
    })
    await host.handle(CONTROL_PROTOCOL, (stream, connection) => {
      this.#memberSession(stream, connection)?.attachControl(stream)
    })
    await host.handle(STREAM_PROTOCOL, (stream, connection) => {
      const session = this.#memberSession(stream, connection)
      if (session !== undefined) this.#onStream(session, stream)
    })
    const onJoin: StreamHandler = (stream, connection) => {
      if (this.#joins === undefined) stream.abort(notMember())
      else this.#joins.onStream(stream, connection)
    }
    await host.handle(JOIN_PROTOCOL, onJoin, 1)
    const { clock } = this.#components
    const onNews = (): void => this.#unreachableLinks().forEach((link) => link.nudgeTunnel())
    const parts = { clock, log: this.#log, ground: this.#tunnelGround(), host, onNews }
    this.#tunnels = new Tunnels(this.#self, parts)
    this.#scheduleTick()
    this.#log.info({ ...this.self }, 'mesh listens')
  }

  setMembers(members: readonly Member[]): void {
    if (this.#status === 'closed') return
    const wanted = new Map(members.map((member) => [member.nodeId, member]))
    wanted.delete(this.#self.nodeId)
    for (const [nodeId, link] of this.#links) {
      if (wanted.get(nodeId)?.peerId !== link.member.peerId) this.#removeLink(link)
    }
    for (const member of wanted.values()) {
      const link = this.#links.get(member.nodeId)
      if (link === undefined) this.#addLink(member)
      else link.update(member)
    }
    this.#tunnels?.changed()
  }

  peers(): readonly PeerState[] {
    return [...this.#links.values()].map((link) => link.state)
  }

  onPeer(listener: (peer: PeerState) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  async request(
    nodeId: string,
    method: string,
    body: unknown,
    options?: RequestOptions,
  ): Promise<unknown> {
    const control = this.#links.get(nodeId)?.control
    if (control === undefined) throw this.#unreachable(nodeId)
    return control.request(method, body, options)
  }

  handle(method: string, handler: (body: unknown, nodeId: string) => Promise<unknown>): void {
    assert(!this.#handlers.has(method), `method "${method}" has a handler already`)
    this.#handlers.set(method, handler)
  }

  async openStream(
    nodeId: string,
    method: string,
    header: unknown,
    options: RequestOptions = {},
  ): Promise<Duplex> {
    const session = this.#links.get(nodeId)?.session
    if (session === undefined) throw this.#unreachable(nodeId)
    return this.#openOn(session, { method, header }, options)
  }

  async #openOn(session: Session, opening: StreamHeader, options: RequestOptions): Promise<Duplex> {
    const timeoutMs = options.timeoutMs ?? REQUEST_TIMEOUT_MS
    const subject = `stream ${opening.method} to node ${session.nodeId}`
    using limit = deadline(this.#components.clock, timeoutMs, subject, options.signal)
    const { signal } = limit
    const stream = await session.connection
      .newStream(STREAM_PROTOCOL, { signal })
      .catch((error: unknown) => {
        if (signal.aborted) throw signal.reason
        throw new SwarmError('UNAVAILABLE', `${subject}: not opened`, { cause: error })
      })
    const duplex = this.#duplex(session, stream)
    const onAbort = (): void => duplex.abort(signal.reason as Error)
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      await duplex.requestOpening(opening)
      return duplex
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  handleStream(method: string, handler: (header: unknown, stream: Duplex) => Promise<void>): void {
    assert(!this.#streamHandlers.has(method), `stream "${method}" has a handler already`)
    this.#streamHandlers.set(method, handler)
  }

  connectionCount(): number {
    return this.#host?.connectionCount() ?? 0
  }

  serveJoins(authority: JoinAuthority): void {
    const { clock } = this.#components
    const components = { clock, log: this.#log, authority }
    this.#joins = new JoinServer(components, { peerId: this.#self.peerId })
  }

  async close(): Promise<void> {
    if (this.#status === 'closed') return
    this.#status = 'closed'
    this.#tickTimer?.cancel()
    this.#slots.close()
    this.#tunnelSlots.close()
    this.#tunnels?.close()
    this.#joins = undefined
    for (const link of this.#links.values()) this.#removeLink(link, 'this node stops')
    await this.#host?.stop()
    this.#log.info({}, 'mesh stopped')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #addLink(member: Member): void {
    const host = this.#host
    assert(host !== undefined, 'mesh has members before it has started')
    const components = {
      ...this.#components,
      log: this.#log,
      handlers: this.#handlers,
      slots: this.#slots,
      dial: (peerId: string, address: string, signal: AbortSignal) =>
        host.dial(address, peerId, signal),
      tunnel: async (nodeId: string) => this.#tunnels?.open(nodeId),
      tunnelSlots: this.#tunnelSlots,
      hangUp: (peerId: string) => host.hangUp(peerId, 'no longer a member'),
    }
    const link = new Link(member, this.#self, components, {
      timers: this.#timers,
      events: {
        onReachable: (state, reason) => this.#onReachable(state, reason),
        onWay: (state) => this.#onWay(state),
        onRaftFrame: (nodeId, body) => this.#raftReceiver?.onFrame(nodeId, body),
      },
    })
    this.#links.set(member.nodeId, link)
    this.#linksByPeerId.set(member.peerId, link)
  }

  #removeLink(link: Link, cause = 'no longer a member'): void {
    this.#links.delete(link.member.nodeId)
    this.#linksByPeerId.delete(link.member.peerId)
    link.close(cause)
  }

  #onReachable(state: PeerState, reason: LossReason | undefined): void {
    if (!state.reachable && reason !== undefined) this.#raftReceiver?.onLost(state.nodeId, reason)
    if (state.reachable) this.#nudgeOthers()
  }

  #onWay(state: PeerState): void {
    this.#tunnels?.changed()
    for (const listener of this.#listeners) listener(state)
  }

  /** What tunnels run on: links to members that need no tunnel themselves. */
  #tunnelGround(): TunnelGround {
    const direct = (nodeId: string): Session => {
      const session = this.#links.get(nodeId)?.direct
      if (session === undefined) throw this.#unreachable(nodeId)
      return session
    }
    return {
      members: () => [...this.#links.keys()],
      peerIdOf: (nodeId) => this.#links.get(nodeId)?.member.peerId,
      neighbours: () => [...this.#links.values()].flatMap((link) => link.neighbour ?? []),
      request: async (nodeId, method, body, options) =>
        direct(nodeId).control?.request(method, body, options),
      openStream: async (nodeId, method, header, options) =>
        this.#openOn(direct(nodeId), { method, header }, options),
      handle: (method, handler) => this.handle(method, handler),
      handleStream: (method, handler) => this.handleStream(method, handler),
    }
  }

  /** Where one peer came back, others of the same line may be back too. */
  #nudgeOthers(): void {
    const links = [...this.#links.values()].filter((link) => link.direct === undefined)
    if (links.length > NUDGED_LINKS_MAX) return
    for (const link of links) link.nudge()
  }

  #unreachableLinks(): readonly Link[] {
    return [...this.#links.values()].filter((link) => link.session === undefined)
  }

  /** The caller's session; aborts the stream of who is no member. */
  #memberSession(
    stream: Parameters<Session['attachRaft']>[0],
    connection: Session['connection'],
  ): Session | undefined {
    const link = this.#linksByPeerId.get(connection.remotePeer.toString())
    if (link !== undefined) return link.sessionOf(connection)
    stream.abort(notMember())
    return undefined
  }

  #onStream(session: Session, stream: Parameters<Session['attachRaft']>[0]): void {
    const duplex = this.#duplex(session, stream)
    // Owned: it ends with the stream, and every operating error in it goes to the far side.
    void serveStream(duplex, this.#streamHandlers, this.#log)
  }

  #duplex(session: Session, stream: Parameters<Session['attachRaft']>[0]): DuplexStream {
    const duplex = new DuplexStream(session.nodeId, stream, {
      clock: this.#components.clock,
      window: session.bulkWindow,
      onBytes: () => session.heard(),
    })
    void session.trackDuplex(duplex.closed())
    return duplex
  }

  #scheduleTick(): void {
    const { clock } = this.#components
    const intervalMs = this.#timers.deadAfterMs / TICKS_PER_DEADLINE
    const dueMs = clock.monotonicMs() + intervalMs
    this.#tickTimer = clock.after(intervalMs, () => {
      const stalledMs = Math.max(0, clock.monotonicMs() - dueMs)
      for (const link of this.#links.values()) link.tick(stalledMs)
      this.#scheduleTick()
    })
  }

  #unreachable(nodeId: string): SwarmError {
    const why = this.#links.has(nodeId) ? 'cannot be reached now' : 'is no member'
    return new SwarmError('UNAVAILABLE', `node ${nodeId}: ${why}`)
  }
}

function notMember(): SwarmError {
  return new SwarmError('PERMISSION_DENIED', 'mesh: the caller is no member')
}
