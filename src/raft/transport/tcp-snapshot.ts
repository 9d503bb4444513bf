/**
 * A snapshot on a connection of its own. The sender offers it; the receiver says from which byte on
 * it wants the content, or at once that it has all; then content and end; then the answer. Both
 * sides hold a few chunks at most.
 */
import { SwarmError, errorText } from '../../base/errors.ts'
import { decodeTransferHeader, encodeTransferHeader } from '../runtime/codec.ts'
import type { SnapshotOffer, SnapshotTransfer } from '../runtime/ports.ts'
import type { Connection } from './tcp-connection.ts'
import { FRAME, type FrameKind } from './tcp-frames.ts'

/** Bytes of one frame of content: a whole chunk of the runtime. */
const CHUNK_BYTES_MAX = 512 * 1024
const OFFSET_BYTES = 8
/** Received bytes that wait for the disk; then the sender is made to wait. */
const RECEIVED_BYTES_MAX = 1024 * 1024

/** Sends the content of `transfer`; resolves when the far side has stored it. */
export class OutgoingSnapshot {
  readonly #answer = Promise.withResolvers<void>()
  /** Where the receiver wants the content to begin; `stored` when it wants none. */
  readonly #begin = Promise.withResolvers<number | 'stored'>()

  constructor() {
    this.#answer.promise.catch(() => {}) // Awaited in `send`, perhaps later than it fails.
    this.#begin.promise.catch(() => {})
  }

  onFrame(kind: FrameKind, body: Uint8Array): void {
    if (kind === FRAME.snapshotOffset) this.#begin.resolve(decodeOffset(body))
    else if (kind === FRAME.snapshotStored) {
      this.#begin.resolve('stored')
      this.#answer.resolve()
    } else this.onClose(Buffer.from(body).toString())
  }

  onClose(cause: string): void {
    const error = new SwarmError('UNAVAILABLE', `snapshot: not stored: ${cause}`)
    this.#begin.reject(error)
    this.#answer.reject(error)
  }

  async send(connection: Connection, transfer: SnapshotTransfer): Promise<void> {
    connection.send(FRAME.snapshotHeader, encodeTransferHeader(transfer))
    const offset = await this.#begin.promise
    if (offset === 'stored') return
    for await (const chunk of transfer.read(offset)) {
      for (let start = 0; start < chunk.length; start += CHUNK_BYTES_MAX) {
        const part = chunk.subarray(start, start + CHUNK_BYTES_MAX)
        await Promise.race([connection.drained(), this.#answer.promise])
        connection.send(FRAME.snapshotChunk, part)
      }
    }
    connection.send(FRAME.snapshotEnd, new Uint8Array())
    await this.#answer.promise
  }
}

/** Receives one snapshot and hands it on. */
export class IncomingSnapshot {
  readonly #connection: Connection
  readonly #store: (transfer: SnapshotTransfer) => Promise<void>
  readonly #chunks: Uint8Array[] = []
  #bytes = 0
  #status: 'new' | 'offered' | 'open' | 'ended' | 'failed' = 'new'
  #wake: PromiseWithResolvers<void> | undefined

  constructor(connection: Connection, store: (transfer: SnapshotTransfer) => Promise<void>) {
    this.#connection = connection
    this.#store = store
  }

  /** @throws INVALID_ARGUMENT when the frame has no place here */
  onFrame(kind: FrameKind, body: Uint8Array): void {
    if (kind === FRAME.snapshotHeader && this.#status === 'new') {
      this.#status = 'offered'
      void this.#run(decodeTransferHeader(new Uint8Array(body)))
    } else if (kind === FRAME.snapshotChunk && this.#status === 'open') {
      this.#chunks.push(new Uint8Array(body))
      this.#bytes += body.length
      if (this.#bytes > RECEIVED_BYTES_MAX) this.#connection.pause(true)
    } else if (kind === FRAME.snapshotEnd && this.#status === 'open') this.#status = 'ended'
    else throw new SwarmError('INVALID_ARGUMENT', 'snapshot: unexpected frame')
    this.#wake?.resolve()
  }

  onClose(): void {
    if (this.#status !== 'ended') this.#status = 'failed'
    this.#wake?.resolve()
  }

  async #run(offer: SnapshotOffer): Promise<void> {
    try {
      await this.#store({ ...offer, read: (offset) => this.#read(offset) })
      this.#connection.send(FRAME.snapshotStored, new Uint8Array())
    } catch (error) {
      this.#connection.send(FRAME.snapshotFailed, Buffer.from(errorText(error)))
    }
    this.#connection.end()
  }

  async *#read(offset: number): AsyncGenerator<Uint8Array> {
    if (this.#status === 'offered') {
      this.#status = 'open'
      this.#connection.send(FRAME.snapshotOffset, encodeOffset(offset))
    }
    for (;;) {
      const chunk = this.#chunks.shift()
      if (chunk !== undefined) {
        this.#bytes -= chunk.length
        if (this.#bytes <= RECEIVED_BYTES_MAX / 2) this.#connection.pause(false)
        yield chunk
      } else if (this.#status === 'open') {
        this.#wake = Promise.withResolvers<void>()
        await this.#wake.promise
      } else break
    }
    if (this.#status === 'ended') return
    throw new SwarmError('UNAVAILABLE', 'snapshot: the connection broke')
  }
}

function encodeOffset(offset: number): Uint8Array {
  const body = new Uint8Array(OFFSET_BYTES)
  new DataView(body.buffer).setBigUint64(0, BigInt(offset))
  return body
}

/** @throws INVALID_ARGUMENT */
function decodeOffset(body: Uint8Array): number {
  if (body.length !== OFFSET_BYTES) {
    throw new SwarmError('INVALID_ARGUMENT', 'snapshot: malformed offset')
  }
  return Number(new DataView(body.buffer, body.byteOffset).getBigUint64(0))
}
