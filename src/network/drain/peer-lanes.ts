/**
 * Asks other nodes how far their kernels have followed the store: one question a node at a time,
 * for the highest index that anybody here waits for, so that what is asked does not grow with what
 * waits. A node that is asked waits itself until it has reached the index (`question.ts`).
 *
 * Invariants: a lane exists while somebody waits for its node. A node is waited for while it has a
 * link: with the link its lane ends at once, whoever waits. One that cannot answer, being older or
 * broken, is taken to be ready after `BLIND_MS`, as all were once.
 */
import { delay } from '../../base/clock.ts'
import type { Clock } from '../../base/clock.ts'
import { isSwarmError } from '../../base/errors.ts'
import { ANSWER_MS_MAX, decodeProgrammed } from './question.ts'

/** Questions under way to all nodes together; a dead node's ends with its link. */
export const ASKS_AT_ONCE_MAX = 256

/** Milliseconds after which a node that cannot say so is taken to have heard. */
export const BLIND_MS = 250

/** Milliseconds before a node that was too busy, or whose link was another one, is asked again. */
export const ASK_RETRY_MS = 100

/** The mesh, as far as it is needed to ask. */
export interface AskedPeers {
  /** Nodes with a live link. */
  linked(): readonly string[]
  /** Asks `PROGRAMMED_METHOD`. @throws UNAVAILABLE, TIMED_OUT, UNIMPLEMENTED, … */
  ask(
    nodeId: string,
    body: unknown,
    options: { readonly signal: AbortSignal; readonly timeoutMs: number },
  ): Promise<unknown>
}

/** Waits for a node to have reached an index. */
export interface LaneWaiter {
  readonly index: number
  /** Called once: the node has, or cannot be waited for any more. */
  settle(): void
}

interface Lane {
  readonly nodeId: string
  readonly waiters: Set<LaneWaiter>
}

/** How a question ended: up to which index a node is waited for no more; undefined: ask again. */
type Outcome = { readonly settledIndex: number | undefined; readonly pauseMs: number }

/** The nodes that somebody waits for. */
export class PeerLanes {
  readonly #components: { readonly clock: Clock; readonly peers: AskedPeers }
  readonly #closing = new AbortController()
  readonly #lanes = new Map<string, Lane>()
  /** Lanes whose question waits for its turn. */
  readonly #queue: Lane[] = []
  #asking = 0

  constructor(components: { readonly clock: Clock; readonly peers: AskedPeers }) {
    this.#components = components
  }

  /** Nodes that are waited for. */
  get size(): number {
    return this.#lanes.size
  }

  /** Asks a node unless it is being asked; `waiter` is settled later, never during the call. */
  add(nodeId: string, waiter: LaneWaiter): void {
    const known = this.#lanes.get(nodeId)
    if (known !== undefined) {
      known.waiters.add(waiter)
      return
    }
    const lane = { nodeId, waiters: new Set([waiter]) }
    this.#lanes.set(nodeId, lane)
    this.#queue.push(lane)
    this.#pump()
  }

  /** Waits no more; nothing is settled. A question under way ends by itself. */
  remove(nodeId: string, waiter: LaneWaiter): void {
    this.#lanes.get(nodeId)?.waiters.delete(waiter)
  }

  /** Settles all, and withdraws what is being asked. */
  close(): void {
    this.#closing.abort(new Error('drain: this node stops'))
    for (const lane of this.#lanes.values()) settle(lane, Infinity)
  }

  #pump(): void {
    while (this.#asking < ASKS_AT_ONCE_MAX) {
      const lane = this.#queue.shift()
      if (lane === undefined) return
      this.#asking += 1
      // Owned: it never rejects, and `close` ends what it waits for.
      void this.#serve(lane)
    }
  }

  async #serve(lane: Lane): Promise<void> {
    const { settledIndex, pauseMs } = await this.#outcome(lane)
    this.#asking -= 1
    this.#pump()
    if (pauseMs > 0) await this.#pause(pauseMs)
    if (settledIndex !== undefined) settle(lane, settledIndex)
    if (lane.waiters.size === 0) {
      this.#lanes.delete(lane.nodeId)
      return
    }
    this.#queue.push(lane)
    this.#pump()
  }

  async #outcome({ nodeId, waiters }: Lane): Promise<Outcome> {
    if (waiters.size === 0 || this.#closing.signal.aborted) return LOST
    const index = Math.max(...[...waiters].map((waiter) => waiter.index))
    const { peers } = this.#components
    const options = { signal: this.#closing.signal, timeoutMs: ANSWER_MS_MAX }
    try {
      const answer = decodeProgrammed(await peers.ask(nodeId, { index }, options))
      // One that answers too early has not understood.
      if (answer.index >= index) return { settledIndex: answer.index, pauseMs: 0 }
    } catch (error) {
      if (!isSwarmError(error)) throw error
      if (!peers.linked().includes(nodeId) || error.code === 'SHUTTING_DOWN') return LOST
      if (PASSING.has(error.code)) return { settledIndex: undefined, pauseMs: ASK_RETRY_MS }
    }
    return { settledIndex: index, pauseMs: BLIND_MS }
  }

  async #pause(pauseMs: number): Promise<void> {
    const { signal } = this.#closing
    try {
      await delay(this.#components.clock, pauseMs, signal)
    } catch (error) {
      if (!signal.aborted) throw error
    }
  }
}

/** No link, or the node stops: its kernel stays as it is, and nothing more is heard of it. */
const LOST: Outcome = { settledIndex: Infinity, pauseMs: 0 }

/** What may be over at the next attempt. */
const PASSING: ReadonlySet<string> = new Set([
  'UNAVAILABLE',
  'TIMED_OUT',
  'ABORTED',
  'RESOURCE_EXHAUSTED',
])

function settle(lane: Lane, index: number): void {
  for (const waiter of lane.waiters) {
    if (waiter.index > index) continue
    lane.waiters.delete(waiter)
    waiter.settle()
  }
}
