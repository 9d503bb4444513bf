/**
 * The append thread of the core: one durable write in flight and one forming. Everything that
 * gathers during a write goes into the next one (group commit), and the answers that depend on
 * durability leave when their write is done, in order. A failed write is fatal: never guess
 * (raft.md bug 13).
 *
 * A commit index alone does not need its own write (Raft recovers it): it rides with the next one,
 * or goes alone after `COMMIT_WRITE_DELAY_MS` of rest, so that a lone node after a cold boot knows
 * it.
 */
import type { Clock, Timer } from '../../base/clock.ts'
import type { Entry, HardState, SnapshotMetadata } from '../core/entry.ts'
import type { Message, StorageAppend } from '../core/message.ts'
import type { LogStore } from '../storage/ports.ts'
import type { LogCache } from './log-cache.ts'
import { COMMIT_WRITE_DELAY_MS } from './options.ts'

interface WriterComponents {
  readonly logStore: LogStore
  readonly cache: LogCache
  readonly clock: Clock
  /** Bytes of entries that one write holds. */
  readonly writeBytes: number
}

/** What the writer tells its owner. */
export interface WriterHooks {
  /** These may leave now. */
  readonly onDurable: (responses: readonly Message[]) => void
  /** Puts a received snapshot in force: log, state machine. */
  readonly install: (metadata: SnapshotMetadata, hardState: HardState) => Promise<void>
  /** No write is in flight any more. */
  readonly onIdle: () => void
  /** The node must stop. */
  readonly onFailure: (error: unknown) => void
}

type Job =
  | { readonly type: 'append'; readonly message: StorageAppend }
  | { readonly type: 'task'; readonly run: () => Promise<void> }

/** Writes to the durable log, one at a time. */
export class AppendWriter {
  readonly #components: WriterComponents
  readonly #hooks: WriterHooks
  #jobs: Job[] = []
  #running: Promise<void> | undefined
  #stopped = false
  #installs = 0
  /** Newest hard state seen. */
  #wanted: HardState
  /** Newest hard state on disk. */
  #written: HardState
  #commitTimer: Timer | undefined

  constructor(components: WriterComponents, hardState: HardState, hooks: WriterHooks) {
    this.#components = components
    this.#hooks = hooks
    this.#wanted = hardState
    this.#written = hardState
  }

  /** Whether a write is in flight. */
  get busy(): boolean {
    return this.#running !== undefined
  }

  /** Whether a received snapshot waits to be put in force. */
  get installing(): boolean {
    return this.#installs > 0
  }

  enqueue(message: StorageAppend): void {
    if (message.snapshot !== undefined) this.#installs += 1
    this.#push({ type: 'append', message })
  }

  /** Runs `run` alone between two writes: for compaction. */
  exclusive(run: () => Promise<void>): void {
    this.#push({ type: 'task', run })
  }

  /** Finishes what is queued, writes the commit index, and stops. */
  async stop(): Promise<void> {
    this.#commitTimer?.cancel()
    await this.#running
    if (!this.#stopped && this.#wanted !== this.#written) this.#writeCommit()
    await this.#running
    this.#stopped = true
  }

  /** Drops everything: the node has failed. */
  abort(): void {
    this.#stopped = true
    this.#jobs = []
    this.#commitTimer?.cancel()
  }

  #push(job: Job): void {
    if (this.#stopped) return
    this.#jobs.push(job)
    this.#running ??= this.#run()
  }

  async #run(): Promise<void> {
    try {
      while (this.#jobs.length > 0 && !this.#stopped) await this.#next()
    } catch (error) {
      this.abort()
      this.#hooks.onFailure(error)
    } finally {
      this.#running = undefined
    }
    if (this.#stopped) return
    this.#armCommitTimer()
    this.#hooks.onIdle()
  }

  async #next(): Promise<void> {
    const [job] = this.#jobs
    if (job?.type === 'task') {
      this.#jobs.shift()
      await job.run()
      return
    }
    if (job?.message.snapshot !== undefined) {
      this.#jobs.shift()
      await this.#install(job.message, job.message.snapshot.metadata)
      return
    }
    const group = this.#takeGroup()
    await this.#write(group)
    this.#hooks.onDurable(group.flatMap(({ responses }) => responses))
  }

  /** The longest run of plain writes at the front that fits in one. */
  #takeGroup(): readonly StorageAppend[] {
    const group: StorageAppend[] = []
    let bytes = 0
    for (const job of this.#jobs) {
      if (job.type === 'task' || job.message.snapshot !== undefined) break
      bytes += job.message.entries.reduce((sum, { data }) => sum + data.length, 0)
      if (group.length > 0 && bytes > this.#components.writeBytes) break
      group.push(job.message)
    }
    this.#jobs = this.#jobs.slice(group.length)
    return group
  }

  async #write(group: readonly StorageAppend[]): Promise<void> {
    const entries = mergeEntries(group)
    for (const { hardState } of group) this.#wanted = hardState ?? this.#wanted
    if (entries.length === 0 && !this.#mustWriteHardState()) return
    const hardState = this.#wanted
    await this.#components.logStore.append({ entries, hardState })
    this.#written = hardState
    this.#components.cache.append(entries)
  }

  async #install(message: StorageAppend, metadata: SnapshotMetadata): Promise<void> {
    const wanted = message.hardState ?? this.#wanted
    // What lies beyond the snapshot is not in the log yet, so it is not committed there either.
    const hardState = { ...wanted, commit: metadata.index }
    await this.#hooks.install(metadata, hardState)
    this.#installs -= 1
    this.#written = hardState
    this.#wanted = { ...wanted, commit: Math.max(wanted.commit, metadata.index) }
    if (message.entries.length > 0) await this.#write([message])
    this.#hooks.onDurable(message.responses)
  }

  #mustWriteHardState(): boolean {
    return this.#wanted.term !== this.#written.term || this.#wanted.vote !== this.#written.vote
  }

  #armCommitTimer(): void {
    if (this.#commitTimer !== undefined) return
    if (this.#wanted.commit === this.#written.commit) return
    this.#commitTimer = this.#components.clock.after(COMMIT_WRITE_DELAY_MS, () => {
      this.#commitTimer = undefined
      if (this.#wanted.commit !== this.#written.commit) this.#writeCommit()
    })
  }

  #writeCommit(): void {
    this.#push({
      type: 'task',
      run: async () => {
        const hardState = this.#wanted
        await this.#components.logStore.append({ entries: [], hardState })
        this.#written = hardState
      },
    })
  }
}

/** Later writes replace earlier entries from their first index on. */
function mergeEntries(group: readonly StorageAppend[]): readonly Entry[] {
  let merged: Entry[] = []
  for (const { entries } of group) {
    const [first] = entries
    const [start] = merged
    if (first === undefined) continue
    if (start === undefined || first.index <= start.index) merged = [...entries]
    else {
      merged.length = Math.min(merged.length, first.index - start.index)
      for (const entry of entries) merged.push(entry)
    }
  }
  return merged
}
