/**
 * Source-routed tunnels: a connection to a member that no link of this node reaches, through one or
 * two members that have one. Over the tunnel runs the same handshake, multiplexer and session as
 * over a socket, so requests, Raft and byte streams do not know of it.
 *
 *   A ── stream {A,B,C} ──► B ── stream {A,B,C} ──► C     joined in B (`relay.ts`)
 *   A ◄═══════ Noise, Yamux, control and Raft streams ═══════► C
 *
 * Initialisation: the three handlers are registered before the mesh has members. Known weakness: a
 * tunnel of two relays stays when a shorter way appears, until it breaks or a direct link comes up.
 * Source: `reference/libp2p.md` §5.4.
 */
import type { Connection, MultiaddrConnection } from '@libp2p/interface'
import type { Clock } from '../../base/clock.ts'
import { SwarmError, errorText } from '../../base/errors.ts'
import type { Logger } from '../../base/log.ts'
import { asFields, text } from '../control-message.ts'
import { deadline } from '../../base/deadline.ts'
import { UPGRADE_TIMEOUT_MS } from '../host.ts'
import type { Duplex, Mesh, RequestOptions } from '../ports.ts'
import { LinkStates } from './link-states.ts'
import { checkedPlace, type TunnelPlace } from './path.ts'
import { Relay } from './relay.ts'
import { ASK_TIMEOUT_MS, NAMED_RELAYS_MAX, RouteFinder } from './route-finder.ts'
import { TunnelWire } from './tunnel-wire.ts'
import type { Neighbour } from './link-states.ts'

/** Stream between two hops of a tunnel. */
export const TUNNEL_STREAM = 'mesh.tunnel'
/** Request: which links the caller has. */
export const LINKS_METHOD = 'mesh.links'
/** Request: which neighbours have a link to somebody. */
export const RELAYS_METHOD = 'mesh.relays'
/** Time for a tunnel's handshake, all hops together. */
export const TUNNEL_TIMEOUT_MS = 4_000

/** What tunnels need of the mesh. Nodes are named by node id. */
export interface TunnelGround extends Pick<Mesh, 'handle' | 'handleStream'> {
  /** All members but this node. */
  members(): readonly string[]
  /** Undefined when it is no other member. */
  peerIdOf(nodeId: string): string | undefined
  /** Members with a direct session. */
  neighbours(): readonly Neighbour[]
  /** As the mesh's own, on the direct session. @throws UNAVAILABLE when there is none */
  request(nodeId: string, method: string, body: unknown, options: RequestOptions): Promise<unknown>
  openStream(
    nodeId: string,
    method: string,
    header: unknown,
    options: RequestOptions,
  ): Promise<Duplex>
}

/** Makes connections of wires. */
export interface WireHost {
  upgradeOutbound(wire: MultiaddrConnection, signal: AbortSignal): Promise<Connection>
  upgradeInbound(wire: MultiaddrConnection, signal: AbortSignal): Promise<void>
}

/** What tunnels are built from. */
export interface TunnelsComponents {
  readonly clock: Clock
  readonly log: Logger
  readonly ground: TunnelGround
  readonly host: WireHost
  /** A neighbour has other links than before: who was out of reach may be in reach. */
  onNews(): void
}

/** The tunnels of one node: those that it uses and those that it carries. */
export class Tunnels {
  readonly relay: Relay
  readonly #self: string
  readonly #components: TunnelsComponents
  readonly #links: LinkStates
  readonly #routes: RouteFinder

  /** `epoch` tells runs of this node apart. */
  constructor(
    self: { readonly nodeId: string; readonly incarnation: string },
    parts: TunnelsComponents,
  ) {
    const { clock, log, ground } = parts
    this.#self = self.nodeId
    this.#components = parts
    this.#links = new LinkStates(self.incarnation, {
      clock,
      log,
      neighbours: () => ground.neighbours(),
      members: () => ground.members(),
      send: (to, body) => ground.request(to, LINKS_METHOD, body, {}),
    })
    this.#routes = new RouteFinder(self.nodeId, {
      clock,
      log,
      links: this.#links,
      neighbours: () => ground.neighbours(),
      ask: (neighbour, target) => this.#ask(neighbour, target),
    })
    this.relay = new Relay({
      log,
      openHop: (to, place, options) => ground.openStream(to, TUNNEL_STREAM, place, options),
      isMember: (nodeId) => nodeId === self.nodeId || ground.peerIdOf(nodeId) !== undefined,
    })
    this.#register()
  }

  /** Links or members changed. */
  changed(): void {
    this.#links.changed()
    this.relay.prune()
  }

  /** A connection to `target` through others; undefined when nobody is known to reach it. */
  async open(target: string): Promise<Connection | undefined> {
    const path = await this.#routes.find(target)
    if (path === undefined) return undefined
    try {
      return await this.#openAlong(path)
    } catch (error) {
      this.#routes.avoid(path)
      throw error
    }
  }

  close(): void {
    this.#links.close()
  }

  #register(): void {
    const { ground } = this.#components
    ground.handle(LINKS_METHOD, (body, from) => {
      if (this.#links.take(from, body)) this.#components.onNews()
      return Promise.resolve(null)
    })
    ground.handle(RELAYS_METHOD, (body, from) => {
      const target = text(asFields(body), 'target')
      const relays = this.#routes.relaysTo(target).filter((id) => id !== from)
      return Promise.resolve(relays.slice(0, NAMED_RELAYS_MAX))
    })
    ground.handleStream(TUNNEL_STREAM, (header, stream) => this.#onStream(header, stream))
  }

  async #onStream(header: unknown, stream: Duplex): Promise<void> {
    const place = checkedPlace(header, { self: this.#self, caller: stream.nodeId })
    if (place.at < place.path.length - 1) await this.relay.carry(place, stream)
    else await this.#accept(place, stream)
  }

  /** The far end: the caller is who is named first in the path, or the handshake fails. */
  async #accept(place: TunnelPlace, stream: Duplex): Promise<void> {
    const ends = {
      peerId: this.#peerIdOf(place.path[0]),
      relayPeerId: this.#peerIdOf(stream.nodeId),
    }
    const wire = new TunnelWire(stream, { ...ends, direction: 'inbound' })
    const { clock, host } = this.#components
    using limit = deadline(clock, UPGRADE_TIMEOUT_MS, 'tunnel')
    try {
      await host.upgradeInbound(wire, limit.signal)
    } catch (error) {
      const failure = new SwarmError('PERMISSION_DENIED', `tunnel: ${errorText(error)}`)
      wire.abort(failure)
      throw failure
    }
    await wire.closed
  }

  async #openAlong(path: readonly string[]): Promise<Connection> {
    const { clock, ground, host } = this.#components
    const target = path.at(-1) ?? ''
    using limit = deadline(clock, TUNNEL_TIMEOUT_MS, `tunnel to node ${target}`)
    const { signal } = limit
    const ends = { peerId: this.#peerIdOf(target), relayPeerId: this.#peerIdOf(path[1]) }
    const place: TunnelPlace = { path, at: 1 }
    const stream = await ground.openStream(path[1] ?? '', TUNNEL_STREAM, place, { signal })
    const wire = new TunnelWire(stream, { ...ends, direction: 'outbound' })
    try {
      return await host.upgradeOutbound(wire, signal)
    } catch (error) {
      const failure = new SwarmError('UNAVAILABLE', `tunnel to node ${target}: ${errorText(error)}`)
      wire.abort(failure)
      throw failure
    }
  }

  async #ask(neighbour: string, target: string): Promise<readonly string[]> {
    const { ground } = this.#components
    const options = { timeoutMs: ASK_TIMEOUT_MS }
    const answer = await ground.request(neighbour, RELAYS_METHOD, { target }, options)
    if (!Array.isArray(answer)) return []
    return answer
      .slice(0, NAMED_RELAYS_MAX)
      .filter((id) => typeof id === 'string' && ground.peerIdOf(id) !== undefined)
  }

  #peerIdOf(nodeId: string | undefined): string {
    const peerId = nodeId === undefined ? undefined : this.#components.ground.peerIdOf(nodeId)
    if (peerId !== undefined) return peerId
    throw new SwarmError('PERMISSION_DENIED', `tunnel: node ${nodeId} is no member`)
  }
}
