/**
 * The log as one sequence: the stable part behind a {@link LogView}, the unstable tail, and how far
 * it is committed, handed out, and applied.
 *
 * Invariants: applied <= applying <= committed <= lastIndex; nothing at or before `committed` ever
 * changes. Source: etcd-io/raft `log.go`, in its semantics.
 */
import { assert, at } from '../../base/assert.ts'
import type { LogEvent } from './core-event.ts'
import { isConfChange } from './entry.ts'
import type { Entry, EntryId, Index, Snapshot, Term } from './entry.ts'
import type { LogView } from './ready.ts'
import { Unstable } from './unstable.ts'

/** Size of an entry against the byte limits. */
export type EntrySize = (entry: Pick<Entry, 'type' | 'data'>) => number

/** What a log is made with. */
export interface RaftLogOptions {
  readonly entrySize: EntrySize
  /** Bytes handed out for application and not yet applied. */
  readonly maxApplyingBytes: number
  /** Entries that are not durable yet may be handed out (synchronous mode only). */
  readonly applyUnstable: boolean
  readonly tell: (event: LogEvent) => void
}

/** Why entries or a term cannot be had. */
export type LogGap = 'compacted' | 'unavailable'

/** The sum of the entries' sizes. */
export function totalBytes(entries: readonly Entry[], size: EntrySize): number {
  return entries.reduce((sum, entry) => sum + size(entry), 0)
}

/** Stable and unstable entries as one. */
export class RaftLog {
  readonly #view: LogView
  readonly #options: RaftLogOptions
  readonly unstable: Unstable
  #committed: Index
  #applying: Index
  #applied: Index
  /** Bytes handed out and not yet applied. */
  #applyingBytes = 0
  /** Nothing more is handed out until something is applied. */
  #applyingPaused = false

  constructor(view: LogView, options: RaftLogOptions) {
    this.#view = view
    this.#options = options
    this.unstable = new Unstable(view.lastIndex() + 1, options.tell)
    this.#committed = view.firstIndex() - 1
    this.#applying = this.#committed
    this.#applied = this.#committed
  }

  get committed(): Index {
    return this.#committed
  }

  get applied(): Index {
    return this.#applied
  }

  get firstIndex(): Index {
    const snapshot = this.unstable.snapshot
    return snapshot === undefined ? this.#view.firstIndex() : snapshot.metadata.index + 1
  }

  get lastIndex(): Index {
    return this.unstable.lastIndex() ?? this.#view.lastIndex()
  }

  /** The last entry's place. */
  get last(): EntryId {
    const index = this.lastIndex
    const term = this.term(index)
    assert(typeof term === 'number', `the term of the last entry ${index} is unknown`)
    return { index, term }
  }

  term(index: Index): Term | LogGap {
    const unstable = this.unstable.term(index)
    if (unstable !== undefined) return unstable
    if (index + 1 < this.firstIndex) return 'compacted'
    if (index > this.lastIndex) return 'unavailable'
    return this.#view.term(index)
  }

  /** The term of an entry, 0 where there is none. */
  termOrZero(index: Index): Term {
    const term = this.term(index)
    return typeof term === 'number' ? term : 0
  }

  matches(id: EntryId): boolean {
    return this.term(id.index) === id.term
  }

  /** Whether a log that ends at `other` is at least as new as this one (Raft §5.4.1). */
  isUpToDate(other: EntryId): boolean {
    const last = this.last
    return other.term > last.term || (other.term === last.term && other.index >= last.index)
  }

  /** Entries from `low` on, as many as fit (at least one if there is one). */
  entries(low: Index, maxBytes: number): readonly Entry[] | LogGap {
    const high = this.lastIndex + 1
    return low >= high ? [] : this.slice(low, high, maxBytes)
  }

  /** Entries [low, high), at least one, then as many as fit. */
  slice(low: Index, high: Index, maxBytes: number): readonly Entry[] | LogGap {
    assert(low < high && high <= this.lastIndex + 1, `entries [${low}, ${high}) are out of range`)
    if (low < this.firstIndex) return 'compacted'
    const { entrySize } = this.#options
    const offset = this.unstable.offset
    if (low >= offset) return this.#unstablePrefix(low, high, maxBytes)
    const cut = Math.min(high, offset)
    const stable = this.#view.entries(low, cut, maxBytes)
    if (typeof stable === 'string' || high <= offset || stable.length < cut - low) return stable
    const room = maxBytes - totalBytes(stable, entrySize)
    if (room < entrySize(this.unstable.entry(offset))) return stable
    return [...stable, ...this.#unstablePrefix(offset, high, room)]
  }

  /** The newest snapshot. */
  snapshot(): Snapshot | 'unavailable' {
    return this.unstable.snapshot ?? this.#view.snapshot()
  }

  /**
   * Follower: puts `entries` behind `previous` and commits up to `commit`. Returns the last index
   * known to match, or `undefined` when `previous` is not in the log.
   */
  maybeAppend(previous: EntryId, entries: readonly Entry[], commit: Index): Index | undefined {
    if (!this.matches(previous)) return undefined
    const last = previous.index + entries.length
    const conflict = this.#findConflict(entries)
    if (conflict !== undefined) {
      assert(conflict > this.#committed, `entry ${conflict} conflicts with a committed entry`)
      this.append(entries.slice(conflict - previous.index - 1))
    }
    this.commitTo(Math.min(commit, last))
    return last
  }

  append(entries: readonly Entry[]): void {
    if (entries.length === 0) return
    assert(at(entries, 0).index > this.#committed, 'an append would replace committed entries')
    this.unstable.truncateAndAppend(entries)
  }

  /**
   * The highest index up to `index` whose term is at most `term`: whoever has `term` at `index`
   * cannot match behind it. With the term there, 0 if it is unknown.
   */
  findConflictByTerm(index: Index, term: Term): EntryId {
    for (let candidate = index; candidate > 0; candidate -= 1) {
      const own = this.term(candidate)
      if (typeof own !== 'number') return { index: candidate, term: 0 }
      if (own <= term) return { index: candidate, term: own }
    }
    return { index: 0, term: 0 }
  }

  commitTo(index: Index): void {
    if (index <= this.#committed) return
    assert(
      index <= this.lastIndex,
      `commit index ${index} is behind the last entry ${this.lastIndex}: the log was lost or damaged`,
    )
    this.#committed = index
  }

  /** Leader: commits `id` if it is news and of that term (Raft §5.4.2). Returns whether it did. */
  maybeCommit(id: EntryId): boolean {
    if (id.term === 0 || id.index <= this.#committed || !this.matches(id)) return false
    this.commitTo(id.index)
    return true
  }

  /** The log begins anew after `snapshot`, which is committed. */
  restore(snapshot: Snapshot): void {
    const { index, term } = snapshot.metadata
    this.#options.tell({
      type: 'logRestoring',
      snapshot: { index, term },
      committed: this.#committed,
      applied: this.#applied,
      applying: this.#applying,
      offset: this.unstable.offset,
      offsetInProgress: this.unstable.offsetInProgress,
      unstableLength: this.unstable.length,
    })
    this.#committed = index
    this.unstable.restore(snapshot)
  }

  get hasNextCommitted(): boolean {
    if (this.#applyingPaused || this.unstable.snapshot !== undefined) return false
    return this.#applying < this.#maxAppliable
  }

  /** Committed entries to hand out now. */
  nextCommitted(): readonly Entry[] {
    if (!this.hasNextCommitted) return []
    const room = this.#options.maxApplyingBytes - this.#applyingBytes
    const entries = this.slice(this.#applying + 1, this.#maxAppliable + 1, room)
    assert(typeof entries !== 'string', `entry ${this.#applying + 1} is committed but not readable`)
    return entries
  }

  /** Entries up to `index` of `bytes` were handed out. */
  acceptApplying(index: Index, bytes: number): void {
    assert(index <= this.#committed, `entry ${index} was handed out before its commit`)
    this.#applying = index
    this.#applyingBytes += bytes
    this.#applyingPaused =
      this.#applyingBytes >= this.#options.maxApplyingBytes || index < this.#maxAppliable
  }

  /** Entries up to `index` are applied; `bytes` of what was handed out. */
  appliedTo(index: Index, bytes: number): void {
    assert(
      index <= this.#committed && index >= this.#applied,
      `applied ${index} is outside [${this.#applied}, ${this.#committed}]`,
    )
    this.#applied = index
    this.#applying = Math.max(this.#applying, index)
    this.#applyingBytes = Math.max(0, this.#applyingBytes - bytes)
    this.#applyingPaused = this.#applyingBytes >= this.#options.maxApplyingBytes
  }

  /** Whether an entry in (after, to] is a configuration change. All of them must be readable. */
  changesConf(after: Index, to: Index): boolean {
    let low = after + 1
    while (low <= to) {
      const page = this.slice(low, to + 1, SCAN_PAGE_BYTES)
      assert(typeof page !== 'string', `entry ${low} is not applied but not readable`)
      if (page.some(({ type }) => isConfChange(type))) return true
      low += page.length
    }
    return false
  }

  get #maxAppliable(): Index {
    return this.#options.applyUnstable
      ? this.#committed
      : Math.min(this.#committed, this.unstable.offset - 1)
  }

  /** Unstable entries [low, high), at least one, then as many as fit in `maxBytes`. */
  #unstablePrefix(low: Index, high: Index, maxBytes: number): readonly Entry[] {
    const { entrySize } = this.#options
    let bytes = entrySize(this.unstable.entry(low))
    let end = low + 1
    for (; end < high; end += 1) {
      bytes += entrySize(this.unstable.entry(end))
      if (bytes > maxBytes) break
    }
    return this.unstable.slice(low, end)
  }

  #findConflict(entries: readonly Entry[]): Index | undefined {
    for (const { index, term } of entries) {
      if (this.matches({ index, term })) continue
      if (index <= this.lastIndex) {
        this.#options.tell({
          type: 'conflictFound',
          index,
          existingTerm: this.termOrZero(index),
          conflictingTerm: term,
        })
      }
      return index
    }
    return undefined
  }
}

/** Bytes of entries read at a time when entries are searched: bounds the memory used. */
const SCAN_PAGE_BYTES = 1 << 20
