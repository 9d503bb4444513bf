/**
 * Snapshots on their way between members. The core says to whom (`snap` messages); the bytes go
 * over a stream of the transport (`snapshot-sender.ts`, `snapshot-receiver.ts`), and the core is
 * told how it ended. The receiver stores the snapshot durably before its core sees the message, so
 * installing it needs nothing from the network any more. While a transfer runs, its snapshot is
 * pinned and the log behind it is held.
 */
import { SwarmError, errorText } from '../../base/errors.ts'
import type { Clock } from '../../base/clock.ts'
import type { Logger } from '../../base/log.ts'
import type { Index, PeerId, SnapshotMetadata } from '../core/entry.ts'
import type { SnapshotRequest } from '../core/message.ts'
import type { SnapshotStore, StoredSnapshot } from '../storage/ports.ts'
import type { CoreStatus } from '../core/status.ts'
import { LogHolds } from './log-holds.ts'
import type { Observation } from './observations.ts'
import type { ServerId, SnapshotTransfer, Transport } from './ports.ts'
import { SnapshotReceiver } from './snapshot-receiver.ts'
import { SnapshotSender } from './snapshot-sender.ts'
import { TransferNews } from './transfer-news.ts'

interface TransferComponents {
  readonly clock: Clock
  readonly snapshotStore: SnapshotStore
  readonly transport: Transport
  readonly log: Logger
}

/** What transfers ask of their owner, and tell it. */
export interface TransferHooks {
  readonly status: () => CoreStatus
  /** The transfer to `peer` has ended. */
  readonly onEnd: (peer: PeerId, ok: boolean) => void
  readonly tell: (observation: Observation) => void
}

/** Sends and receives snapshots. */
export class SnapshotTransfers {
  readonly #components: TransferComponents
  readonly #hooks: TransferHooks
  readonly #receiver: SnapshotReceiver
  /** Receivers of running transfers. */
  readonly #sending = new Set<PeerId>()
  readonly #holds: LogHolds
  readonly #running = new Set<Promise<void>>()
  readonly #abort = new AbortController()

  constructor(components: TransferComponents, hooks: TransferHooks) {
    this.#components = components
    this.#hooks = hooks
    this.#receiver = new SnapshotReceiver(components)
    this.#holds = new LogHolds(components.clock)
  }

  /** The lowest index that a receiver needs the log from; `undefined` when none does. */
  heldIndex(trailing: number): Index | undefined {
    return this.#holds.lowest(this.#hooks.status(), trailing)
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

  /** Stores a snapshot that arrives. @throws UNAVAILABLE, or what storing it throws */
  receive(transfer: SnapshotTransfer): Promise<void> {
    return this.#receiver.receive(transfer)
  }

  /** Ends every transfer. */
  async stop(): Promise<void> {
    this.#abort.abort(new SwarmError('SHUTTING_DOWN', 'raft: is stopping'))
    await Promise.allSettled([...this.#running, this.#receiver.stop()])
  }

  async #send(to: ServerId, message: SnapshotRequest): Promise<void> {
    const stored = await this.find(message.snapshot.metadata)
    const { clock } = this.#components
    const news = new TransferNews(clock, { peer: to, stored }, this.#hooks.tell)
    const sender = new SnapshotSender(this.#components, {
      to,
      message,
      stored,
      signal: this.#abort.signal,
      isWanted: () => this.#isWanted(message),
      onProgress: (phase, progress) => news.onProgress(phase, progress),
    })
    try {
      await sender.run()
      news.tell('finished', sender.progress)
    } catch (error) {
      news.tell('failed', sender.progress)
      throw error
    }
  }

  /** Whether this member leads in the message's term and waits for this snapshot to arrive. */
  #isWanted({ to, term, snapshot }: SnapshotRequest): boolean {
    const { hard, progress } = this.#hooks.status()
    const waitsFor = progress.get(to)?.pendingSnapshot
    return hard.term === term && waitsFor === snapshot.metadata.index
  }

  /** The stored snapshot at a position. @throws NOT_FOUND */
  async find({ index, term }: SnapshotMetadata): Promise<StoredSnapshot> {
    const all = await this.#components.snapshotStore.list()
    const stored = all.find(({ metadata }) => metadata.index === index && metadata.term === term)
    if (stored !== undefined) return stored
    throw new SwarmError('NOT_FOUND', `snapshot ${term}-${index}: is gone`)
  }

  #ended(peer: PeerId, ok: boolean): void {
    this.#sending.delete(peer)
    if (ok) this.#holds.transferred(peer)
    else this.#holds.release(peer)
    if (!this.#abort.signal.aborted) this.#hooks.onEnd(peer, ok)
  }
}
