/**
 * A network inside one process, for tests and simulations: links can be cut in one direction or
 * both, messages dropped and delayed. Every batch goes through the codec, so nothing is shared by
 * accident. Order is kept per link; delivery is never synchronous.
 */
import { delay, type Clock } from '../../base/clock.ts'
import { SwarmError } from '../../base/errors.ts'
import type { Message } from '../core/message.ts'
import {
  decodeMessages,
  decodeTransferHeader,
  encodeMessages,
  encodeTransferHeader,
} from './codec.ts'
import type { ServerId, SnapshotTransfer, Transport, TransportHandler } from './ports.ts'

/** Whether a message is lost. */
export type DropRule = (from: ServerId, to: ServerId, message: Message) => boolean

/** The wires between the transports of one process. */
export class MemoryNetwork {
  readonly #clock: Clock
  readonly #handlers = new Map<ServerId, TransportHandler>()
  readonly #cut = new Set<string>()
  #drop: DropRule = () => false
  #snapshotsToBreak = 0
  #chunksBeforeBreak: () => number = () => 0
  #chunksToDamage = 0
  /** Bytes of snapshots that were carried, chunk heads included. */
  snapshotBytes = 0
  /** Time on the wire, milliseconds. */
  latencyMs = 1
  /** Time that each chunk of a snapshot takes, milliseconds. */
  snapshotChunkMs = 0
  /** Messages delivered so far. */
  delivered = 0

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** A transport for the node `id`; it replaces an earlier, closed one. */
  transport(id: ServerId): Transport {
    return new MemoryTransport(this, id)
  }

  /** Nothing passes from `from` to `to` any more. */
  cutOneWay(from: ServerId, to: ServerId): void {
    this.#cut.add(linkName(from, to))
  }

  /** Nothing passes between any of `left` and any of `right`. */
  cut(left: readonly ServerId[], right: readonly ServerId[]): void {
    for (const a of left) {
      for (const b of right) {
        this.cutOneWay(a, b)
        this.cutOneWay(b, a)
      }
    }
  }

  /** Everything passes again. */
  heal(): void {
    this.#cut.clear()
    this.#drop = () => false
  }

  /** Loses the messages that `rule` names. */
  drop(rule: DropRule): void {
    this.#drop = rule
  }

  /** The process of `id` ended: every other node sees its connection closed. */
  crash(id: ServerId): void {
    this.#handlers.delete(id)
    for (const handler of this.#handlers.values()) {
      this.#clock.after(this.latencyMs, () => handler.onUnreachable(id, 'closed'))
    }
  }

  /** The connection between two nodes breaks once; both live on. */
  closeLink(a: ServerId, b: ServerId): void {
    this.#handlers.get(a)?.onUnreachable(b, 'closed')
    this.#handlers.get(b)?.onUnreachable(a, 'closed')
  }

  /** The next `count` snapshot transfers break, each after so many chunks. */
  breakSnapshots(count: number, chunks: () => number = () => 0): void {
    this.#snapshotsToBreak = count
    this.#chunksBeforeBreak = chunks
  }

  /** The next `count` chunks of snapshots are damaged on their way. */
  damageChunks(count: number): void {
    this.#chunksToDamage = count
  }

  /** `chunk` as it arrives. */
  carried(chunk: Uint8Array): Uint8Array {
    const arrived = new Uint8Array(chunk)
    this.snapshotBytes += chunk.length
    if (this.#chunksToDamage > 0) {
      this.#chunksToDamage -= 1
      const middle = arrived.length >> 1
      arrived[middle] = (arrived[middle] ?? 0) ^ 1
    }
    return arrived
  }

  async carryChunk(): Promise<void> {
    if (this.snapshotChunkMs > 0) await delay(this.#clock, this.snapshotChunkMs)
  }

  /** Chunks after which the transfer that begins now is to break. */
  takeBreak(): number {
    if (this.#snapshotsToBreak === 0) return Number.POSITIVE_INFINITY
    this.#snapshotsToBreak -= 1
    return this.#chunksBeforeBreak()
  }

  attach(id: ServerId, handler: TransportHandler): void {
    this.#handlers.set(id, handler)
  }

  detach(id: ServerId, handler: TransportHandler | undefined): void {
    if (handler !== undefined && this.#handlers.get(id) === handler) this.#handlers.delete(id)
  }

  isCut(from: ServerId, to: ServerId): boolean {
    return this.#cut.has(linkName(from, to))
  }

  /** The handler at the other end of a link that works. */
  reach(from: ServerId, to: ServerId): TransportHandler | undefined {
    return this.isCut(from, to) ? undefined : this.#handlers.get(to)
  }

  deliver(from: ServerId, to: ServerId, messages: readonly Message[]): void {
    const passing = messages.filter((message) => !this.#drop(from, to, message))
    if (passing.length === 0 || this.isCut(from, to)) return
    const frame = encodeMessages(passing)
    this.#clock.after(this.latencyMs, () => {
      const handler = this.reach(from, to)
      if (handler === undefined) return
      this.delivered += passing.length
      for (const message of decodeMessages(frame)) handler.onMessage(from, message)
    })
  }
}

class MemoryTransport implements Transport {
  readonly #network: MemoryNetwork
  readonly #id: ServerId
  #handler: TransportHandler | undefined

  constructor(network: MemoryNetwork, id: ServerId) {
    this.#network = network
    this.#id = id
  }

  start(handler: TransportHandler): void {
    this.#handler = handler
    this.#network.attach(this.#id, handler)
  }

  send(to: ServerId, messages: readonly Message[]): void {
    if (this.#handler !== undefined) this.#network.deliver(this.#id, to, messages)
  }

  async sendSnapshot(
    to: ServerId,
    transfer: SnapshotTransfer,
    { signal }: { readonly signal: AbortSignal },
  ): Promise<void> {
    const handler = this.#network.reach(this.#id, to)
    if (handler === undefined) throw new SwarmError('UNAVAILABLE', `server ${to}: is unreachable`)
    const offer = decodeTransferHeader(encodeTransferHeader(transfer))
    await handler.onSnapshot(this.#id, {
      ...offer,
      read: (offset) => this.#carry(to, transfer.read(offset), signal),
    })
  }

  async *#carry(
    to: ServerId,
    source: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    let chunksLeft = this.#network.takeBreak()
    for await (const chunk of source) {
      signal.throwIfAborted()
      await this.#network.carryChunk()
      if (chunksLeft <= 0 || this.#network.reach(this.#id, to) === undefined) {
        throw new SwarmError('UNAVAILABLE', `server ${to}: is unreachable`)
      }
      chunksLeft -= 1
      yield this.#network.carried(chunk)
    }
  }

  async close(): Promise<void> {
    this.#network.detach(this.#id, this.#handler)
    this.#handler = undefined
  }
}

function linkName(from: ServerId, to: ServerId): string {
  return `${from} -> ${to}`
}
