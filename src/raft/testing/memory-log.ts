/**
 * A stable log in memory for tests and scripts: what is put here counts as durable. The snapshot
 * that a far-off follower gets is the caller's to say. Source: etcd-io/raft `storage.go`
 * (`MemoryStorage`).
 */
import { assert, at } from '../../base/assert.ts'
import type { ConfState, Entry, HardState, Index, Snapshot, Term } from '../core/entry.ts'
import { totalBytes, type EntrySize } from '../core/raft-log.ts'
import type { LogView } from '../core/ready.ts'

const NO_CONF: ConfState = {
  voters: [],
  votersOutgoing: [],
  learners: [],
  learnersNext: [],
  autoLeave: false,
}

/** The snapshot of a member that has nothing. */
export const EMPTY_SNAPSHOT: Snapshot = {
  metadata: { index: 0, term: 0, conf: NO_CONF },
  data: new Uint8Array(),
}

/** Entries after a base position. */
export class MemoryLog implements LogView {
  readonly #size: EntrySize
  readonly #newestSnapshot: () => Snapshot
  #hard: HardState = { term: 0, vote: 0, commit: 0 }
  #conf: ConfState = NO_CONF
  #base: { readonly index: Index; readonly term: Term } = { index: 0, term: 0 }
  #entries: Entry[] = []

  /** `newestSnapshot`: asked whenever the core needs one. */
  constructor(size: EntrySize, newestSnapshot: () => Snapshot) {
    this.#size = size
    this.#newestSnapshot = newestSnapshot
  }

  initialState(): { hard: HardState; conf: ConfState } {
    return { hard: this.#hard, conf: this.#conf }
  }

  firstIndex(): Index {
    return this.#base.index + 1
  }

  lastIndex(): Index {
    return this.#base.index + this.#entries.length
  }

  term(index: Index): Term | 'compacted' | 'unavailable' {
    if (index < this.#base.index) return 'compacted'
    if (index === this.#base.index) return this.#base.term
    return this.#entries[index - this.firstIndex()]?.term ?? 'unavailable'
  }

  entries(low: Index, high: Index, maxBytes: number): readonly Entry[] | 'compacted' {
    if (low < this.firstIndex()) return 'compacted'
    assert(high <= this.lastIndex() + 1, `entries up to ${high} are asked for`)
    const all = this.#entries.slice(low - this.firstIndex(), high - this.firstIndex())
    let count = all.length
    while (count > 1 && totalBytes(all.slice(0, count), this.#size) > maxBytes) count -= 1
    return all.slice(0, count)
  }

  snapshot(): Snapshot {
    return this.#newestSnapshot()
  }

  setHardState(hard: HardState): void {
    this.#hard = hard
  }

  /** Begins anew after `snapshot`. */
  install({ metadata: { index, term, conf } }: Snapshot): void {
    this.#base = { index, term }
    this.#conf = conf
    this.#entries = []
  }

  /** Replaces everything from the first of `entries` on. */
  append(entries: readonly Entry[]): void {
    if (entries.length === 0) return
    const position = at(entries, 0).index - this.firstIndex()
    assert(position >= 0 && position <= this.#entries.length, 'an append leaves no gap')
    this.#entries = [...this.#entries.slice(0, position), ...entries]
  }

  /** Drops the entries that `snapshot`, of this log's own state machine, covers. */
  compactTo({ metadata }: Snapshot): void {
    this.compact(metadata.index)
    this.#conf = metadata.conf
  }

  /**
   * Drops entries up to and including `index`; the configuration stays that of the old beginning.
   */
  compact(index: Index): void {
    const term = this.term(index)
    assert(typeof term === 'number', `entry ${index} cannot be compacted to`)
    this.#entries = this.#entries.slice(index - this.#base.index)
    this.#base = { index, term }
  }
}
