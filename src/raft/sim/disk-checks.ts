/** What must hold for each change of what a disk holds for good. */
import type { HardState, Index, Term } from '../core/entry.ts'
import type { AppendBatch, LogContents } from '../storage/ports.ts'
import type { GlobalLog } from './global-log.ts'
import type { DiskWatch, SimDisk } from './sim-disk.ts'
import type { Verdict } from './verdict.ts'

/** What the disks belong to. */
export interface DiskView {
  /** Entries up to here are durable by the word of the process; 0 when it has none. */
  readonly durableIndex: (disk: SimDisk) => Index
  /** Whether a quorum of the newest configuration holds an entry on other disks. */
  readonly isElsewhere: (disk: SimDisk, index: Index, term: Term) => boolean
}

/** Invariants of disks. */
export class DiskChecks implements DiskWatch {
  readonly #verdict: Verdict
  readonly #log: GlobalLog
  readonly #view: DiskView

  constructor(verdict: Verdict, log: GlobalLog, view: DiskView) {
    this.#verdict = verdict
    this.#log = log
    this.#view = view
  }

  beforeAppend(disk: SimDisk, { entries, hardState }: AppendBatch): void {
    const [first] = entries
    const { id, base, lastIndex } = disk
    this.#verdict.note(disk.lastIndex * 31 + entries.length)
    if (disk.hardState.term === 0 && this.#log.last === 0) this.#log.bootstrap(entries)
    if (first !== undefined) {
      const inside = first.index > base.index && first.index <= lastIndex + 1
      this.#check(inside, `${id} writes entry ${first.index} into (${base.index}, ${lastIndex}]`)
      this.#checkNotYetDurable(disk, first.index)
      this.#checkNothingLost(disk, first.index, (index) => entries[index - first.index]?.term)
      let previous = disk.term(first.index - 1)
      for (const entry of entries) {
        this.#log.see(entry, previous)
        previous = entry.term
      }
    }
    if (hardState === undefined) return
    if (disk.isForced) this.#log.force(disk, entries, hardState.term)
    const newLast = first === undefined ? lastIndex : first.index + entries.length - 1
    this.#checkHardState(disk, hardState, newLast)
  }

  beforeCompact(disk: SimDisk, base: LogContents['base']): void {
    const { id, newestSnapshotIndex } = disk
    const covered = newestSnapshotIndex >= base.index
    this.#check(covered, `${id} compacts to ${base.index}, its snapshot is ${newestSnapshotIndex}`)
    this.#check(disk.term(base.index) === base.term, `${id} compacts to a wrong term`)
    const committed = this.#log.committed(base.index)?.term === base.term
    this.#check(committed, `${id} compacts to ${base.index}, which is not committed`)
  }

  beforeReset(disk: SimDisk, base: LogContents['base'], hardState: HardState): void {
    const { id, snapshots } = disk
    const covered = snapshots.some(
      ({ stored: { metadata } }) => metadata.index === base.index && metadata.term === base.term,
    )
    this.#check(covered, `${id} resets its log to ${base.index} without that snapshot`)
    const committed = this.#log.committed(base.index)?.term === base.term
    this.#check(committed, `${id} resets its log to ${base.index}, which is not committed`)
    this.#checkNothingLost(disk, base.index + 1, () => undefined)
    this.#checkHardState(disk, hardState, base.index)
  }

  broken(what: string): void {
    this.#verdict.fail('storage-contract', what)
  }

  #check(condition: boolean, detail: string): void {
    if (!condition) this.#verdict.fail('storage-contract', detail)
  }

  /**
   * What is written now was not taken for durable before: of several writes to one place the last
   * decides (reference/raft.md bug 12).
   */
  #checkNotYetDurable(disk: SimDisk, first: Index): void {
    const durable = this.#view.durableIndex(disk)
    if (first > durable) return
    const detail = `${disk.id} takes entries up to ${durable} for durable and writes entry ${first}`
    this.#verdict.fail('ack-before-sync', detail)
  }

  /**
   * Committed entries from `from` on stay, or are replaced by themselves; unless they are not
   * needed here: a write that was on its way when a later leader came may be done after others.
   */
  #checkNothingLost(
    disk: SimDisk,
    from: number,
    replacement: (index: number) => number | undefined,
  ): void {
    for (let index = from; index <= disk.lastIndex; index += 1) {
      if (!this.#log.isSafeOn(disk, index)) continue
      const term = disk.term(index)
      if (replacement(index) === term) continue
      if (term !== undefined && this.#view.isElsewhere(disk, index, term)) continue
      this.#verdict.fail('committed-entry-lost', `${disk.id} drops the committed entry ${index}`)
      return
    }
  }

  #checkHardState(disk: SimDisk, next: HardState, lastIndex: number): void {
    const { id, hardState: old } = disk
    this.#verdict.note(next.term * 7 + next.commit)
    if (next.term < old.term) {
      this.#verdict.fail('vote-durability', `${id}: term ${old.term} became ${next.term} on disk`)
    }
    if (next.term === old.term && old.vote !== 0 && next.vote !== old.vote) {
      const votes = `${old.vote} and ${next.vote}`
      this.#verdict.fail('vote-durability', `${id} voted for ${votes} in term ${next.term}`)
    }
    if (next.commit > lastIndex) {
      const detail = `${id}: commit ${next.commit} on disk is beyond the last entry ${lastIndex}`
      this.#verdict.fail('index-order', detail)
    }
    if (next.commit > this.#log.last) {
      const detail = `${id} wrote commit ${next.commit}, only ${this.#log.last} is committed`
      this.#verdict.fail('commit-durability', detail)
    }
  }
}
