/**
 * The disk of one node, which outlives its processes. Two layers: what is synced, and the one
 * write that is on its way (the runtime must never have two). A crash keeps the synced part; the
 * write on its way is lost, kept, or torn, and a torn one is found and cut when the log is opened.
 * A failed write fails for good: whether it reached the disk is open.
 */
import { SwarmError } from '../../base/errors.ts'
import type { Entry, HardState, Index, Term } from '../core/entry.ts'
import { EMPTY_BASE, EMPTY_HARD_STATE } from '../storage/empty-log.ts'
import type {
  AppendBatch,
  LogContents,
  SnapshotIdentity,
  SnapshotPin,
  StoredSnapshot,
} from '../storage/ports.ts'
import { SnapshotPins, isSameSnapshot, newestFirst } from '../storage/snapshot-generations.ts'
import type { Dice } from './dice.ts'
import type { EventLoop } from './event-loop.ts'
import type { Host } from './event.ts'

/** How a disk behaves. */
export interface DiskManners {
  /** Mean time of a durable write, milliseconds. */
  meanWriteMs: number
  /** Chance that an unsynced write is there after a crash. */
  keepUnsynced: number
  /** Chance that one that is not there left a torn record. */
  torn: number
}

/** What the invariants look at before each change of what is synced. */
export interface DiskWatch {
  beforeAppend(disk: SimDisk, batch: AppendBatch): void
  beforeCompact(disk: SimDisk, base: LogContents['base']): void
  beforeReset(disk: SimDisk, base: LogContents['base'], hardState: HardState): void
  broken(what: string): void
}

/** What is written. */
export const WRITE_KINDS = ['append', 'compact', 'reset', 'snapshot'] as const
export type WriteKind = (typeof WRITE_KINDS)[number]

/** A snapshot on disk. */
export interface HeldSnapshot {
  readonly id: string
  readonly stored: StoredSnapshot
  readonly chunks: readonly Uint8Array[]
}

/** No write takes longer than so many times the mean. */
const MEANS_MAX = 4

/** How much faster a calm disk is. */
const CALM = 0.01

interface Write {
  readonly host: Host
  readonly kind: WriteKind
  readonly take: () => void
  readonly entries: number
}

interface DiskParts {
  readonly loop: EventLoop
  readonly dice: Dice
  readonly manners: DiskManners
  readonly watch: DiskWatch
}

/** Durable state of one node. */
export class SimDisk {
  readonly id: string
  readonly #parts: DiskParts
  readonly #writes = new Set<Write>()
  /** Synced entries after `base`. */
  entries: Entry[] = []
  base: LogContents['base'] = EMPTY_BASE
  hardState: HardState = EMPTY_HARD_STATE
  snapshots: readonly HeldSnapshot[] = []
  /** Entries that the last crash left torn. */
  tornEntries = 0
  /** Mean time of a write while the disk is slow; 0 while it is not. */
  slowMeanMs = 0
  #isCalm = false
  /** Called when the next write of a kind has begun. */
  trap: { readonly kind: WriteKind; readonly spring: () => void } | undefined
  /** An operator forces what is here to be what is committed. */
  isForced = false
  /** The next write to the log fails. */
  failNext = false
  #madeSnapshots = 0
  /** Those that the process needs; forgotten with it. */
  #pins = new SnapshotPins()
  /** The snapshot that was received in part, and what is there of it. */
  #partial: { readonly identity: SnapshotIdentity; readonly chunks: Uint8Array[] } | undefined
  /** The host whose write failed: it must not write again. */
  #failedHost: Host | undefined

  constructor(id: string, parts: DiskParts) {
    this.id = id
    this.#parts = parts
  }

  get lastIndex(): Index {
    return this.base.index + this.entries.length
  }

  /** Term of a synced entry, `undefined` where there is none any more or yet. */
  term(index: Index): Term | undefined {
    if (index === this.base.index) return this.base.term
    return this.entries[index - this.base.index - 1]?.term
  }

  /** Whether an entry is safe here, in the log or in a snapshot. */
  holds(index: Index, term: Term): boolean {
    return index <= this.base.index || this.term(index) === term
  }

  get newestSnapshotIndex(): Index {
    return this.snapshots[0]?.stored.metadata.index ?? 0
  }

  append(host: Host, batch: AppendBatch): Promise<void> {
    return this.#write(host, {
      kind: 'append',
      entries: batch.entries.length,
      take: () => {
        this.#parts.watch.beforeAppend(this, batch)
        const first = batch.entries[0]
        if (first !== undefined) {
          this.entries.length = Math.max(0, first.index - this.base.index - 1)
          for (const entry of batch.entries) this.entries.push(entry)
        }
        this.hardState = batch.hardState ?? this.hardState
      },
    })
  }

  compact(host: Host, base: LogContents['base']): Promise<void> {
    return this.#write(host, {
      kind: 'compact',
      entries: 0,
      take: () => {
        if (base.index <= this.base.index) return
        this.#parts.watch.beforeCompact(this, base)
        this.entries.splice(0, base.index - this.base.index)
        this.base = base
      },
    })
  }

  reset(host: Host, base: LogContents['base'], hardState: HardState): Promise<void> {
    return this.#write(host, {
      kind: 'reset',
      entries: 0,
      take: () => {
        this.#parts.watch.beforeReset(this, base, hardState)
        this.entries = []
        this.base = base
        this.hardState = hardState
      },
    })
  }

  /** Puts a finished snapshot where `list` finds it; keeps two generations. */
  keepSnapshot(
    host: Host,
    content: SnapshotIdentity,
    chunks: readonly Uint8Array[],
  ): Promise<StoredSnapshot> {
    this.#madeSnapshots += 1
    const { index, term } = content.metadata
    const id = `${term}-${index}-${this.#madeSnapshots}`
    const stored = { ...content, id }
    const take = (): void => {
      const all = [{ id, stored, chunks }, ...this.snapshots]
      this.snapshots = all.toSorted((a, b) => newestFirst(a.stored, b.stored))
      this.#reap()
    }
    return this.#later({ host, kind: 'snapshot', entries: 0, take }).then(() => stored)
  }

  /** Keeps a snapshot until it is released, or the process ends. */
  pin(id: string): SnapshotPin {
    const pins = this.#pins
    pins.add(id)
    let isHeld = true
    return {
      release: async () => {
        const wasHeld = isHeld
        isHeld = false
        if (wasHeld && pins.remove(id) && pins === this.#pins) this.#reap()
      },
    }
  }

  /** What is there of a snapshot, to be added to; another's part is gone with it. */
  takeUpPartial(identity: SnapshotIdentity): Uint8Array[] {
    const known = this.#partial
    if (known !== undefined && isSameSnapshot(known.identity, identity)) return known.chunks
    const chunks: Uint8Array[] = []
    this.#partial = { identity, chunks }
    return chunks
  }

  dropPartial(): void {
    this.#partial = undefined
  }

  /** From now on the disk is fast and whole. */
  calm(): void {
    this.slowMeanMs = 0
    this.#isCalm = true
    this.trap = undefined
    this.failNext = false
  }

  /** Whether a write of this process failed. */
  hasFailed(host: Host): boolean {
    return this.#failedHost === host
  }

  /** The process has ended; what was on its way to the disk is settled by chance. */
  crash(): void {
    const { dice, manners } = this.#parts
    this.tornEntries = 0
    for (const write of this.#writes) {
      if (dice.chance(manners.keepUnsynced)) write.take()
      else if (dice.chance(manners.torn)) this.tornEntries += write.entries
    }
    this.#writes.clear()
    this.#crashPartial()
    this.failNext = false
    this.#failedHost = undefined
  }

  /** Nothing of a partial snapshot was synced: any beginning of it may be there. */
  #crashPartial(): void {
    const { dice } = this.#parts
    this.#pins = new SnapshotPins()
    this.#reap()
    const partial = this.#partial
    if (partial === undefined || partial.chunks.length === 0) return
    const count = dice.integer(0, partial.chunks.length)
    this.#partial = { ...partial, chunks: partial.chunks.slice(0, count) }
  }

  #reap(): void {
    const surplus = this.#pins.surplus(this.snapshots)
    this.snapshots = this.snapshots.filter((each) => !surplus.includes(each))
  }

  #write(host: Host, write: Omit<Write, 'host'>): Promise<void> {
    const { watch, dice } = this.#parts
    if ([...this.#writes].some(({ kind }) => kind !== 'snapshot')) {
      watch.broken(`${this.id} writes to its log while another write is on its way`)
    }
    if (this.#failedHost === host) watch.broken(`${this.id} writes after a failed write`)
    if (this.failNext) {
      this.failNext = false
      this.#failedHost = host
      return this.#fail(host, dice.chance(0.5) ? write.take : undefined)
    }
    return this.#later({ host, ...write })
  }

  /** The write may be there all the same. */
  async #fail(host: Host, take?: () => void): Promise<void> {
    await this.#rest(host, take)
    throw new SwarmError('INTERNAL', 'raft log: the simulated disk failed')
  }

  async #later(write: Write): Promise<void> {
    this.#writes.add(write)
    if (this.trap?.kind === write.kind) {
      const { spring } = this.trap
      this.trap = undefined
      spring()
    }
    await this.#rest(write.host, () => {
      this.#writes.delete(write)
      write.take()
    })
  }

  /** Resolves after the time of a write; never, when the host dies before. */
  #rest(host: Host, done = (): void => {}): Promise<void> {
    const { loop, dice, manners } = this.#parts
    const usualMs = this.#isCalm ? manners.meanWriteMs * CALM : manners.meanWriteMs
    const meanMs = Math.max(usualMs, this.slowMeanMs)
    const delayMs = Math.min(dice.exponential(meanMs), MEANS_MAX * meanMs)
    const { promise, resolve } = Promise.withResolvers<void>()
    loop.after(delayMs, 'disk', {
      host,
      run: () => {
        done()
        resolve()
      },
    })
    return promise
  }
}
