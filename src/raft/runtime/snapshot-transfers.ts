/**
 * Snapshots on their way between members. The core says to whom (`snap` messages); the bytes go
 * over a stream of the transport, and the core is told how it ended. The receiver stores the
 * snapshot durably before its core sees the message, so installing it needs nothing from the
 * network any more. While a transfer runs, the log behind its snapshot is held.
 */
import { SwarmError, errorText } from '../../base/errors.ts'
import type { Clock } from '../../base/clock.ts'
import type { Logger } from '../../base/log.ts'
import type { Index, PeerId, SnapshotMetadata } from '../core/entry.ts'
import type { SnapshotRequest } from '../core/message.ts'
import type { SnapshotSink, SnapshotStore, StoredSnapshot } from '../storage/ports.ts'
import type { CoreStatus } from '../core/status.ts'
import { LogHolds } from './log-holds.ts'
import type { ServerId, SnapshotTransfer, Transport } from './ports.ts'

interface TransferComponents {
  readonly clock: Clock
  readonly snapshotStore: SnapshotStore
  readonly transport: Transport
  readonly log: Logger
}

/** Called when the transfer to `peer` has ended. */
export type TransferEnd = (peer: PeerId, ok: boolean) => void

/** Sends and receives snapshots. */
export class SnapshotTransfers {
  readonly #components: TransferComponents
  readonly #onEnd: TransferEnd
  /** Receivers of running transfers. */
  readonly #sending = new Set<PeerId>()
  readonly #holds: LogHolds
  readonly #running = new Set<Promise<void>>()
  readonly #abort = new AbortController()
  /** Whether a snapshot is being received; one at a time. */
  #receiving = false

  constructor(components: TransferComponents, onEnd: TransferEnd) {
    this.#components = components
    this.#onEnd = onEnd
    this.#holds = new LogHolds(components.clock)
  }

  /** The lowest index that a receiver needs the log from; `undefined` when none does. */
  heldIndex(
    status: Pick<CoreStatus, 'progress' | 'lastIndex'>,
    trailing: number,
  ): Index | undefined {
    return this.#holds.lowest(status, trailing)
  }

  /** Starts a transfer; a second one to the same member is refused. */
  send(to: ServerId, message: SnapshotRequest): void {
    const peer = message.to
    if (this.#abort.signal.aborted || this.#sending.has(peer)) return
    const { metadata } = message.snapshot
    this.#sending.add(peer)
    this.#holds.begin(peer, metadata.index)
    const transfer = this.#send(to, message).then(
      () => this.#ended(peer, true),
      (error: unknown) => {
        const fields = { peer: to, index: metadata.index, err: errorText(error) }
        this.#components.log.warn(fields, 'snapshot transfer failed')
        this.#ended(peer, false)
      },
    )
    this.#running.add(transfer)
    void transfer.finally(() => this.#running.delete(transfer))
  }

  /**
   * Stores a snapshot that arrives.
   * @throws UNAVAILABLE when another is being received, or what storing it throws
   */
  async receive(transfer: SnapshotTransfer): Promise<void> {
    if (this.#receiving) {
      throw new SwarmError('UNAVAILABLE', 'snapshot: another one is being received')
    }
    this.#receiving = true
    try {
      const { metadata, membership } = transfer
      const sink = await this.#components.snapshotStore.create(metadata, membership)
      await this.#fill(sink, transfer)
    } finally {
      this.#receiving = false
    }
  }

  /** Ends every transfer. */
  async stop(): Promise<void> {
    this.#abort.abort(new SwarmError('SHUTTING_DOWN', 'raft: is stopping'))
    await Promise.allSettled(this.#running)
  }

  async #send(to: ServerId, message: SnapshotRequest): Promise<void> {
    const stored = await this.find(message.snapshot.metadata)
    const { snapshotStore, transport } = this.#components
    await transport.sendSnapshot(
      to,
      {
        message,
        metadata: stored.metadata,
        membership: stored.membership,
        sizeBytes: stored.sizeBytes,
        source: snapshotStore.read(stored.id),
      },
      { signal: this.#abort.signal },
    )
  }

  /** The stored snapshot at a position. @throws NOT_FOUND */
  async find({ index, term }: SnapshotMetadata): Promise<StoredSnapshot> {
    const all = await this.#components.snapshotStore.list()
    const stored = all.find(({ metadata }) => metadata.index === index && metadata.term === term)
    if (stored !== undefined) return stored
    throw new SwarmError('NOT_FOUND', `snapshot ${term}-${index}: is gone`)
  }

  async #fill(sink: SnapshotSink, transfer: SnapshotTransfer): Promise<void> {
    try {
      let sizeBytes = 0
      for await (const chunk of transfer.source) {
        sizeBytes += chunk.length
        await sink.write(chunk)
      }
      if (sizeBytes !== transfer.sizeBytes) {
        const message = `snapshot: ${sizeBytes} of ${transfer.sizeBytes} bytes arrived`
        throw new SwarmError('UNAVAILABLE', message)
      }
      await sink.commit()
    } catch (error) {
      await sink.cancel()
      throw error
    }
  }

  #ended(peer: PeerId, ok: boolean): void {
    this.#sending.delete(peer)
    if (ok) this.#holds.transferred(peer)
    else this.#holds.release(peer)
    if (!this.#abort.signal.aborted) this.#onEnd(peer, ok)
  }
}
