/**
 * The durable log in memory, as the core reads it: synchronously. It holds exactly the entries
 * that are in the `LogStore` and learns of a write only when that is durable, so the core never
 * sees what a crash could take back. Compaction bounds it (`snapshotThreshold`,
 * `snapshotThresholdBytes`).
 */
import { assert, at } from '../../base/assert.ts'
import type { ConfState, Entry, HardState, Index, SnapshotMetadata, Term } from '../core/entry.ts'
import type { LogView } from '../core/ready.ts'

/** Where a log starts. */
interface Position {
  readonly index: Index
  readonly term: Term
}

/** What the cache is filled with at start. */
export interface CachedLog {
  readonly hardState: HardState
  /** In force at the state machine's position. */
  readonly conf: ConfState
  readonly base: Position
  readonly entries: readonly Entry[]
}

/** `LogView` over memory. */
export class LogCache implements LogView {
  readonly #initial: { readonly hard: HardState; readonly conf: ConfState }
  #base: Position
  #entries: Entry[]
  #sizeBytes: number
  /** The newest snapshot that may be sent; see `offer`. */
  readonly #newestSnapshot: () => SnapshotMetadata | undefined

  constructor(log: CachedLog, newestSnapshot: () => SnapshotMetadata | undefined) {
    this.#initial = { hard: log.hardState, conf: log.conf }
    this.#base = log.base
    this.#entries = [...log.entries]
    this.#sizeBytes = sizeOf(log.entries)
    this.#newestSnapshot = newestSnapshot
  }

  initialState(): { readonly hard: HardState; readonly conf: ConfState } {
    return this.#initial
  }

  firstIndex(): Index {
    return this.#base.index + 1
  }

  lastIndex(): Index {
    return this.#base.index + this.#entries.length
  }

  /** Bytes of entry data held. */
  get sizeBytes(): number {
    return this.#sizeBytes
  }

  term(index: Index): Term | 'compacted' | 'unavailable' {
    if (index < this.#base.index) return 'compacted'
    if (index === this.#base.index) return this.#base.term
    return this.#entries[index - this.#base.index - 1]?.term ?? 'unavailable'
  }

  entries(
    low: Index,
    high: Index,
    maxBytes: number,
  ): readonly Entry[] | 'compacted' | 'unavailable' {
    if (low <= this.#base.index) return 'compacted'
    if (high > this.lastIndex() + 1) return 'unavailable'
    const start = low - this.#base.index - 1
    const limit = high - this.#base.index - 1
    let end = start
    for (let bytes = 0; end < limit; end += 1) {
      bytes += at(this.#entries, end).data.length
      if (bytes > maxBytes && end > start) break
    }
    return this.#entries.slice(start, end)
  }

  snapshot(): { readonly metadata: SnapshotMetadata } | 'unavailable' {
    const metadata = this.#newestSnapshot()
    return metadata === undefined ? 'unavailable' : { metadata }
  }

  /** `entries` are durable; they replace what was held from the first of them on. */
  append(entries: readonly Entry[]): void {
    const first = entries[0]?.index
    if (first === undefined) return
    const kept = first - this.#base.index - 1
    assert(kept >= 0 && kept <= this.#entries.length, `entry ${first} leaves a gap in the cache`)
    this.#sizeBytes += sizeOf(entries) - sizeOf(this.#entries.slice(kept))
    this.#entries.length = kept
    for (const entry of entries) this.#entries.push(entry)
  }

  /** Entries up to and including `index` are gone from the store. */
  compact(index: Index): void {
    if (index <= this.#base.index) return
    const term = this.term(index)
    assert(typeof term === 'number', `no entry ${index} to compact to`)
    const dropped = this.#entries.slice(0, index - this.#base.index)
    this.#sizeBytes -= sizeOf(dropped)
    this.#entries = this.#entries.slice(dropped.length)
    this.#base = { index, term }
  }

  /** A snapshot was installed: the log is empty and starts after it. */
  reset(base: Position): void {
    this.#base = { index: base.index, term: base.term }
    this.#entries = []
    this.#sizeBytes = 0
  }

  /** The highest index to compact to so that at least the newest `trailingBytes` stay. */
  indexBeforeBytes(trailingBytes: number): Index {
    let bytes = 0
    for (let position = this.#entries.length - 1; position >= 0; position -= 1) {
      bytes += at(this.#entries, position).data.length
      if (bytes > trailingBytes) return this.#base.index + position + 1
    }
    return this.#base.index
  }
}

function sizeOf(entries: readonly Entry[]): number {
  return entries.reduce((sum, entry) => sum + entry.data.length, 0)
}
