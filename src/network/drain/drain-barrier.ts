/**
 * Before a task gets its stop signal: waits until no balancer leads new connections to it. This
 * node's own have reached the store's index, and so has every node with a live link, which says so
 * when asked (`peer-lanes.ts`). A blind pause, however long, is too long for a healthy cluster and
 * too short for a host that starves.
 *
 * Who is asked: every node balances published ports, and any may begin to balance a virtual
 * address, so all that have a link. It costs a question and an answer of some forty bytes a node
 * and *round*, measured 70 µs of processor time at each end; a round serves all tasks that stop
 * within `GATHER_MS`, and at most `ROUNDS_AT_ONCE_MAX` are under way, so that a node with a
 * thousand peers keeps 16,000 small records at worst. An update of a service on 1,000 nodes, one
 * replica after the other, asks 999 questions a replica (70 ms of its node's time, 70 µs of each
 * other's); all thousand at once are a million in the cluster, 150 ms of each node's time.
 * Removing a service asks none: its ports refuse anyway (`agent/quiesce.ts`).
 *
 * Invariants: a task waits `ACKNOWLEDGE_MS_MAX` from its round's start at most. That is twice what
 * a link takes to be found dead, so that a node that died never costs all of it, and one that
 * starves has all of it. Who has no link is not waited for: a lone or cut-off node waits for its
 * own balancers alone. A connection that was under way has `ARRIVAL_MS` to reach its program.
 */
import { delay } from '../../base/clock.ts'
import type { Clock } from '../../base/clock.ts'
import { isSwarmError } from '../../base/errors.ts'
import type { Logger } from '../../base/log.ts'
import type { StoreView } from '../../store/view.ts'
import { PeerLanes } from './peer-lanes.ts'
import type { AskedPeers, LaneWaiter } from './peer-lanes.ts'
import type { Programmed } from './progress.ts'
import { deadline, within } from '../../base/deadline.ts'

/** Milliseconds that other nodes, or this one's own balancers, are waited for. */
export const ACKNOWLEDGE_MS_MAX = 3_000

/** Milliseconds in which tasks that stop are gathered into one round of questions. */
export const GATHER_MS = 5

/** Rounds under way; later ones wait and are one. */
export const ROUNDS_AT_ONCE_MAX = 16

/**
 * Milliseconds for what was under way: to be accepted, and, if short, to be answered by a program
 * that ends at its stop signal at once. Where the others took long to answer all takes long, so it
 * is a multiple of that time, within these bounds.
 */
export const ARRIVAL_MS = 150
export const ARRIVAL_MS_MAX = 500
const ARRIVAL_FACTOR = 4

/** Nodes that a log line names. */
const NAMED_NODES_MAX = 8

/** What it is built from. */
export interface DrainComponents {
  readonly store: Pick<StoreView, 'index'>
  readonly clock: Clock
  readonly log: Logger
  readonly peers: AskedPeers
  /** This node's own balancers; undefined: they do not run. */
  readonly own: () => Programmed | undefined
}

/** What a task waits for. */
export interface DrainWish {
  /** `node`: only this node leads connections to it. */
  readonly reach: 'node' | 'swarm'
  readonly signal: AbortSignal
}

interface Round {
  index: number
  readonly ended: PromiseWithResolvers<void>
}

/** Where tasks that are to stop wait. */
export class DrainBarrier {
  readonly #components: DrainComponents
  readonly #lanes: PeerLanes
  /** The round that is still joined. */
  #gathering: Round | undefined
  #rounds = 0
  #closed = false

  constructor(components: DrainComponents) {
    this.#components = components
    this.#lanes = new PeerLanes(components)
  }

  /** Whether another node can hear of anything. */
  hasPeers(): boolean {
    return this.#components.peers.linked().length > 0
  }

  /**
   * Resolves when nobody leads new connections to a task that is to stop by the store's entry
   * `index` or an earlier one, or cannot be waited for. @throws the signal's reason
   */
  async passed(index: number, { reach, signal }: DrainWish): Promise<void> {
    const { clock } = this.#components
    const beganMs = clock.monotonicMs()
    const others = reach === 'swarm' && this.hasPeers() ? this.#joinRound(index) : undefined
    await within(signal, Promise.all([this.#ownPassed(signal), others]))
    const slowMs = ARRIVAL_FACTOR * (clock.monotonicMs() - beganMs)
    await delay(clock, Math.min(Math.max(ARRIVAL_MS, slowMs), ARRIVAL_MS_MAX), signal)
  }

  /** Ends all that waits for other nodes. */
  close(): void {
    this.#closed = true
    this.#lanes.close()
  }

  /** Also what this node alone knows of its tasks is noted by then. */
  async #ownPassed(signal: AbortSignal): Promise<void> {
    const { clock, log, own, store } = this.#components
    using limit = deadline(clock, ACKNOWLEDGE_MS_MAX, 'own balancers', signal)
    try {
      await own()?.reached(store.index, limit)
    } catch (error) {
      signal.throwIfAborted()
      if (isSwarmError(error, 'TIMED_OUT')) log.warn({}, 'this node’s balancers are late')
      else if (!isSwarmError(error, 'SHUTTING_DOWN')) throw error
    }
  }

  #joinRound(index: number): Promise<void> {
    if (this.#closed) return Promise.resolve()
    const { clock } = this.#components
    const joined = this.#gathering
    if (joined !== undefined) {
      joined.index = Math.max(joined.index, index)
      return joined.ended.promise
    }
    const round = { index, ended: Promise.withResolvers<void>() }
    this.#gathering = round
    clock.after(GATHER_MS, () => this.#maybeStart())
    return round.ended.promise
  }

  /** The gathered round begins, if there is one and there are not too many. */
  #maybeStart(): void {
    const round = this.#gathering
    if (round === undefined || this.#rounds >= ROUNDS_AT_ONCE_MAX) return
    this.#gathering = undefined
    this.#rounds += 1
    this.#ask(round)
  }

  #ask({ index, ended }: Round): void {
    const { clock, log, peers } = this.#components
    const beganMs = clock.monotonicMs()
    const waiting = new Map<string, LaneWaiter>()
    const nodes = this.#closed ? [] : peers.linked()
    const end = (): void => {
      timer.cancel()
      for (const [nodeId, waiter] of waiting) this.#lanes.remove(nodeId, waiter)
      const waitedMs = clock.monotonicMs() - beganMs
      log.debug({ index, nodes: nodes.length, waitedMs }, 'other nodes lead nothing to what stops')
      this.#rounds -= 1
      ended.resolve()
      this.#maybeStart()
    }
    const timer = clock.after(ACKNOWLEDGE_MS_MAX, () => {
      const late = [...waiting.keys()]
      log.warn({ count: late.length, nodes: late.slice(0, NAMED_NODES_MAX), index }, LATE)
      end()
    })
    for (const nodeId of nodes) {
      const settle = (): void => {
        waiting.delete(nodeId)
        if (waiting.size === 0) end()
      }
      waiting.set(nodeId, { index, settle })
    }
    for (const [nodeId, waiter] of waiting) this.#lanes.add(nodeId, waiter)
    if (waiting.size === 0) end()
  }
}

const LATE = 'nodes have not said that they lead no connections to tasks that stop'
