/**
 * Linearizable reads: the leader names an index and proves with a round of heartbeats that it still
 * leads; a read at that index or later sees everything that was acknowledged before it was asked
 * for. A question or its answer may be lost, so it is asked again, each time under a new number: a
 * number that is used twice lets the answers of an old round confirm a new one (etcd 20418,
 * raft.md bug 23). Numbers begin at a random place, so that those of an earlier life of this node
 * are not used again.
 */
import type { Clock } from '../../base/clock.ts'
import type { Random } from '../../base/random.ts'
import type { Index } from '../core/entry.ts'
import type { ReadState } from '../core/ready.ts'
import { Freshness } from './freshness.ts'
import type { CallOptions, PendingCall, PendingCalls } from './pending-calls.ts'

/** Room for the random part and for the numbers of one life: 2^32 * 2^20 is below 2^53. */
const NUMBERS_PER_LIFE = 0x10_0000
const LIVES = 0x1_0000_0000

interface Asked {
  readonly calls: readonly PendingCall<Index>[]
  readonly askedAtMs: number
  /** Its calls were put into a later question, too; a late answer is still good. */
  repeated: boolean
}

/** Read indexes that this node waits for. */
export class Reads {
  readonly #calls: PendingCalls
  readonly #clock: Clock
  readonly #retryMs: number
  /** Calls that are not yet in a question. */
  #forming: PendingCall<Index>[] = []
  readonly #asked = new Map<number, Asked>()
  #number: number
  /** Whether a question is to be asked for nobody in particular. */
  #isRenewing = false
  /** What the answers prove of this member's state. */
  readonly freshness: Freshness

  constructor(
    components: { readonly calls: PendingCalls; readonly clock: Clock; readonly random: Random },
    retryMs: number,
  ) {
    this.#calls = components.calls
    this.#clock = components.clock
    this.#retryMs = retryMs
    this.freshness = new Freshness(components.clock)
    this.#number = components.random.integer(LIVES) * NUMBERS_PER_LIFE
  }

  add(options: CallOptions): Promise<Index> {
    const message = 'raft read: no leader confirmed the read in time'
    const call = this.#calls.start<Index>(options, message)
    this.#forming.push(call)
    return call.promise
  }

  /** Lets a question be asked for the sake of its proof, unless one is under way. */
  renew(): void {
    const sinceMs = this.#clock.monotonicMs() - this.#retryMs
    const isAsked = [...this.#asked.values()].some(({ askedAtMs }) => askedAtMs > sinceMs)
    if (!isAsked) this.#isRenewing = true
  }

  /** Asks one question for everything that gathered. */
  flush(ask: (context: number) => void): void {
    const calls = this.#forming.filter((call) => !call.settled)
    this.#forming = []
    if (calls.length === 0 && !this.#isRenewing) return
    this.#isRenewing = false
    this.#number += 1
    this.#asked.set(this.#number, { calls, askedAtMs: this.#clock.monotonicMs(), repeated: false })
    ask(this.#number)
  }

  onReadStates(states: readonly ReadState[]): void {
    for (const { context, index } of states) {
      const asked = this.#asked.get(context)
      this.#asked.delete(context)
      if (asked !== undefined) this.freshness.note(asked.askedAtMs, index)
      for (const call of asked?.calls ?? []) call.resolve(index)
    }
  }

  /** Queues unanswered questions again; returns whether there are any. To be called every tick. */
  retry(): boolean {
    const overdueMs = this.#clock.monotonicMs() - this.#retryMs
    for (const [number, asked] of this.#asked) {
      if (asked.askedAtMs > overdueMs) continue
      if (asked.calls.every((call) => call.settled)) this.#asked.delete(number)
      else if (!asked.repeated) {
        asked.repeated = true
        this.#forming.push(...asked.calls)
      }
    }
    return this.#forming.length > 0
  }
}
