/**
 * A snapshot on a connection of its own: header, chunks, end; then the answer. Both sides hold a
 * few chunks at most.
 */
import { SwarmError, errorText } from '../../base/errors.ts'
import { decodeTransferHeader, encodeTransferHeader } from '../runtime/codec.ts'
import type { SnapshotTransfer } from '../runtime/ports.ts'
import type { Connection } from './tcp-connection.ts'
import { FRAME, type FrameKind } from './tcp-frames.ts'

/** Bytes of one frame of content. */
const CHUNK_BYTES_MAX = 256 * 1024
/** Received bytes that wait for the disk; then the sender is made to wait. */
const RECEIVED_BYTES_MAX = 1024 * 1024

/** Sends the content of `transfer`; resolves when the far side has stored it. */
export class OutgoingSnapshot {
  readonly #answer = Promise.withResolvers<void>()

  constructor() {
    this.#answer.promise.catch(() => {}) // Awaited in `send`, perhaps later than it fails.
  }

  onFrame(kind: FrameKind, body: Uint8Array): void {
    if (kind === FRAME.snapshotStored) this.#answer.resolve()
    else this.onClose(Buffer.from(body).toString())
  }

  onClose(cause: string): void {
    this.#answer.reject(new SwarmError('UNAVAILABLE', `snapshot: not stored: ${cause}`))
  }

  async send(connection: Connection, transfer: SnapshotTransfer): Promise<void> {
    const { source, ...description } = transfer
    connection.send(FRAME.snapshotHeader, encodeTransferHeader(description))
    for await (const chunk of source) {
      for (let offset = 0; offset < chunk.length; offset += CHUNK_BYTES_MAX) {
        const part = chunk.subarray(offset, offset + CHUNK_BYTES_MAX)
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
  #status: 'new' | 'open' | 'ended' | 'failed' = 'new'
  #wake: PromiseWithResolvers<void> | undefined

  constructor(connection: Connection, store: (transfer: SnapshotTransfer) => Promise<void>) {
    this.#connection = connection
    this.#store = store
  }

  /** @throws INVALID_ARGUMENT when the frame has no place here */
  onFrame(kind: FrameKind, body: Uint8Array): void {
    if (kind === FRAME.snapshotHeader && this.#status === 'new') {
      this.#status = 'open'
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
    if (this.#status === 'open') this.#status = 'failed'
    this.#wake?.resolve()
  }

  async #run(description: Omit<SnapshotTransfer, 'source'>): Promise<void> {
    try {
      await this.#store({ ...description, source: this.#source(description.sizeBytes) })
      this.#connection.send(FRAME.snapshotStored, new Uint8Array())
    } catch (error) {
      this.#connection.send(FRAME.snapshotFailed, Buffer.from(errorText(error)))
    }
    this.#connection.end()
  }

  async *#source(sizeBytes: number): AsyncGenerator<Uint8Array> {
    let received = 0
    for (;;) {
      const chunk = this.#chunks.shift()
      if (chunk !== undefined) {
        received += chunk.length
        this.#bytes -= chunk.length
        if (this.#bytes <= RECEIVED_BYTES_MAX / 2) this.#connection.pause(false)
        yield chunk
      } else if (this.#status === 'open') {
        this.#wake = Promise.withResolvers<void>()
        await this.#wake.promise
      } else break
    }
    if (this.#status === 'ended' && received === sizeBytes) return
    throw new SwarmError('UNAVAILABLE', `snapshot: ${received} bytes came, ${sizeBytes} announced`)
  }
}
