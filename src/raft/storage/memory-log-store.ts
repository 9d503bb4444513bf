/**
 * A log in memory: for tests and simulations. It keeps its contents over `close` and `open`, so
 * that a "restart" finds what was acknowledged. Passes the same conformance suite as the durable
 * one.
 */
import { assert, at } from '../../base/assert.ts'
import { SwarmError } from '../../base/errors.ts'
import type { Entry, HardState, Index } from '../core/entry.ts'
import { EMPTY_BASE, EMPTY_HARD_STATE } from './empty-log.ts'
import type { AppendBatch, LogContents, LogStore } from './ports.ts'

/** `LogStore` without a disk. */
export class MemoryLogStore implements LogStore {
  readonly #entries: Entry[] = []
  #base: LogContents['base'] = EMPTY_BASE
  #hardState: HardState = EMPTY_HARD_STATE
  #open = false
  /** Set by `failWith`: the next write throws it, as a broken disk would. */
  #failure: Error | undefined
  /** Writes so far; tests check with it that an idle cluster writes nothing. */
  writes = 0

  async open(): Promise<LogContents> {
    assert(!this.#open, 'the log is open already')
    this.#open = true
    const lastIndex = this.#lastIndex()
    return { hardState: this.#hardState, base: this.#base, lastIndex, tornEntries: 0 }
  }

  async read(low: Index, high: Index): Promise<readonly Entry[]> {
    this.#assertUsable()
    if (low >= high) return []
    assert(low > this.#base.index && high <= this.#lastIndex() + 1, `[${low}, ${high}) is no range`)
    return this.#entries.slice(low - this.#base.index - 1, high - this.#base.index - 1)
  }

  async append({ entries, hardState }: AppendBatch): Promise<void> {
    this.#beforeWrite()
    if (entries.length > 0) {
      const first = at(entries, 0).index
      const inside = first > this.#base.index && first <= this.#lastIndex() + 1
      assert(inside, `entry ${first} leaves a gap`)
      this.#entries.length = first - this.#base.index - 1
      for (const entry of entries) this.#entries.push(entry)
    }
    this.#hardState = hardState ?? this.#hardState
  }

  async compact(base: LogContents['base']): Promise<void> {
    assert(base.index <= this.#lastIndex(), 'compaction beyond the end is a reset')
    if (base.index <= this.#base.index) return
    this.#beforeWrite()
    this.#entries.splice(0, base.index - this.#base.index)
    this.#base = base
  }

  async reset(base: LogContents['base'], hardState: HardState): Promise<void> {
    this.#beforeWrite()
    this.#entries.length = 0
    this.#base = base
    this.#hardState = hardState
  }

  async close(): Promise<void> {
    this.#open = false
  }

  /** The next write fails with `error`. */
  failWith(error: Error): void {
    this.#failure = error
  }

  #lastIndex(): Index {
    return this.#base.index + this.#entries.length
  }

  #beforeWrite(): void {
    this.#assertUsable()
    this.writes += 1
    if (this.#failure !== undefined) throw this.#failure
  }

  #assertUsable(): void {
    if (!this.#open) throw new SwarmError('SHUTTING_DOWN', 'raft log: is not open')
  }
}
