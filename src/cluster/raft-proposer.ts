/**
 * The `Proposer` of every node. On the leader a transaction goes into the log; elsewhere it is
 * forwarded to the leader over the mesh. The request id makes a retry harmless, so an unknown
 * outcome (leader died, answer lost) is simply tried again until the deadline: the caller gets one
 * definite answer or TIMED_OUT, which says that the write may still take effect.
 * Why not leave the retry to the user: swarmkit answered 500 for a write that took effect later.
 */
import { delay, wallTimeText } from '../base/clock.ts'
import type { Clock } from '../base/clock.ts'
import { SwarmError, isSwarmError } from '../base/errors.ts'
import type { ErrorCode } from '../base/errors.ts'
import { newIdentifier } from '../base/identifiers.ts'
import type { Random } from '../base/random.ts'
import { deadline } from '../base/deadline.ts'
import type { Mesh } from '../mesh/ports.ts'
import { decodeTransaction, encodeTransaction } from '../store/codec.ts'
import type { Action, ProposeOptions, Proposer, TransactionResult } from '../store/transaction.ts'
import type { StoreView } from '../store/view.ts'
import { authorize } from './authorization.ts'
import { PROPOSE_ATTEMPT_TIMEOUT_MS, PROPOSE_RETRY_MS, PROPOSE_TIMEOUT_MS } from './limits.ts'
import type { SwarmRaft } from './raft-face.ts'

/** Name of the forwarding request; its body is an encoded transaction. */
const PROPOSE_METHOD = 'store.propose'

/** After these the outcome is unknown or nothing happened: the same request is tried again. */
const RETRIED: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'NOT_LEADER',
  'NO_LEADER',
  'UNAVAILABLE',
  'TIMED_OUT',
])

/** What of Raft takes proposals. */
export type ProposerRaft = Pick<SwarmRaft, 'leader' | 'apply'>

interface Components {
  readonly raft: ProposerRaft
  readonly mesh: Pick<Mesh, 'handle' | 'request'>
  readonly store: StoreView
  readonly clock: Clock
  readonly random: Random
}

/** Proposes here or at the leader. */
export class RaftProposer implements Proposer {
  readonly #components: Components
  readonly #nodeId: string
  readonly #closed = new AbortController()

  constructor(components: Components, nodeId: string) {
    this.#components = components
    this.#nodeId = nodeId
    components.mesh.handle(PROPOSE_METHOD, (body, from) => this.#onForwarded(body, from))
  }

  async propose(
    actions: readonly Action[],
    options: ProposeOptions = {},
  ): Promise<{ readonly index: number }> {
    const { clock, random, store } = this.#components
    const requestId = options.requestId ?? newIdentifier(random)
    const at = wallTimeText(clock.wallMs())
    const data = encodeTransaction({ requestId, at, actions })
    const result = await this.#appliedResult(data, store, this.#signal(options.signal))
    if (result.ok) return { index: result.index }
    throw new SwarmError(result.code, result.message)
  }

  /** Fails all waiting proposals with SHUTTING_DOWN. */
  close(): void {
    this.fail(new SwarmError('SHUTTING_DOWN', 'node: is stopping'))
  }

  /** Fails all waiting proposals, and every later one, with `reason`. */
  fail(reason: SwarmError): void {
    this.#closed.abort(reason)
  }

  #signal(caller: AbortSignal | undefined): AbortSignal {
    return caller === undefined
      ? this.#closed.signal
      : AbortSignal.any([caller, this.#closed.signal])
  }

  /** What becomes of `data`, once it is in this node's store too. */
  async #appliedResult(
    data: Uint8Array,
    store: StoreView,
    signal: AbortSignal,
  ): Promise<TransactionResult> {
    try {
      const result = await this.#untilDefinite(data, signal)
      await this.#waitApplied(store, result.index, signal)
      return result
    } catch (error) {
      const isWithdrawn = isSwarmError(error, 'ABORTED') || !isSwarmError(error)
      if (!signal.aborted || !isWithdrawn) throw error
      if (this.#closed.signal.aborted) throw this.#closed.signal.reason
      const message = 'proposal: withdrawn by the caller; it may still take effect'
      throw new SwarmError('ABORTED', message, { cause: signal.reason as unknown })
    }
  }

  async #untilDefinite(data: Uint8Array, signal: AbortSignal): Promise<TransactionResult> {
    const { clock } = this.#components
    const endMs = clock.monotonicMs() + PROPOSE_TIMEOUT_MS
    let attempted = false
    let failure: unknown
    while (clock.monotonicMs() < endMs) {
      signal.throwIfAborted()
      const leader = this.#components.raft.leader
      if (leader !== undefined) {
        try {
          return await this.#attempt(leader, data, endMs - clock.monotonicMs(), signal)
        } catch (error) {
          if (!isSwarmError(error) || !RETRIED.has(error.code)) throw error
          attempted ||= error.code !== 'NOT_LEADER'
          failure = error
        }
      }
      await delay(clock, PROPOSE_RETRY_MS, signal)
    }
    throw undecided(attempted, failure)
  }

  async #attempt(
    leader: string,
    data: Uint8Array,
    remainingMs: number,
    signal: AbortSignal,
  ): Promise<TransactionResult> {
    const timeoutMs = Math.min(PROPOSE_ATTEMPT_TIMEOUT_MS, Math.max(1, remainingMs))
    if (leader === this.#nodeId) {
      return (await this.#components.raft.apply(data, { signal, timeoutMs })).response
    }
    const answer = this.#components.mesh.request(leader, PROPOSE_METHOD, data, {
      signal,
      timeoutMs,
    })
    return (await answer) as TransactionResult
  }

  async #onForwarded(body: unknown, from: string): Promise<TransactionResult> {
    if (!(body instanceof Uint8Array)) {
      throw new SwarmError('INVALID_ARGUMENT', 'proposal: body is not an encoded transaction')
    }
    const { raft, store } = this.#components
    if (raft.leader !== this.#nodeId) {
      throw new SwarmError('NOT_LEADER', `node ${this.#nodeId}: does not lead`)
    }
    authorize(store, from, decodeTransaction(body).actions)
    return (await raft.apply(body, { timeoutMs: PROPOSE_ATTEMPT_TIMEOUT_MS })).response
  }

  /** So that the caller reads its own write. */
  async #waitApplied(store: StoreView, index: number, signal: AbortSignal): Promise<void> {
    if (store.index >= index) return
    using limit = deadline(this.#components.clock, PROPOSE_TIMEOUT_MS, 'proposal')
    try {
      await store.waitForIndex(index, { signal: AbortSignal.any([signal, limit.signal]) })
    } catch (error) {
      const failed = this.#closed.signal.aborted && isSwarmError(error)
      if (!failed && (!limit.signal.aborted || signal.aborted)) throw error
      const message = 'proposal: took effect, but this node has not caught up with it yet'
      throw new SwarmError(failed ? error.code : 'TIMED_OUT', message, { cause: error })
    }
  }
}

function undecided(attempted: boolean, cause: unknown): SwarmError {
  if (attempted) {
    const message = 'proposal: no answer from the leader; it may still take effect'
    return new SwarmError('TIMED_OUT', message, { cause })
  }
  return new SwarmError(
    'NO_LEADER',
    "The swarm does not have a leader. It's possible that too few managers are online. " +
      'Make sure more than half of the managers are online.',
    { cause },
  )
}
