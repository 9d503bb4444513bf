/**
 * Takes snapshots of the state machine and compacts the log behind them.
 * - A snapshot stands at the applied index of the moment it was asked for and is written while
 *   later entries are applied; one at a time.
 * - The log is compacted only to a durable snapshot, and never past what a transfer under way still
 *   needs (else the receiver would need the next snapshot at once; NuRaft 118, raft.md bug 15).
 */
import type { Clock } from '../../base/clock.ts'
import { SwarmError, errorText } from '../../base/errors.ts'
import type { Logger } from '../../base/log.ts'
import type { Index, SnapshotMetadata } from '../core/entry.ts'
import type { LogStore, SnapshotSink, SnapshotStore, StoredSnapshot } from '../storage/ports.ts'
import type { LogCache } from './log-cache.ts'
import type { Membership } from './membership.ts'
import { LOG_BYTES_MAX, SNAPSHOT_RETRY_MS, type ResolvedRaftOptions } from './options.ts'
import type { StateMachine } from './ports.ts'

interface KeeperComponents {
  readonly snapshotStore: SnapshotStore
  readonly logStore: LogStore
  readonly stateMachine: StateMachine<unknown>
  readonly cache: LogCache
  readonly clock: Clock
  readonly log: Logger
}

/** What the keeper asks of its owner. */
export interface KeeperHooks {
  /** The state machine's position and who is a member there. */
  readonly position: () => Pick<SnapshotMetadata, 'index' | 'term'> & {
    readonly membership: Membership
  }
  /** Runs a task between two writes to the log. */
  readonly exclusive: (run: () => Promise<void>) => void
  /** The lowest index that a transfer still needs; `undefined` when none runs. */
  readonly heldIndex: () => Index | undefined
  /** Whether the state machine's position is one that a snapshot can stand at. */
  readonly mayTake: () => boolean
  readonly onTaken: (stored: StoredSnapshot) => void
}

/** When snapshots are taken, and what stays of the log behind them. */
export type SnapshotLimits = Pick<
  ResolvedRaftOptions,
  'snapshotThreshold' | 'snapshotThresholdBytes' | 'trailingEntries' | 'trailingBytes'
>

/** Snapshots of this node's state machine. */
export class SnapshotKeeper {
  readonly #components: KeeperComponents
  #limits: SnapshotLimits
  readonly #hooks: KeeperHooks
  /** Newest durable snapshot. */
  #newest: StoredSnapshot | undefined
  /** The one being taken. */
  #taking: Promise<StoredSnapshot> | undefined
  /** Bytes of entries applied since the last snapshot was begun. */
  #bytesSince = 0
  /** After a failure: when the next one may be tried, monotonic milliseconds. */
  #retryAtMs = 0
  #stopped = false

  constructor(
    components: KeeperComponents,
    limits: SnapshotLimits,
    start: { readonly newest: StoredSnapshot | undefined; readonly hooks: KeeperHooks },
  ) {
    this.#components = components
    this.#limits = limits
    this.#newest = start.newest
    this.#hooks = start.hooks
  }

  get newest(): StoredSnapshot | undefined {
    return this.#newest
  }

  /** Other limits from now on. */
  setLimits(limits: SnapshotLimits): void {
    this.#limits = limits
  }

  /**
   * The newest snapshot if it may be sent to any member: one from before the last configuration
   * change may not name its receiver, who would refuse it. Then a new one is begun, and there is
   * none yet.
   */
  sendable(): SnapshotMetadata | undefined {
    const newest = this.#newest?.metadata
    const { membership } = this.#hooks.position()
    if (newest !== undefined && newest.index >= membership.index) return newest
    this.#takeInBackground()
    return undefined
  }

  /** Entries of `bytes` were applied; takes a snapshot when it is time. */
  onApplied(bytes: number): void {
    this.#bytesSince += bytes
    const since = this.#hooks.position().index - (this.#newest?.metadata.index ?? 0)
    const { snapshotThreshold, snapshotThresholdBytes } = this.#limits
    if (since >= snapshotThreshold || this.#bytesSince >= snapshotThresholdBytes) {
      this.#takeInBackground()
    }
  }

  /** Takes a snapshot now, or waits for the one under way. @throws what storing it throws */
  async take(): Promise<StoredSnapshot> {
    if (this.#stopped) throw new SwarmError('SHUTTING_DOWN', 'raft: is stopping')
    if (!this.#hooks.mayTake()) {
      throw new SwarmError('UNAVAILABLE', 'snapshot: a restore is under way; repeat later')
    }
    this.#taking ??= this.#take().finally(() => {
      this.#taking = undefined
    })
    return this.#taking
  }

  /** A restore replaced the state: the log is full of it, and a snapshot makes room. */
  onRestored(): void {
    this.#takeInBackground()
  }

  /** A snapshot from the leader is in force. */
  installed(stored: StoredSnapshot): void {
    this.#newest = stored
    this.#bytesSince = 0
  }

  /** Waits for the snapshot under way, whatever becomes of it. */
  async stop(): Promise<void> {
    this.#stopped = true
    await Promise.allSettled([this.#taking])
  }

  /** Drops log entries that a snapshot covers. To be called when a transfer has ended, too. */
  compact(): void {
    const newest = this.#newest?.metadata
    if (newest === undefined || this.#stopped) return
    const index = this.#compactionIndex(newest.index)
    const { cache, logStore } = this.#components
    if (index < cache.firstIndex()) return
    this.#hooks.exclusive(async () => {
      const term = cache.term(index)
      if (typeof term !== 'number' || index < cache.firstIndex()) return
      await logStore.compact({ index, term, conf: newest.conf })
      cache.compact(index)
    })
  }

  #compactionIndex(snapshotIndex: Index): Index {
    const { cache } = this.#components
    const { trailingEntries, trailingBytes } = this.#limits
    const wanted = Math.max(snapshotIndex - trailingEntries, cache.indexBeforeBytes(trailingBytes))
    const index = Math.min(snapshotIndex, wanted)
    const held = this.#hooks.heldIndex()
    return held === undefined || cache.sizeBytes > LOG_BYTES_MAX ? index : Math.min(index, held)
  }

  #takeInBackground(): void {
    const { clock, log } = this.#components
    if (this.#taking !== undefined || this.#stopped || !this.#hooks.mayTake()) return
    if (clock.monotonicMs() < this.#retryAtMs || this.#hooks.position().index === 0) return
    this.take().catch((error: unknown) => {
      this.#retryAtMs = clock.monotonicMs() + SNAPSHOT_RETRY_MS
      log.error({ err: errorText(error) }, 'snapshot failed, will retry')
    })
  }

  async #take(): Promise<StoredSnapshot> {
    const { index, term, membership } = this.#hooks.position()
    if (index === 0) throw new SwarmError('FAILED_PRECONDITION', 'snapshot: nothing is applied yet')
    if (this.#newest !== undefined && this.#newest.metadata.index === index) return this.#newest
    this.#bytesSince = 0
    const chunks = this.#components.stateMachine.snapshot()[Symbol.asyncIterator]()
    // The first step is taken now, so that a view that is captured lazily is still one of now.
    const first = chunks.next()
    first.catch(() => {}) // Awaited in #write; must not count as unhandled until then.
    const metadata = { index, term, conf: membership.conf }
    const sink = await this.#components.snapshotStore.create(metadata, membership.encode())
    const stored = await this.#write(sink, chunks, first)
    this.#components.log.info({ index, term, sizeBytes: stored.sizeBytes }, 'took a snapshot')
    if (index > (this.#newest?.metadata.index ?? 0)) this.#newest = stored
    this.compact()
    this.#hooks.onTaken(stored)
    return stored
  }

  async #write(
    sink: SnapshotSink,
    chunks: AsyncIterator<Uint8Array>,
    first: Promise<IteratorResult<Uint8Array>>,
  ): Promise<StoredSnapshot> {
    try {
      for (let step = await first; step.done !== true; step = await chunks.next()) {
        await sink.write(step.value)
      }
      return await sink.commit()
    } catch (error) {
      await sink.cancel()
      throw error
    }
  }
}
