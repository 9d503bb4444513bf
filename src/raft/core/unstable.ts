/**
 * The tail of the log that is not known to be durable: a snapshot to install, entries to write, and
 * how much of both is being written.
 *
 *      entries[0]        offsetInProgress
 *      = offset            v
 *   ---|===================|............|
 *      being written         to be written
 *
 * Invariants: offset <= offsetInProgress <= offset + entries.length; the list itself never leaves
 * this class, only copies of parts, since a storage thread may still be reading them.
 * Source: etcd-io/raft `log_unstable.go`, in its semantics.
 */
import { assert, at } from '../../base/assert.ts'
import type { LogEvent } from './core-event.ts'
import type { Entry, EntryId, Index, Snapshot, Term } from './entry.ts'

/** Entries and a snapshot on their way to the disk. */
export class Unstable {
  readonly #tell: (event: LogEvent) => void
  #snapshot: Snapshot | undefined
  #snapshotInProgress = false
  #entries: Entry[] = []
  /** Index of `#entries[0]`, or where it would be. */
  #offset: Index
  /** First index that is not being written yet. */
  #offsetInProgress: Index

  constructor(offset: Index, tell: (event: LogEvent) => void) {
    this.#tell = tell
    this.#offset = offset
    this.#offsetInProgress = offset
  }

  get offset(): Index {
    return this.#offset
  }

  get offsetInProgress(): Index {
    return this.#offsetInProgress
  }

  get length(): number {
    return this.#entries.length
  }

  get snapshot(): Snapshot | undefined {
    return this.#snapshot
  }

  /** The snapshot, unless it is being written already. */
  get nextSnapshot(): Snapshot | undefined {
    return this.#snapshotInProgress ? undefined : this.#snapshot
  }

  get hasNextEntries(): boolean {
    return this.#offsetInProgress < this.#offset + this.#entries.length
  }

  /** Entries that nobody writes yet. */
  nextEntries(): readonly Entry[] {
    return this.hasNextEntries ? this.#entries.slice(this.#offsetInProgress - this.#offset) : []
  }

  lastIndex(): Index | undefined {
    if (this.#entries.length > 0) return this.#offset + this.#entries.length - 1
    return this.#snapshot?.metadata.index
  }

  term(index: Index): Term | undefined {
    if (index >= this.#offset) return this.#entries[index - this.#offset]?.term
    const metadata = this.#snapshot?.metadata
    return metadata?.index === index ? metadata.term : undefined
  }

  /** The entry at `index`, which must be here. */
  entry(index: Index): Entry {
    return at(this.#entries, index - this.#offset)
  }

  /** A copy of entries [low, high), all of which must be here. */
  slice(low: Index, high: Index): Entry[] {
    assert(
      low >= this.#offset && high <= this.#offset + this.#entries.length && low <= high,
      `entries [${low}, ${high}) are not in the unstable log`,
    )
    return this.#entries.slice(low - this.#offset, high - this.#offset)
  }

  /** Everything here is being written from now on. */
  acceptInProgress(): void {
    this.#offsetInProgress = this.#offset + this.#entries.length
    this.#snapshotInProgress = this.#snapshot !== undefined
  }

  /**
   * Entries up to `id` are durable. Ignored when the entry there is no longer the one that was
   * written: the tail was replaced meanwhile (reference/raft.md bug 12).
   */
  stableTo(id: EntryId): void {
    const term = this.term(id.index)
    if (term === undefined) return this.#ignoreStable(id, 'missing', 0)
    if (id.index < this.#offset) return this.#ignoreStable(id, 'snapshot', term)
    if (term !== id.term) return this.#ignoreStable(id, 'mismatch', term)
    this.#entries = this.#entries.slice(id.index + 1 - this.#offset)
    this.#offset = id.index + 1
    this.#offsetInProgress = Math.max(this.#offsetInProgress, this.#offset)
    return undefined
  }

  stableSnapshotTo(index: Index): void {
    if (this.#snapshot?.metadata.index !== index) return
    this.#snapshot = undefined
    this.#snapshotInProgress = false
  }

  /** The log begins anew after `snapshot`. */
  restore(snapshot: Snapshot): void {
    this.#offset = snapshot.metadata.index + 1
    this.#offsetInProgress = this.#offset
    this.#entries = []
    this.#snapshot = snapshot
    this.#snapshotInProgress = false
  }

  /** Puts `entries` (at least one) in their place; what stood there and behind is dropped. */
  truncateAndAppend(entries: readonly Entry[]): void {
    const from = at(entries, 0).index
    if (from === this.#offset + this.#entries.length) {
      for (const entry of entries) this.#entries.push(entry)
      return
    }
    if (from <= this.#offset) {
      this.#tell({ type: 'unstableReplaced', from })
      this.#entries = [...entries]
      this.#offset = from
      this.#offsetInProgress = from
      return
    }
    this.#tell({ type: 'unstableTruncated', from })
    this.#entries = [...this.slice(this.#offset, from), ...entries]
    this.#offsetInProgress = Math.min(this.#offsetInProgress, from)
  }

  #ignoreStable(id: EntryId, reason: 'missing' | 'snapshot' | 'mismatch', entryTerm: Term): void {
    this.#tell({ type: 'stableIgnored', reason, id, entryTerm })
  }
}
