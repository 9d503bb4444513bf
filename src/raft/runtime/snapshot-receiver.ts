/**
 * Takes snapshots that arrive, one at a time: the newest offer wins, since the one before is of a
 * sender that has given up or leads no more. What came of a snapshot stays in the store when its
 * transfer breaks, and the next transfer of the same snapshot (position, members, size, SHA-256 of
 * the content), from whomever, goes on behind it.
 */
import type { Clock } from '../../base/clock.ts'
import { SwarmError } from '../../base/errors.ts'
import type { PartialSink, SnapshotStore } from '../storage/ports.ts'
import { isSameSnapshot } from '../storage/snapshot-generations.ts'
import type { SnapshotTransfer } from './ports.ts'
import { decodeChunks } from './snapshot-chunks.ts'
import { STALL_MS } from './snapshot-sender.ts'
import { StallWatch } from './stall-watch.ts'

interface ReceiverComponents {
  readonly clock: Clock
  readonly snapshotStore: SnapshotStore
}

interface Reception {
  readonly abort: AbortController
  readonly ended: Promise<unknown>
}

/** Receives snapshots. */
export class SnapshotReceiver {
  readonly #components: ReceiverComponents
  #running: Reception | undefined
  #stopped = false

  constructor(components: ReceiverComponents) {
    this.#components = components
  }

  /** Stores a snapshot that arrives. @throws UNAVAILABLE, or what storing it throws */
  async receive(transfer: SnapshotTransfer): Promise<void> {
    while (this.#running !== undefined) {
      await this.#end(this.#running, new SwarmError('UNAVAILABLE', 'snapshot: another one came'))
    }
    if (this.#stopped) throw new SwarmError('SHUTTING_DOWN', 'raft: is stopping')
    const abort = new AbortController()
    const work = this.#store(transfer, abort.signal)
    const running = { abort, ended: Promise.allSettled([work]) }
    this.#running = running
    await work.finally(() => {
      if (this.#running === running) this.#running = undefined
    })
  }

  /** Ends what is being received. */
  async stop(): Promise<void> {
    this.#stopped = true
    if (this.#running === undefined) return
    await this.#end(this.#running, new SwarmError('SHUTTING_DOWN', 'raft: is stopping'))
  }

  async #end({ abort, ended }: Reception, reason: SwarmError): Promise<void> {
    abort.abort(reason)
    await ended
  }

  async #store(transfer: SnapshotTransfer, signal: AbortSignal): Promise<void> {
    const { snapshotStore } = this.#components
    const { metadata, membership, sizeBytes, digest } = transfer
    const identity = { metadata, membership, sizeBytes, digest }
    const all = await snapshotStore.list()
    if (all.some((stored) => isSameSnapshot(stored, identity))) return
    const sink = await snapshotStore.resume(identity)
    try {
      if (sink.offset < sizeBytes) await this.#fill(sink, transfer, signal)
      await sink.commit()
    } finally {
      await sink.suspend()
    }
  }

  async #fill(sink: PartialSink, transfer: SnapshotTransfer, signal: AbortSignal): Promise<void> {
    const watch = new StallWatch(this.#components.clock, signal, {
      limitMs: STALL_MS,
      stalled: () => new SwarmError('TIMED_OUT', 'snapshot: nothing arrives'),
    })
    const { sizeBytes } = transfer
    const { offset } = sink
    const content = decodeChunks(transfer.read(offset), { offset, end: sizeBytes })
    try {
      for (;;) {
        const step = await watch.orFails(content.next())
        if (step.done === true) break
        watch.moved()
        await sink.write(step.value)
      }
    } finally {
      watch.stop()
      // It may wait for what never comes: its transport ends it when it hears of the failure.
      content.return(undefined).catch(() => {})
    }
    if (sink.offset < sizeBytes) {
      const message = `snapshot: ${sink.offset} of ${sizeBytes} bytes arrived`
      throw new SwarmError('UNAVAILABLE', message)
    }
  }
}
