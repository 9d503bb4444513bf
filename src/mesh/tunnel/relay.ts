/**
 * The node in the middle of a tunnel: joins the stream that a neighbour opened with one to the next
 * node of the path, and copies bytes that it cannot read.
 *
 * Only members ask (the mesh gives streams of members alone) and only for members; the next hop is
 * always a link of its own, so no tunnel runs inside another here. Memory of a tunnel is bounded by
 * the two streams' credit, `STREAM_CREDIT_BYTES` in each direction, and one piece under way. What
 * is relayed takes its turn in the next link's bulk window, piece by piece, beside this node's own
 * byte streams, so that it gets the share of one of them; requests and Raft pass both.
 */
import { SwarmError, errorText } from '../../base/errors.ts'
import type { Logger } from '../../base/log.ts'
import type { Duplex, RequestOptions } from '../ports.ts'
import type { TunnelPlace } from './path.ts'

/** Tunnels that one node carries; more are refused, and the asker looks for another way. */
export const TUNNELS_MAX = 512
/** Tunnels that may come from one neighbour: 32 MiB at most wait for slow far ends. */
export const TUNNELS_PER_PEER_MAX = 64
/** Time in which the next node must take the stream. */
export const HOP_TIMEOUT_MS = 2_000

/** Opens a stream to a neighbour, on a link of its own. @throws UNAVAILABLE, TIMED_OUT, … */
export type OpenHop = (
  nodeId: string,
  place: TunnelPlace,
  options: RequestOptions,
) => Promise<Duplex>

/** What a relay is built from. */
export interface RelayComponents {
  readonly log: Logger
  readonly openHop: OpenHop
  isMember(nodeId: string): boolean
}

/** Limits of a relay. */
export interface RelayLimits {
  readonly tunnels: number
  readonly tunnelsPerPeer: number
}

interface Carried {
  readonly place: TunnelPlace
  readonly ends: Duplex[]
}

/** Carries tunnels of others. */
export class Relay {
  readonly #components: RelayComponents
  readonly #limits: RelayLimits
  readonly #carried = new Set<Carried>()
  #bytes = 0

  constructor(components: RelayComponents, limits: Partial<RelayLimits> = {}) {
    this.#components = components
    this.#limits = { tunnels: TUNNELS_MAX, tunnelsPerPeer: TUNNELS_PER_PEER_MAX, ...limits }
  }

  /** Tunnels that run through this node now. */
  get tunnels(): number {
    return this.#carried.size
  }

  /** Bytes carried so far. */
  get carriedBytes(): number {
    return this.#bytes
  }

  /**
   * Carries one tunnel to its end.
   * @throws RESOURCE_EXHAUSTED, PERMISSION_DENIED, or the next hop's error
   */
  async carry(place: TunnelPlace, stream: Duplex): Promise<void> {
    this.#admit(place, stream.nodeId)
    const carried: Carried = { place, ends: [stream] }
    this.#carried.add(carried)
    try {
      const next = await this.#components.openHop(
        place.path[place.at + 1] ?? '',
        { path: place.path, at: place.at + 1 },
        { timeoutMs: HOP_TIMEOUT_MS },
      )
      carried.ends.push(next)
      await this.#join(stream, next)
    } finally {
      this.#carried.delete(carried)
    }
  }

  /** Cuts the tunnels from or to who is no member any more. */
  prune(): void {
    for (const { place, ends } of this.#carried) {
      if (place.path.every((id) => this.#components.isMember(id))) continue
      for (const end of ends) end.abort(new SwarmError('PERMISSION_DENIED', NOT_MEMBERS))
    }
  }

  #admit(place: TunnelPlace, caller: string): void {
    if (!place.path.every((id) => this.#components.isMember(id))) {
      throw new SwarmError('PERMISSION_DENIED', NOT_MEMBERS)
    }
    const { tunnels, tunnelsPerPeer } = this.#limits
    const ofCaller = [...this.#carried].filter((one) => one.ends[0]?.nodeId === caller).length
    if (this.#carried.size >= tunnels || ofCaller >= tunnelsPerPeer) {
      throw new SwarmError('RESOURCE_EXHAUSTED', 'tunnel: this node carries as many as it may')
    }
  }

  async #join(one: Duplex, other: Duplex): Promise<void> {
    try {
      await Promise.all([this.#copy(one, other), this.#copy(other, one)])
    } catch (error) {
      const reason = new SwarmError('UNAVAILABLE', `tunnel: ${errorText(error)}`, { cause: error })
      one.abort(reason)
      other.abort(reason)
      this.#components.log.debug({ err: errorText(error) }, 'tunnel was cut')
    }
  }

  async #copy(from: Duplex, to: Duplex): Promise<void> {
    for await (const piece of from.source) {
      this.#bytes += piece.length
      await to.write(piece)
    }
    await to.end()
  }
}

const NOT_MEMBERS = 'tunnel: its path has nodes that are no members'
