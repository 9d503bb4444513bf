/**
 * Commands on their way into the state machine. They gather while a durable write is in flight
 * (group commit) and enter the core together; each then waits under its index until an entry is
 * applied: there (its own result), or one of a later term (then it can never be committed).
 * A leader that lost its office keeps waiting: the next leader decides what becomes of the entry.
 */
import { SwarmError } from '../../base/errors.ts'
import { NO_PEER, type ConfChange, type Index, type Term } from '../core/entry.ts'
import type { ProposedEntry } from '../core/message.ts'
import type { RaftCore } from '../core/raft-core.ts'
import type { CallOptions, PendingCall, PendingCalls } from './pending-calls.ts'
import { COMMAND_BYTES_MAX, WRITE_BYTES_MAX } from './options.ts'

/** An applied proposal. */
export interface Applied<R> {
  readonly index: Index
  readonly term: Term
  readonly response: R
}

/** What the state machine answered; barriers and configuration changes have no response. */
export type Outcome<R> = Applied<R | undefined>

interface Forming<R> {
  readonly data: Uint8Array
  readonly call: PendingCall<Outcome<R>>
}

/** What proposals need of the core. */
type ProposalCore = Pick<
  RaftCore,
  'propose' | 'proposeConfChange' | 'term' | 'lastIndex' | 'role' | 'transferee'
>
type Calls<R> = Map<Index, PendingCall<Outcome<R>>>

const TIMED_OUT =
  'raft proposal: not applied within the time; it may still take effect, ' +
  'repeat it with the same request id'
const LOST = 'raft proposal: leadership was lost and the entry was replaced; it took no effect'

const NO_DATA = new Uint8Array()

/** Proposals of this node. */
export class Proposals<R> {
  readonly #calls: PendingCalls
  #forming: Forming<R>[] = []
  /**
   * By term and index. One index may be waited for in two terms: a deposed and re-elected leader
   * put a new entry where an old one was, and which of them will be committed is open until then.
   */
  readonly #waiting = new Map<Term, Calls<R>>()

  constructor(calls: PendingCalls) {
    this.#calls = calls
  }

  /** Queues a command; empty `data` is a barrier. */
  add(data: Uint8Array, options: CallOptions): Promise<Outcome<R>> {
    if (data.length > COMMAND_BYTES_MAX) {
      const message = `raft proposal: ${data.length} bytes, at most ${COMMAND_BYTES_MAX} go`
      throw new SwarmError('INVALID_ARGUMENT', message)
    }
    const call = this.#calls.start<Outcome<R>>(options, TIMED_OUT)
    if (!call.settled) this.#forming.push({ data, call })
    return call.promise
  }

  get hasForming(): boolean {
    return this.#forming.length > 0
  }

  /** Proposals in the log whose fate is open. */
  get waitingCount(): number {
    let count = 0
    for (const calls of this.#waiting.values()) count += calls.size
    return count
  }

  /** Hands what has gathered to the core, in slices of one write. */
  flush(core: ProposalCore): void {
    while (this.#forming.length > 0) {
      const batch = this.#takeBatch()
      // All were withdrawn or timed out while they waited.
      if (batch.length === 0) continue
      const result = core.propose(batch.map(({ data }) => ({ type: 'normal', data })))
      if (result !== 'ok') {
        const error = refusal(core)
        for (const { call } of batch) call.reject(error)
        continue
      }
      const first = core.lastIndex - batch.length + 1
      const calls = this.#callsOf(core.term)
      batch.forEach(({ call }, offset) => calls.set(first + offset, call))
    }
  }

  /** Proposes a configuration change; resolves when it, or what the core made of it, is applied. */
  proposeChange(
    core: ProposalCore,
    change: ConfChange,
    options: CallOptions,
  ): { readonly index: Index; readonly promise: Promise<Outcome<R>> } {
    const call = this.#calls.start<Outcome<R>>(options, TIMED_OUT)
    if (call.settled) return { index: 0, promise: call.promise }
    const result = core.proposeConfChange(change)
    if (result !== 'ok') {
      call.reject(result === 'refused' ? changePending() : refusal(core))
      return { index: 0, promise: call.promise }
    }
    const { lastIndex, term } = core
    this.#callsOf(term).set(lastIndex, call)
    return { index: lastIndex, promise: call.promise }
  }

  /** Proposes one entry of the runtime's own, at once; resolves when it is applied. */
  proposeEntry(
    core: ProposalCore,
    entry: ProposedEntry,
    options: CallOptions,
  ): Promise<Outcome<R>> {
    const call = this.#calls.start<Outcome<R>>(options, TIMED_OUT)
    if (call.settled) return call.promise
    if (core.propose([entry]) === 'ok') this.#callsOf(core.term).set(core.lastIndex, call)
    else call.reject(refusal(core))
    return call.promise
  }

  /** Nobody waits any more: what becomes of these proposals has no meaning now. */
  abort(error: SwarmError): void {
    const withdrawn = this.#forming
    this.#forming = []
    for (const { call } of withdrawn) call.reject(error)
    for (const calls of this.#waiting.values()) {
      for (const call of calls.values()) call.reject(error)
    }
    this.#waiting.clear()
  }

  /** The entry at `index` was applied, with `response`. */
  onApplied(index: Index, term: Term, response: R | undefined): void {
    const calls = this.#waiting.get(term)
    calls?.get(index)?.resolve({ index, term, response })
    calls?.delete(index)
    if (calls?.size === 0) this.#waiting.delete(term)
    this.#dropOlderTerms(term)
  }

  /** Nothing of a lower term can be committed behind an entry of `term`. */
  #dropOlderTerms(term: Term): void {
    for (const [older, calls] of this.#waiting) {
      if (older >= term) continue
      this.#waiting.delete(older)
      for (const call of calls.values()) call.reject(new SwarmError('NOT_LEADER', LOST))
    }
  }

  /** A snapshot replaced the log up to `index`: what became of proposals there is unknown. */
  onRestored(index: Index): void {
    for (const calls of this.#waiting.values()) {
      for (const [at, call] of calls) {
        if (at > index) continue
        calls.delete(at)
        call.reject(new SwarmError('TIMED_OUT', TIMED_OUT))
      }
    }
  }

  #callsOf(term: Term): Calls<R> {
    const known = this.#waiting.get(term)
    if (known !== undefined) return known
    const calls: Calls<R> = new Map()
    this.#waiting.set(term, calls)
    return calls
  }

  /** This node no longer leads: what has not entered the log takes no effect. */
  onLeadershipLost(): void {
    const forming = this.#forming
    this.#forming = []
    const error = new SwarmError('NOT_LEADER', 'raft proposal: this node no longer leads')
    for (const { call } of forming) call.reject(error)
  }

  #takeBatch(): readonly Forming<R>[] {
    let bytes = 0
    let count = 0
    for (const { data } of this.#forming) {
      bytes += data.length
      if (count > 0 && bytes > WRITE_BYTES_MAX) break
      count += 1
    }
    const batch = this.#forming.slice(0, count)
    this.#forming = this.#forming.slice(count)
    return batch.filter(({ call }) => !call.settled)
  }
}

/** The command of a barrier: none. */
export const BARRIER: Uint8Array = NO_DATA

/** Only one change of membership at a time. */
export function changePending(): SwarmError {
  const message = 'membership: another change is under way; repeat when it is in force'
  return new SwarmError('FAILED_PRECONDITION', message)
}

/** While a restore runs on this leader. */
export function restoreRunning(code: 'FAILED_PRECONDITION' | 'UNAVAILABLE'): SwarmError {
  return new SwarmError(code, 'raft: a restore is under way; repeat when it has ended')
}

/** Nothing enters the log of a leader that is on its way out: it took no effect. */
function handingOver(): SwarmError {
  const message = 'raft proposal: leadership is being handed over; nothing happened, repeat it'
  return new SwarmError('UNAVAILABLE', message)
}

function refusal(core: ProposalCore): SwarmError {
  if (core.role !== 'leader') {
    return new SwarmError('NOT_LEADER', 'raft proposal: this node leads no more')
  }
  if (core.transferee !== NO_PEER) return handingOver()
  const message = 'raft proposal: too many bytes wait for commit; repeat later'
  return new SwarmError('RESOURCE_EXHAUSTED', message)
}
