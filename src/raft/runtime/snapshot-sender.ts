/**
 * One snapshot on its way to one member, attempt after attempt: each goes on where the receiver
 * says that its part ends. The snapshot is pinned from the first byte to the end of the last
 * attempt, so that a busy leader's newer snapshots do not restart the transfer (NuRaft 118,
 * `reference/raft.md` bug 15). It ends when it has arrived, when nobody wants it any more, or when
 * nothing has moved for `RESUME_WINDOW_MS`; an attempt ends when nothing moves for `STALL_MS`.
 */
import { delay, type Clock } from '../../base/clock.ts'
import { SwarmError, errorText } from '../../base/errors.ts'
import type { Logger } from '../../base/log.ts'
import type { SnapshotRequest } from '../core/message.ts'
import type { SnapshotStore, StoredSnapshot } from '../storage/ports.ts'
import type { ServerId, SnapshotTransfer, Transport } from './ports.ts'
import { contentBytes, encodeChunks } from './snapshot-chunks.ts'
import { StallWatch } from './stall-watch.ts'

/** How long a broken transfer is tried again without any progress; then its snapshot is let go. */
export const RESUME_WINDOW_MS = 60_000
/** An attempt in which nothing moves for so long is given up. */
export const STALL_MS = 30_000
/** Rest before the next attempt; doubled each time, back to the least after progress. */
const RETRY_MIN_MS = 100
const RETRY_MAX_MS = 5_000

/** How far a transfer is. */
export interface TransferProgress {
  /** Content sent by all attempts, whether it arrived or not. */
  readonly sentBytes: number
  /** Up to where the receiver has it, as far as is known. */
  readonly offset: number
  readonly sizeBytes: number
  readonly attempts: number
}

interface SenderComponents {
  readonly clock: Clock
  readonly snapshotStore: SnapshotStore
  readonly transport: Transport
  readonly log: Logger
}

/** What is sent to whom, and who is told. */
export interface SendingSettings {
  readonly to: ServerId
  readonly message: SnapshotRequest
  readonly stored: StoredSnapshot
  readonly signal: AbortSignal
  /** Whether the receiver still needs this very snapshot from this member. */
  readonly isWanted: () => boolean
  readonly onProgress: (phase: 'started' | 'resumed' | 'moved', progress: TransferProgress) => void
}

/** Sends one snapshot. */
export class SnapshotSender {
  readonly #components: SenderComponents
  readonly #settings: SendingSettings
  #sentBytes = 0
  #offset = 0
  #attempts = 0
  #movedMs: number
  #retryMs = RETRY_MIN_MS
  /** Set when this member's own snapshot cannot be read: no attempt will do better. */
  #isUnreadable = false

  constructor(components: SenderComponents, settings: SendingSettings) {
    this.#components = components
    this.#settings = settings
    this.#movedMs = components.clock.monotonicMs()
  }

  get progress(): TransferProgress {
    const { sizeBytes } = this.#settings.stored
    return {
      sentBytes: this.#sentBytes,
      offset: this.#offset,
      sizeBytes,
      attempts: this.#attempts,
    }
  }

  /** Resolves when the receiver has stored the snapshot. @throws the last attempt's error */
  async run(): Promise<void> {
    const { snapshotStore, clock, log } = this.#components
    const { stored, signal, to, isWanted } = this.#settings
    const pin = snapshotStore.pin(stored.id)
    try {
      while (!(await this.#arrives())) {
        log.info({ peer: to, ...this.progress }, 'snapshot transfer broke, will go on')
        await delay(clock, this.#retryMs, signal)
        this.#retryMs = Math.min(2 * this.#retryMs, RETRY_MAX_MS)
        if (!isWanted()) throw new SwarmError('ABORTED', 'snapshot: is not wanted any more')
      }
    } finally {
      await pin.release()
    }
  }

  /** One attempt; false when another may do better. */
  async #arrives(): Promise<boolean> {
    const { clock } = this.#components
    const { signal, to } = this.#settings
    const watch = new StallWatch(clock, signal, {
      limitMs: STALL_MS,
      stalled: () => new SwarmError('TIMED_OUT', `snapshot to server ${to}: nothing moves`),
    })
    this.#attempts += 1
    try {
      await watch.orFails(this.#attempt(watch))
      return true
    } catch (error) {
      if (!this.#mayTryAgain()) throw error
      this.#components.log.debug({ peer: to, err: errorText(error) }, 'snapshot attempt failed')
      return false
    } finally {
      watch.stop()
    }
  }

  #attempt(watch: StallWatch): Promise<void> {
    const { message, stored, to } = this.#settings
    const { metadata, membership, sizeBytes, digest } = stored
    const read = (offset: number): AsyncIterable<Uint8Array> => this.#content(offset, watch)
    const transfer: SnapshotTransfer = { message, metadata, membership, sizeBytes, digest, read }
    return this.#components.transport.sendSnapshot(to, transfer, { signal: watch.signal })
  }

  #mayTryAgain(): boolean {
    const { signal, isWanted } = this.#settings
    const restedMs = this.#components.clock.monotonicMs() - this.#movedMs
    const isOver = this.#isUnreadable || signal.aborted || restedMs >= RESUME_WINDOW_MS
    return !isOver && isWanted()
  }

  async *#content(offset: number, watch: StallWatch): AsyncGenerator<Uint8Array> {
    const { stored, onProgress } = this.#settings
    if (offset > stored.sizeBytes) {
      throw new SwarmError('INVALID_ARGUMENT', `snapshot: ${offset} is beyond its end`)
    }
    this.#offset = offset
    onProgress(this.#attempts > 1 || offset > 0 ? 'resumed' : 'started', this.progress)
    for await (const chunk of encodeChunks(this.#read(offset), offset)) {
      if (watch.signal.aborted) return
      watch.moved()
      this.#movedMs = this.#components.clock.monotonicMs()
      this.#retryMs = RETRY_MIN_MS
      this.#sentBytes += contentBytes(chunk)
      this.#offset += contentBytes(chunk)
      onProgress('moved', this.progress)
      yield chunk
    }
  }

  async *#read(offset: number): AsyncGenerator<Uint8Array> {
    try {
      yield* this.#components.snapshotStore.read(this.#settings.stored.id, offset)
    } catch (error) {
      this.#isUnreadable = true
      throw error
    }
  }
}
